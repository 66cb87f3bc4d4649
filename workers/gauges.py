"""A worker's metrics."""

from __future__ import annotations

from collections.abc import Iterable

from common.metrics import REFUSED, Family, Metrics
from common.trouble import Report

#: Seconds between two looks.
LOOK_S = 1.0
#: Upper bounds of the histogram of batches, in frames.
FRAMES = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
WORKER = ("worker",)

FAMILIES = (
    Family("counter", "worker_frames", "Frames that the worker is through with, by outcome.", ("worker", "outcome")),
    Family("histogram", "batch_seconds", "Time of one batch in the model.", WORKER),
    Family("histogram", "batch_frames", "Frames of one batch.", WORKER, FRAMES),
    Family("gauge", "batch_limit_frames", "Most frames of a batch; fewer than configured: memory is short.", WORKER),
    Family("gauge", "worker_held_frames", "Frames in hand: that wait, or are in the model.", WORKER),
    Family("counter", "worker_out_of_memory", "Batches that were halved, since memory did not suffice.", WORKER),
    REFUSED,
)  # fmt: skip


class Gauges:
    """Is told of every batch, looks once a second."""

    def __init__(self, worker: str) -> None:
        self.metrics = Metrics(FAMILIES)
        self._worker, self._next = worker, 0.0
        self._seconds = self.metrics.table("batch_seconds").of(worker)
        self._frames = self.metrics.table("batch_frames").of(worker)

    def batch(self, frames: int, seconds: float) -> None:
        """A batch is through."""
        self._seconds.observe(seconds)
        self._frames.observe(frames)

    def finished(self, frames: int, outcome: str) -> None:
        """The worker no longer has these frames."""
        self.metrics.table("worker_frames").add(frames, self._worker, outcome)

    def look(self, held: int, limit: int, halved: int, troubles: Iterable[Report], now: float) -> None:
        """``limit``: most frames of a batch now; ``halved``: how often that was cut."""
        if now < self._next:
            return
        self._next = now + LOOK_S
        self.metrics.table("worker_held_frames").set(held, self._worker)
        self.metrics.table("batch_limit_frames").set(limit, self._worker)
        self.metrics.table("worker_out_of_memory").set(halved, self._worker)
        self.metrics.trouble(one["name"] for one in troubles)
