"""Where a frame's time goes on its way through the fleet. Pure: time is an argument, in seconds.

No clock is compared across machines: the producer tells how long it had the frame, the worker how long its stages took,
and the sink knows when it heard of the frame, when its result came, when it was decided and when it was written.
"""

from __future__ import annotations

from dataclasses import dataclass

from common.messages import Notice, Result
from sink.ages import Ages
from sink.tally import Tally

#: From the packet's arrival at the producer to the frame's notice at the sink; on the way and queued at the broker;
#: decoded and waiting for its batch at the worker; its share of the batch in the model; waiting for the frames before
#: it; decoded, drawn on, encoded and handed to the outputs; all of it.
STAGES = ("producer", "queue", "batch", "inference", "reorder", "encode", "total")
#: Most frames that are under way.
MAX_FRAMES = 65536


@dataclass(slots=True)
class _Way:
    """One frame; times in seconds of the sink's clock."""

    noticed: float
    producer: float
    answered: float | None = None
    decided: float | None = None


class Stages:
    """Told of what happens to each frame; tells ``tally``."""

    def __init__(self, tally: Tally | None = None) -> None:
        self._tally = tally or Tally()
        self._ways: dict[int, _Way] = {}
        self._ages = {name: Ages(None) for name in STAGES}

    def noticed(self, notice: Notice, now: float) -> None:
        """Frame ``notice.index`` is announced."""
        if notice.count == 1 and notice.fate != "gap" and len(self._ways) < MAX_FRAMES:
            self._ways[notice.index] = _Way(now, notice.seconds)

    def answered(self, result: Result, now: float) -> None:
        """Its result is here."""
        way = self._ways.get(result.index)
        if way is None or way.answered is not None or way.decided is not None:
            return
        way.answered = now
        infer = result.seconds.get("infer", 0.0) * result.batch
        batch = result.seconds.get("decode", 0.0) + result.seconds.get("wait", 0.0)
        self._spent("queue", max(0.0, now - way.noticed - infer - batch), now)
        self._spent("batch", batch, now)
        self._spent("inference", infer, now)

    def decided(self, index: int, now: float) -> None:
        """It is its turn, and it is known what to draw."""
        way = self._ways.get(index)
        if way is not None and way.decided is None:
            way.decided = now

    def written(self, index: int, now: float) -> None:
        """It was handed to the outputs, or is known not to be."""
        way = self._ways.pop(index, None)
        if way is None or way.decided is None:
            return
        self._spent("producer", way.producer, now)
        self._spent("reorder", way.decided - (way.noticed if way.answered is None else way.answered), now)
        self._spent("encode", now - way.decided, now)
        self._spent("total", way.producer + now - way.noticed, now)
        self._tally.resolved(now - way.noticed, now)

    def _spent(self, stage: str, seconds: float, now: float) -> None:
        self._ages[stage].add(seconds)
        self._tally.spent(stage, seconds, now)

    def summary(self) -> dict[str, dict[str, float]]:
        """Stage → ``p50``, ``p95``, ``p99`` in seconds and ``count``, over all frames so far."""
        return {name: ages.summary() for name, ages in self._ages.items() if ages.count}

    def check(self) -> None:
        assert len(self._ways) <= MAX_FRAMES
        for ages in self._ages.values():
            ages.check()
