"""What each worker is doing, as the status line and the metrics tell it. No sockets, no clock."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from common.lately import Mean, Rate

if TYPE_CHECKING:
    from broker.roster import Worker

#: Most workers that are told of one by one, and most models of one.
MAX_WORKERS, MAX_MODELS = 256, 8


class Tally:
    """One worker's batches and frames. ``done``: frames with a result since it was first heard of."""

    def __init__(self) -> None:
        self.done = 0
        self._batches, self._frames = Mean(), Rate()

    def started(self, frames: int, now: float) -> None:
        """A batch has gone into the model."""
        if frames:
            self._batches.add(frames, now)

    def ended(self, frames: int, now: float) -> None:
        """So many frames have their results."""
        if frames:
            self.done += frames
            self._frames.add(frames, now)

    def batch(self, now: float) -> float:
        """Mean frames of a batch lately, 0.0 where there was none."""
        return self._batches.value(now) or 0.0

    def rate(self, now: float) -> float:
        """Frames a second lately."""
        return self._frames.per_second(now)


def shown(workers: Iterable[Worker]) -> list[Worker]:
    """Those that are told of."""
    return list(itertools.islice(workers, MAX_WORKERS))


def pool(workers: Iterable[Worker], now: float) -> list[dict[str, Any]]:
    """For the status line: one entry a worker, at most :data:`MAX_WORKERS`.

    ``beat_age``: seconds since its last word; ``batch``: mean frames of a batch lately; ``fps``: frames done a second
    lately; ``done``: frames done; ``state``: ``working``, ``stuck`` (its batch is overdue) or ``draining``.
    """
    return [
        {
            "name": one.name,
            "device": one.device,
            "models": list(itertools.islice(one.models, MAX_MODELS)),
            "state": "stuck" if one.stuck else "draining" if one.draining else "working",
            "leased": len(one.leases),
            "room": max(0, one.credit),
            "beat_age": round(max(0.0, now - one.seen), 2),
            "batch": round(one.tally.batch(now), 2),
            "fps": round(one.tally.rate(now), 2),
            "done": one.tally.done,
        }
        for one in shown(workers)
    ]
