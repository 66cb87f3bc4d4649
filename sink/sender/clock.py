"""Times of one connection: 0 at its first keyframe, and within each track no time twice. Pure."""

from __future__ import annotations

from fractions import Fraction


class Clock:
    """``bases``: the muxer's unit for each track, in seconds; the picture is track 0."""

    def __init__(self, bases: list[Fraction]) -> None:
        self._bases = bases
        self._origin: Fraction | None = None
        self._last: dict[int, int] = {}
        #: Packets that came before the first keyframe, or in the time before it.
        self.early = 0

    def place(self, track: int, time: Fraction, key: bool) -> int | None:
        """Where to put a packet of ``time`` (seconds of the stream), in the track's unit; None: nowhere."""
        if self._origin is None and track == 0 and key:
            self._origin = time
        if self._origin is None or time < self._origin:
            self.early += 1
            return None
        at = round((time - self._origin) / self._bases[track])
        last = self._last.get(track)
        # Units can be coarse (FLV: 1 ms), and sound may come back to a time that it has had.
        at = at if last is None else max(at, last + 1)
        self._last[track] = at
        return at

    def check(self) -> None:
        assert self._origin is not None or not self._last
        assert all(at >= 0 for at in self._last.values())
