"""The broker's metrics."""

from __future__ import annotations

from collections.abc import Iterable

from broker.dispatch import Dispatcher
from common.metrics import REFUSED, Family, Metrics
from common.trouble import Report

#: Seconds between two looks.
LOOK_S = 1.0

FAMILIES = (
    Family("gauge", "queued_frames", "Frames that wait for a worker."),
    Family("gauge", "queued_bytes", "Payload bytes of the frames that wait for a worker."),
    Family("gauge", "queue_age_seconds", "For how long the frame that is next of any stream has waited, at most."),
    Family("gauge", "stream_queued_frames", "Frames of the stream that wait for a worker.", ("stream",)),
    Family("gauge", "stream_queued_bytes", "Payload bytes of the stream's frames that wait.", ("stream",)),
    Family(
        "gauge", "stream_queue_age_seconds", "For how long the stream's next frame has waited for a worker.",
        ("stream",),
    ),
    Family("gauge", "leased_frames", "Frames that workers have."),
    Family("gauge", "workers", "Workers that are alive."),
    Family("gauge", "streams", "Streams that have sent something lately."),
    Family("gauge", "unserved_frames", "Frames that wait for a model that no live worker serves.", ("model",)),
    Family("counter", "broker_events", "How often each thing happened to frames and workers.", ("kind",)),
    REFUSED,
    Family("gauge", "worker_info", "1; what the worker runs on, and its models.", ("worker", "device", "models")),
    Family("gauge", "worker_beat_age_seconds", "Since the worker's last word; it beats every 0.25 s.", ("worker",)),
    Family("gauge", "worker_leased_frames", "Frames that the worker has.", ("worker",)),
    Family("gauge", "worker_room_frames", "Frames that the worker may be sent now.", ("worker",)),
    Family("gauge", "worker_stuck", "1 while the worker's batch is overdue: it gets no more work.", ("worker",)),
    Family("gauge", "worker_batch_frames", "Mean frames of the worker's batches lately.", ("worker",)),
    Family("counter", "worker_done_frames", "Frames for which the worker has given a result.", ("worker",)),
)  # fmt: skip


class Gauges:
    """Looks at the dispatcher once a second. Workers and streams that are gone leave no labels behind."""

    def __init__(self) -> None:
        self.metrics = Metrics(FAMILIES)
        self._next = 0.0

    def look(self, core: Dispatcher, troubles: Iterable[Report], now: float) -> None:
        if now < self._next:
            return
        self._next = now + LOOK_S
        table = self.metrics.table
        queued, size = core.queued
        table("queued_frames").set(queued)
        table("queued_bytes").set(size)
        table("leased_frames").set(core.leased)
        table("workers").set(core.workers)
        table("streams").set(core.streams)
        depths = core.depths(now)
        table("queue_age_seconds").set(max((age for _, _, age in depths.values()), default=0.0))
        table("stream_queued_frames").put(((name,), one[0]) for name, one in depths.items())
        table("stream_queued_bytes").put(((name,), one[1]) for name, one in depths.items())
        table("stream_queue_age_seconds").put(((name,), one[2]) for name, one in depths.items())
        table("unserved_frames").put(((model,), count) for model, count in core.unserved().items())
        table("broker_events").put(((kind,), count) for kind, count in core.counts.items())
        self.metrics.trouble(one["name"] for one in troubles)
        self._workers(core, now)

    def _workers(self, core: Dispatcher, now: float) -> None:
        table, roster = self.metrics.table, core.roster()
        table("worker_info").put(((one.name, one.device, ",".join(one.models)), 1) for one in roster)
        table("worker_beat_age_seconds").put(((one.name,), max(0.0, now - one.seen)) for one in roster)
        table("worker_leased_frames").put(((one.name,), len(one.leases)) for one in roster)
        table("worker_room_frames").put(((one.name,), max(0, one.credit)) for one in roster)
        table("worker_stuck").put(((one.name,), one.stuck) for one in roster)
        table("worker_batch_frames").put(((one.name,), one.tally.batch(now)) for one in roster)
        table("worker_done_frames").put(((one.name,), one.tally.done) for one in roster)
