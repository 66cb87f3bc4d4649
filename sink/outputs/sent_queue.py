"""What waits to be sent to one address: bounded in packets, bytes and seconds. Pure: no sockets, no clock.

Where there is no room, the oldest are dropped up to the next keyframe, since nothing before it can be shown without
them; where none waits, all that comes before the next one. Every picture that is dropped is counted.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Unit:
    """A packet, ready to be written. ``time`` in seconds of the stream; the picture is track 0."""

    track: int
    time: Fraction
    key: bool
    data: bytes


class SentQueue:
    """``seconds``: from the oldest picture to the newest."""

    def __init__(self, units: int, size: int, seconds: float) -> None:
        self._most_units, self._most_bytes, self._most_seconds = units, size, Fraction(seconds)
        self._units: deque[Unit] = deque()
        self._bytes = 0
        self._newest = Fraction(0)  # time of the last picture taken in
        #: Nothing can be taken in before a keyframe comes.
        self.broken = True
        #: Pictures taken in, taken out, and dropped; packets of sound dropped.
        self.frames = self.taken = self.dropped = self.dropped_sounds = 0
        #: How often there was no room.
        self.overflows = 0
        #: How often one or more pictures in a row were dropped.
        self.gaps = 0
        self._in_gap = False

    def __len__(self) -> int:
        return len(self._units)

    def put(self, unit: Unit) -> None:
        """The next packet. Pictures come in order, sound may be somewhat ahead of them."""
        self.frames += unit.track == 0
        if unit.track == 0 and unit.key:
            self.broken = False
        if self.broken:
            self._drop(unit)
            return
        if unit.track == 0:
            self._in_gap, self._newest = False, unit.time
        self._units.append(unit)
        self._bytes += len(unit.data)
        while self._too_much():
            self.overflows += 1
            self._shed()

    def refuse(self, unit: Unit) -> None:
        """A packet that comes while nobody takes any."""
        self.frames += unit.track == 0
        self._drop(unit)
        self.broken = True

    def take(self) -> Unit | None:
        """The oldest packet."""
        if not self._units:
            return None
        unit = self._units.popleft()
        self._bytes -= len(unit.data)
        self.taken += unit.track == 0
        return unit

    def restart(self, keep: bool) -> None:
        """Another connection follows, which has to begin with a keyframe. ``keep``: with the oldest one that waits."""
        first = next((unit for unit in self._units if unit.track == 0), None)
        if keep and first is not None and first.key:
            return
        if keep:
            self._shed()
        else:
            self._cut(len(self._units), None)
        self.broken = self.broken or not any(unit.track == 0 for unit in self._units)

    def lost(self, frames: int) -> None:
        """So many pictures that were taken out have not been sent after all."""
        self.taken -= frames
        self.dropped += frames
        self._count_gap(frames)

    def _too_much(self) -> bool:
        if len(self._units) > self._most_units or self._bytes > self._most_bytes:
            return True
        first = next((unit.time for unit in self._units if unit.track == 0), None)
        return first is not None and self._newest - first > self._most_seconds

    def _shed(self) -> None:
        """Drop the oldest group of pictures, or what is left of it."""
        pictures = [at for at, unit in enumerate(self._units) if unit.track == 0]
        cut = next((at for at in pictures[1:] if self._units[at].key), None)
        if cut is None:
            self._cut(len(self._units), None)
        else:
            self._cut(cut, self._units[cut].time)

    def _cut(self, at: int, time: Fraction | None) -> None:
        """Drop what is before position ``at``, but not the sound from ``time`` on; all is dropped where that is
        None."""
        kept = []
        for _ in range(at):
            unit = self._units.popleft()
            if unit.track and time is not None and unit.time >= time:
                kept.append(unit)
            else:
                self._bytes -= len(unit.data)
                self._drop(unit)
        self._units.extendleft(reversed(kept))
        self.broken = time is None
        self._in_gap = self._in_gap and self.broken

    def _drop(self, unit: Unit) -> None:
        if unit.track:
            self.dropped_sounds += 1
        else:
            self.dropped += 1
            self._count_gap(1)

    def _count_gap(self, frames: int) -> None:
        self.gaps += frames > 0 and not self._in_gap
        self._in_gap = self._in_gap or frames > 0

    def check(self) -> None:
        """Assert that every picture is in exactly one place, and that the limits hold."""
        assert self.frames == self.taken + self.dropped + sum(unit.track == 0 for unit in self._units)
        assert self._bytes == sum(len(unit.data) for unit in self._units) <= self._most_bytes
        assert len(self._units) <= self._most_units
        pictures = [unit for unit in self._units if unit.track == 0]
        assert not pictures or pictures[-1].time - pictures[0].time <= self._most_seconds
        assert (self.gaps == 0) == (self.dropped == 0)
