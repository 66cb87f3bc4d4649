"""Are these output times possible? What a muxer makes of others ends in a broken file, or in an abort. Pure."""

from __future__ import annotations

from fractions import Fraction

from common.errors import PeerError
from common.messages import Notice

#: Longest step from one frame to the next, beyond the frames of a gap between them, in seconds. Producers repair what
#: is more than an hour.
MAX_STEP_S = 7200
#: Latest time of a frame, in seconds: 136 years, since some cameras count from 1970.
LATEST_S = 2**32


class OutputTimes:
    """Notices of one epoch, in order; ``base`` is the video's time base, in seconds."""

    def __init__(self, base: Fraction) -> None:
        self._base = base
        self._last: int | None = None
        self._reach = 0  # ticks that the last notice's frames take, where more than one

    def take(self, notice: Notice) -> None:
        """Raises PeerError("time") where the notice's times cannot be those of a picture after the last one's."""
        if not 0 <= notice.out * self._base <= LATEST_S:
            raise PeerError("time", f"frame {notice.index} is at {notice.out} ticks of {self._base} s")
        if self._last is not None:
            step = notice.out - self._last
            if step <= 0 or (step - self._reach) * self._base > MAX_STEP_S:
                raise PeerError("time", f"frame {notice.index} comes {step} ticks of {self._base} s after the last one")
        self._last = notice.out
        self._reach = notice.count * max(0, notice.duration) if notice.count > 1 else 0

    def filler(self, out: int) -> None:
        """A placeholder is shown at ``out``. Raises PeerError("time") as :meth:`take`."""
        step = out - self._last if self._last is not None else 1
        if not 0 <= out * self._base <= LATEST_S or step <= 0 or (step - self._reach) * self._base > MAX_STEP_S:
            raise PeerError("time", f"a placeholder at {out} ticks of {self._base} s, the last picture at {self._last}")
        self._last, self._reach = out, 0

    def check(self) -> None:
        assert self._last is None or 0 <= self._last * self._base <= LATEST_S
        assert self._reach >= 0
