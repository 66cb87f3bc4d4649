"""Sound that came after the source was opened again, until it is clear whether new parts begin with it. Pure.

Pictures are decoded when their turn comes, sound would go straight on to the outputs: so it waits here, in link order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

from common.messages import Packet

Sounding = tuple[Packet, bytes]


class Handover:
    """``key`` stands for one opening of the source."""

    def __init__(self) -> None:
        self._held: deque[Sounding | Hashable] = deque()
        self.bytes = 0

    @property
    def waiting(self) -> bool:
        """Whether sound is to be put here."""
        return bool(self._held)

    def change(self, key: Hashable) -> None:
        """What is put from here on belongs to this opening."""
        self._held.append(key)

    def put(self, header: Packet, payload: bytes) -> None:
        assert self._held
        self._held.append((header, payload))
        self.bytes += len(payload)

    def turn(self, key: Hashable) -> list[Sounding]:
        """The picture has come to this opening: its sound so far. That of openings before it is dropped, they have
        shown nothing."""
        sounds: list[Sounding] = []
        reached = False
        while self._held:
            one = self._held[0]
            if not isinstance(one, tuple):
                if reached:
                    break  # another one follows: its sound stays
                reached = one == key
                self._held.popleft()
                continue
            self._held.popleft()
            self.bytes -= len(one[1])
            if reached:
                sounds.append(one)
        return sounds

    def check(self) -> None:
        assert self.bytes == sum(len(one[1]) for one in self._held if isinstance(one, tuple))
        assert not self._held or not isinstance(self._held[0], tuple)
