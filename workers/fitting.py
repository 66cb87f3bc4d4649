"""How many pictures fit into the device's memory at a time. Pure: time is an argument, in seconds.

A batch that runs out of memory is halved, and what then fits is the cap from there on. It is counted in pixels, so that
small pictures are not held back by large ones. After ``patience`` seconds without trouble one batch of twice the size
is tried: what was in the way may have been another program. A trial that fails doubles the patience.
"""

from __future__ import annotations

#: Seconds at the cap before the first trial of twice as much, and the longest wait after trials that failed.
PATIENCE_S, LONGEST_S = 60.0, 3600.0


class Fit:
    """``max_batch``: what is configured, in pictures."""

    def __init__(self, max_batch: int) -> None:
        self._max_batch = max_batch
        #: Pixels of a batch that fit; ``None``: nothing is known to be too much.
        self._cap: int | None = None
        self._patience, self._retry = PATIENCE_S, 0.0
        self._raised = False  # the cap was raised since the last halving
        #: Batches that were halved.
        self.halved = 0
        #: The latest size in pictures that was cut to, while there is a cap.
        self.pictures: int | None = None

    def most(self, pixels: int, now: float) -> int:
        """How many pictures of so many ``pixels`` may go into the model together now; at least one."""
        if self._cap is None:
            return self._max_batch
        cap = self._cap * 2 if now >= self._retry else self._cap
        return max(1, min(self._max_batch, cap // max(1, pixels)))

    def too_large(self, count: int, pixels: int, now: float) -> int:
        """A batch of ``count`` > 1 pictures of ``pixels`` each did not fit → how many are tried next."""
        assert count > 1
        trial = self._cap is not None and count * pixels > self._cap
        if trial or self._raised:
            self._patience = min(LONGEST_S, self._patience * 2)  # more was too much
        self._raised = False
        self.halved += 1
        half = count // 2
        self._cap = half * pixels if self._cap is None else min(self._cap, half * pixels)
        self._retry = now + self._patience
        self.pictures = half
        return half

    def fitted(self, count: int, pixels: int, now: float) -> bool:
        """A batch went through → whether it was a trial, so that more is allowed from here on."""
        if self._cap is None or count * pixels <= self._cap:
            return False
        self._cap, self._retry, self._raised = count * pixels, now + self._patience, True
        self.pictures = count
        if count >= self._max_batch:
            self._cap = self.pictures = None
        return True

    def check(self) -> None:
        assert (self._cap is None) == (self.pictures is None)
        assert self._cap is None or self._cap >= 1
        assert PATIENCE_S <= self._patience <= LONGEST_S
