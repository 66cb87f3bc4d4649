"""Which decoded picture belongs to which announced frame. Pure.

The Notices are the authority, in index order. A picture that was not announced is dropped, an announced one that never
comes is missing. The match key is the link number of the packet that the picture came out of; where the decoder does
not carry that, the pts.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum

#: Announced frames that are remembered ahead of the one that is looked for.
MAX_ANNOUNCED = 65536

Key = tuple[str, int]


class Verdict(Enum):
    MATCH = "match"
    DROP = "drop"  #: the picture is not (or no longer) wanted: look at the next
    MISSING = "missing"  #: the picture belongs to a later frame: the wanted one has none


class Pairing:
    """Announce frames as their Notices arrive, then ask picture by picture."""

    def __init__(self) -> None:
        self._index: OrderedDict[Key, int] = OrderedDict()
        self._newest: int | None = None  # pts of the last announced frame that has one
        self.unannounced = 0

    def announce(self, index: int, pts: int | None, packet: int | None) -> None:
        """Frame ``index`` exists under these keys."""
        self._newest = pts if pts is not None else self._newest
        for key in _keys(pts, packet):
            self._index[key] = index  # a pts that comes again means the newer frame
        while len(self._index) > MAX_ANNOUNCED:
            self._index.popitem(last=False)

    def judge(self, wanted: int, wanted_pts: int | None, pts: int | None, packet: int | None) -> Verdict:
        """What to do with the decoder's next picture while frame ``wanted`` is looked for."""
        if packet is None and pts is not None and pts == wanted_pts:
            return Verdict.MATCH  # pts that come twice are told apart by their order
        index = next((self._index[key] for key in _keys(pts, packet) if key in self._index), None)
        if index is None:
            # Nobody announced it (yet). Later in time than the last one that was: it may still be; else it never will.
            if pts is not None and self._newest is not None and pts > self._newest:
                return Verdict.MISSING
            self.unannounced += 1
            return Verdict.DROP
        if index == wanted:
            return Verdict.MATCH
        if index > wanted:
            return Verdict.MISSING
        self.unannounced += 1
        return Verdict.DROP

    def settled(self, pts: int | None, packet: int | None) -> None:
        """The frame with these keys is done with."""
        for key in _keys(pts, packet):
            self._index.pop(key, None)

    def check(self) -> None:
        assert len(self._index) <= MAX_ANNOUNCED


def _keys(pts: int | None, packet: int | None) -> list[Key]:
    keys: list[Key] = []
    if packet is not None:
        keys.append(("packet", packet))
    if pts is not None:
        keys.append(("pts", pts))
    return keys
