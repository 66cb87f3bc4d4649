"""Which frames the model sees. Pure: time comes in with each frame."""

from __future__ import annotations

from fractions import Fraction


class Sampler:
    """Every ``every``-th frame, and of those at most ``fps`` a second of *stream* time.

    The first frame is always chosen. ``fps`` follows a fixed grid, so that 12.5 of 25 fps is every second frame and
    not now and then every third.
    """

    def __init__(self, every: int = 1, fps: float | None = None) -> None:
        if every < 1 or (fps is not None and fps <= 0):
            raise ValueError("every must be at least 1 and fps more than 0")
        self._every = every
        self._step = None if fps is None else 1 / Fraction(fps).limit_denominator(100_000)
        self._seen = 0
        self._due: Fraction | None = None
        self._last: Fraction | None = None  # time of the frame before

    def wants(self, time: Fraction) -> bool:
        """Whether the frame at ``time`` (seconds) goes to the model. Called once for each frame, in order."""
        turn = self._seen % self._every == 0
        gap = self._step if self._last is None else time - self._last
        self._seen += 1
        self._last = time
        if not turn or self._step is None or gap is None:
            return turn
        # The frame that lies nearest to the slot takes it, so that jitter does no harm.
        if self._due is not None and time < self._due - gap / 2:
            return False
        if self._due is None or time - self._due > self._step:  # first frame, or a hole in the stream: a new grid
            self._due = time
        self._due += self._step
        return True

    def check(self) -> None:
        assert self._seen >= 0
        assert self._due is None or self._step is not None
