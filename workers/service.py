"""The worker's shell: a DEALER to the broker, a PUSH to each sink, the engine's threads behind them."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import deque
from typing import Any

from common import messages as m
from common.config import Fleet
from common.errors import PeerError
from common.lifecycle import Stopper
from common.log import Seldom, always
from common.status import Status
from common.transport import Hub, Poller, Waker, drain
from common.trouble import Troubles, log_troubles, set_away
from common.wire import Reader, encode
from workers.batching import Batcher
from workers.engine import Decoded, Engine, Event, Inferred, Job, Refused, TooLarge, canvas_of
from workers.fitting import Fit
from workers.gauges import Gauges
from workers.model import Model

#: Seconds between two Beats.
BEAT_S = 0.25
#: Seconds between two progress lines.
PROGRESS_S = 0.5
#: After SIGTERM, what is held gets this long, in seconds: a batch of a slow network on a CPU takes some.
GRACE_S = 5.0
#: The same where the broker or the sink is away: the ends repair what little could still be saved.
GRACE_AWAY_S = 1.0
BURST = 64
#: Most bytes of decoded pictures that wait or are in the model (as a batch they are copied once more).
PICTURE_BYTES = 512 * 2**20

#: Messages that arrive within this long of each other, in seconds, are handled together.
SETTLE_S = 0.001

log = logging.getLogger(__name__)


class Worker:
    """Takes work on credit, answers to the sinks, tells the broker."""

    def __init__(
        self, fleet: Fleet, model: Model, device: str, name: str | None, status: Status, stopper: Stopper
    ) -> None:
        self._config, self._model, self._stopper, self._status = fleet.workers, model, stopper, status
        self._device = device
        self._name = name or f"{socket.gethostname()}-{os.getpid()}"
        always(worker=self._name)
        self._gauges = Gauges(self._name)
        self._metrics = self._gauges.metrics
        self._hub = Hub.of(fleet.security, "worker")
        self._broker = self._hub.connect("dealer", fleet.broker.workers, watch=True, to="broker")
        results = self._hub.connect("push", fleet.sink.results, hwm=1024, watch=True, to="sink")
        self._sinks = {fleet.sink.name: results}
        self._waker = Waker()
        self._poller = Poller(self._broker, self._waker, stopper.waker)
        self._read: Reader[m.ToWorker] = Reader(m.ToWorker)
        self._engine = Engine(self._config.model, model, self._waker.wake)
        self._batcher: Batcher[Job] = Batcher(self._config.batch, self._config.wait)
        self._fit = Fit(self._config.batch)
        self._held: dict[tuple[str, int], Job] = {}
        self._undecoded: deque[tuple[Job, bytes]] = deque()  # bounded by the credit
        self._pictures: dict[tuple[str, int], int] = {}  # bytes of those decoded, or being decoded
        self._incarnation = ""
        self._refused = Seldom(log)
        self._troubles = Troubles()
        self._next_beat = self._next_progress = 0.0
        self._drains_since: float | None = None
        self._done = 0
        #: Results that no sink took.
        self._dropped = 0

    def run(self) -> int:
        """Returns the exit code."""
        self._say_ready()
        while True:
            now = time.monotonic()
            self._receive(now)
            for event in self._engine.events():
                self._on_engine(event, now)
            self._start_batch(now)
            if self._stopper.draining and self._drained(now):
                break
            if now >= self._next_beat:
                self._beat(now)
            if now >= self._next_progress:
                self._progress(now)
            self._poller.wait(self._sleep(time.monotonic()), SETTLE_S)
        self._beat(time.monotonic())
        unsent = sum(sink.unsent for sink in self._sinks.values())
        if self._held or unsent:
            text = "left with %d frames in hand, %d results unsent"
            log.warning(text, len(self._held), unsent, extra={"worker": self._name})
        self._status.say("left", worker=self._name, held=len(self._held), unsent=unsent, done=self._done)
        self._hub.close()
        return 0

    def _drained(self, now: float) -> bool:
        """Nothing is in hand any more, or there is no more time for it."""
        if self._drains_since is None:
            self._drains_since, self._next_beat = now, 0.0
        there = self._broker.connected and all(sink.connected for sink in self._sinks.values())
        return not self._held or now > self._drains_since + (GRACE_S if there else GRACE_AWAY_S)

    @property
    def _room(self) -> int:
        return 0 if self._stopper.draining else max(0, self._batcher.capacity - len(self._held))

    def _say_ready(self) -> None:
        models = {self._config.model: self._model.input}
        self._send(m.Ready(worker=self._name, models=models, room=self._room, device=self._device))
        self._status.say("ready", worker=self._name, device=self._device)

    def _beat(self, now: float) -> None:
        self._next_beat = now + BEAT_S
        leases = [lease for incarnation, lease in self._held if incarnation == self._incarnation]
        self._send(
            m.Beat(
                worker=self._name,
                incarnation=self._incarnation,
                leases=leases,
                room=self._room,
                draining=self._stopper.draining,
            )
        )

    def _progress(self, now: float) -> None:
        self._next_progress = now + PROGRESS_S
        set_away(self._troubles, "broker_away", self._broker, "the broker", now)
        for name, sink in self._sinks.items():
            set_away(self._troubles, "sink_away", sink, f"the sink {name!r}", now)
        cut = self._fit.pictures
        text = f"batches are cut to {cut} of {self._config.batch} pictures: memory holds no more"
        self._troubles.set("out_of_memory", cut is not None, now, text, logging.INFO)
        log_troubles(log, self._troubles.said(now), worker=self._name)
        troubles = self._troubles.report(now)
        self._gauges.look(len(self._held), cut or self._config.batch, self._fit.halved, troubles, now)
        self._metrics.tell(self._status, now)
        self._status.say(
            "progress",
            worker=self._name,
            held=len(self._held),
            done=self._done,
            dropped=self._dropped,
            halved=self._fit.halved,
            troubles=troubles,
        )

    def _send(self, message: m.Head) -> None:
        if not self._broker.send(encode(message)):
            self._refused.warn("broker_full", "the broker takes nothing: beats and dones are dropped", logging.INFO)

    def _receive(self, now: float) -> None:
        for parts in drain(self._broker, BURST) if self._poller.ready(self._broker) else ():
            try:
                message, payload = self._read.decode(parts)
            except PeerError as error:
                self._metrics.count("refused", socket="broker", kind=error.kind)
                self._refused.warn(error.kind, f"refused a message of the broker: {error}")
                continue
            if isinstance(message, m.Refused):
                self._broker.refused(message.reason)
                continue
            if isinstance(message, m.Who):
                self._incarnation = message.incarnation
                self._say_ready()
                self._beat(now)
                continue
            self._incarnation = message.incarnation
            job = Job(message, now)
            if job.key in self._held or len(self._held) >= self._batcher.capacity:
                self._refused.warn("over_credit", "the broker sent more than it had credit for")
                continue
            self._held[job.key] = job
            self._undecoded.append((job, bytes(payload)))
        self._decode()

    def _decode(self) -> None:
        """Decode as many as the memory is for; at least one, whatever its size."""
        while self._undecoded:
            job, payload = self._undecoded[0]
            width, height = canvas_of(job.work.frame, self._model.input.width, self._model.input.height)
            size = width * height * 3
            if self._pictures and sum(self._pictures.values()) + size > PICTURE_BYTES:
                return
            self._undecoded.popleft()
            self._pictures[job.key] = size
            self._engine.decode(job, payload)

    def _on_engine(self, event: Event, now: float) -> None:
        if isinstance(event, Decoded):
            job = event.job
            self._batcher.add(job, job.canvas, job.work.attempt > 0, now)
        elif isinstance(event, Refused):
            text = f"a frame's picture cannot be decoded: {event.reason}"
            self._refused.warn("payload", text, worker=self._name, **_frame([event.job]))
            self._finish([event.job], "refused", event.reason)
        elif isinstance(event, TooLarge):
            self._on_too_large(event, now)
        else:
            self._on_inferred(event, now)

    def _on_too_large(self, event: TooLarge, now: float) -> None:
        """Once more, in halves; for the broker the batch just takes longer."""
        jobs, canvas = event.jobs, event.jobs[0].canvas
        half = self._fit.too_large(len(jobs), _pixels(canvas), now)
        text = "out of memory with %d pictures of %dx%d: goes on with %d at a time: %s"
        extra = {"worker": self._name, "kind": "out_of_memory", "count": self._fit.halved}
        log.warning(text, len(jobs), *canvas, half, event.reason[:300], extra=extra)
        self._status.say("out_of_memory", worker=self._name, was=len(jobs), batch=half, reason=event.reason[:300])
        self._batcher.put_back(jobs, canvas, now)
        self._say_started(jobs)

    def _start_batch(self, now: float) -> None:
        if self._engine.busy:
            return
        # Everything that credit can bring is here, or nothing more will come: waiting would be in vain.
        hurry = self._stopper.draining or self._batcher.waiting >= self._batcher.capacity
        jobs = self._batcher.take(now, hurry, lambda canvas: self._fit.most(_pixels(canvas), now))
        if jobs:
            self._say_started(jobs)
            self._engine.infer(jobs)

    def _say_started(self, jobs: list[Job]) -> None:
        leases = _leases(self._current(jobs))
        self._send(m.Started(worker=self._name, incarnation=self._incarnation, leases=leases))

    def _on_inferred(self, event: Inferred, now: float) -> None:
        self._gauges.batch(len(event.jobs), event.seconds)
        if event.error:
            # The sink says it once more, and aloud, of each frame that no other attempt could save.
            self._refused.warn("model", event.error, logging.INFO, worker=self._name, **_frame(event.jobs))
            self._finish(event.jobs, "failed", event.error, event.seconds)
            return
        if self._fit.fitted(len(event.jobs), _pixels(event.jobs[0].canvas), now):
            log.info("batches of %d pictures fit again", len(event.jobs), extra={"worker": self._name})
        reached: list[Job] = []
        missed: list[Job] = []
        for job, found in zip(event.jobs, event.findings, strict=True):
            frame = job.work.frame
            result = m.Result(
                stream=frame.stream,
                epoch=frame.epoch,
                index=frame.index,
                worker=self._name,
                detections=found.detections,
                tags=found.tags,
                seconds={
                    "decode": max(0.0, job.decoded - job.received),
                    "wait": max(0.0, event.started - job.decoded),
                    "infer": event.seconds / len(event.jobs),
                },
                batch=len(event.jobs),
            )
            sink = self._sinks.get(frame.sink)
            (reached if sink is not None and sink.send(encode(result)) else missed).append(job)
        if reached and not self._done:
            self._status.say("working", worker=self._name)
        self._done += len(reached)
        if reached:
            self._finish(reached, "ok", "", event.seconds)
        if missed:
            self._dropped += len(missed)
            text = "a sink takes nothing: its results are dropped"
            self._refused.warn("no_sink", text, worker=self._name, **_frame(missed))
            self._finish(missed, "no_sink", "", event.seconds)

    def _finish(self, jobs: list[Job], outcome: m.Outcome, reason: str, seconds: float = 0.0) -> None:
        self._gauges.finished(len(jobs), outcome)
        for job in jobs:
            self._held.pop(job.key, None)
            self._pictures.pop(job.key, None)
        self._decode()
        self._send(
            m.Done(
                worker=self._name,
                incarnation=self._incarnation,
                leases=_leases(self._current(jobs)),
                outcome=outcome,
                reason=reason,
                seconds=seconds,
                room=self._room,
            )
        )

    def _current(self, jobs: list[Job]) -> list[Job]:
        """Those that this broker leased: another incarnation's numbers mean other frames to it."""
        return [job for job in jobs if job.work.incarnation == self._incarnation]

    def _sleep(self, now: float) -> float:
        wake = self._next_beat
        if not self._engine.busy and (deadline := self._batcher.next_deadline()) is not None:
            wake = min(wake, deadline)
        return max(0.0, wake - now)


def _pixels(canvas: tuple[int, int]) -> int:
    return canvas[0] * canvas[1]


def _frame(jobs: list[Job]) -> dict[str, Any]:
    """For the log: the frame, where it is one."""
    frame = jobs[0].work.frame
    return {"stream": frame.stream, "epoch": frame.epoch, "index": frame.index} if len(jobs) == 1 else {}


def _leases(jobs: list[Job]) -> list[int]:
    return [job.work.lease for job in jobs]
