"""The source's clock, repaired. Pure: no PyAV, no clock.

Each decoded picture gets a strictly increasing output pts in the video track's time base, and every repair is counted
by kind. Sound is shifted by the same offset, so that it stays in sync.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

#: A picture that comes so many seconds before its predecessor, and the next one too, is no jitter: the clock jumped.
JUMP_S = 1.0
#: A picture that comes so many seconds after its predecessor has a wrong time, or the clock jumped. MP4 cannot even
#: write such a pause (32 bits of time-base units: 13 h at 90 kHz, 71 min at 1 MHz).
LEAP_S = 3600.0
#: A file that starts later than this, in seconds, is a cut from a longer stream: its output starts at zero.
LATE_START_S = 10.0


@dataclass(frozen=True, slots=True)
class Stamp:
    """Output pts and duration of one picture, in the track's time base."""

    pts: int
    duration: int


class Timeline:
    """``time_base`` is the video track's, ``rate`` its frame rate if known, ``start`` the container's first time
    (seconds) if known. ``rebase`` moves the start to zero (live sources)."""

    def __init__(
        self, time_base: Fraction, rate: Fraction | None, start: Fraction | None = None, rebase: bool = False
    ) -> None:
        self._base = time_base
        self._tick = max(1, round(1 / (rate * time_base))) if rate else max(1, round(Fraction(1, 25) / time_base))
        self._last: int | None = None
        self._jumps = 0  # pictures in a row that lie far back
        self._leaps = 0  # and far ahead
        self.repairs: Counter[str] = Counter()
        self.offset = Fraction(0)  #: added to every time of every track, in seconds
        if start is not None and (start < 0 or rebase or start > LATE_START_S):
            self.offset = -start
            self.repairs["rebased"] += 1

    def picture(self, pts: int | None, duration: int = 0) -> Stamp:
        """The output stamp of the next picture in presentation order."""
        length = duration if duration > 0 else self._tick
        if pts is None:
            self.repairs["missing_pts"] += 1
            out = 0 if self._last is None else self._last + self._tick
        else:
            out = pts + self.shift(self._base)
        if self._last is None and out < 0:
            self.offset += -out * self._base
            self.repairs["negative_start"] += 1
            out = 0
        if self._last is not None and out <= self._last:
            out = self._later(out, self._last)
        elif self._last is not None and (out - self._last) * self._base > LEAP_S:
            out = self._nearer(out, self._last)
        else:
            self._jumps = self._leaps = 0
        self._last = out
        return Stamp(out, length)

    def _later(self, out: int, last: int) -> int:
        """A time after ``last`` for a picture whose own, ``out``, is not."""
        self._jumps = self._jumps + 1 if (last - out) * self._base > JUMP_S else 0
        if self._jumps < 2:  # jitter, or one wrong time: its successor may be right again
            self.repairs["not_increasing"] += 1
            return last + 1
        # The clock jumped back (two recordings joined, a counter that wrapped): everything from here on moves along.
        self._jumps = 0
        self.repairs["jumped_back"] += 1
        self.offset += (last + self._tick - out) * self._base
        return last + self._tick

    def _nearer(self, out: int, last: int) -> int:
        """A time soon after ``last`` for a picture whose own, ``out``, lies far ahead."""
        self._leaps += 1
        if self._leaps < 2:  # one wrong time
            self.repairs["too_far_ahead"] += 1
        else:
            self._leaps = 0
            self.repairs["jumped_ahead"] += 1
            self.offset -= (out - last - self._tick) * self._base
        return last + self._tick

    def shift(self, time_base: Fraction) -> int:
        """The offset in units of ``time_base``."""
        return round(self.offset / time_base)

    def check(self) -> None:
        assert self._tick >= 1
        assert self._last is None or self._last >= 0
