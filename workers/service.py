"""The worker's shell: a DEALER to the broker, a PUSH to each sink, the engine's threads behind them."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import deque

from common import messages as m
from common.config import Fleet
from common.errors import PeerError
from common.lifecycle import Stopper
from common.log import Seldom
from common.status import Status
from common.transport import Hub, Poller, Waker, drain
from common.wire import Reader, encode
from workers.batching import Batcher
from workers.engine import Decoded, Engine, Event, Inferred, Job, Refused, canvas_of
from workers.model import Model

#: Seconds between two Beats.
BEAT_S = 0.25
#: After SIGTERM, what is held gets this long, in seconds.
GRACE_S = 5.0
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
        self._hub = Hub(fleet.security.insecure)
        self._broker = self._hub.connect("dealer", fleet.broker.workers)
        self._sinks = {fleet.sink.name: self._hub.connect("push", fleet.sink.results, hwm=1024)}
        self._waker = Waker()
        self._poller = Poller(self._broker, self._waker, stopper.waker)
        self._read: Reader[m.ToWorker] = Reader(m.ToWorker)
        self._engine = Engine(self._config.model, model, self._waker.wake)
        self._batcher: Batcher[Job] = Batcher(self._config.batch, self._config.wait)
        self._held: dict[tuple[str, int], Job] = {}
        self._undecoded: deque[tuple[Job, bytes]] = deque()  # bounded by the credit
        self._pictures: dict[tuple[str, int], int] = {}  # bytes of those decoded, or being decoded
        self._incarnation = ""
        self._refused = Seldom(log)
        self._next_beat = 0.0
        self._done = 0

    def run(self) -> int:
        """Returns the exit code."""
        self._say_ready()
        give_up: float | None = None
        while True:
            now = time.monotonic()
            self._receive(now)
            for event in self._engine.events():
                self._on_engine(event, now)
            self._start_batch(now)
            if self._stopper.draining:
                if give_up is None:
                    give_up, self._next_beat = now + GRACE_S, 0.0
                if not self._held or now > give_up:
                    break
            if now >= self._next_beat:
                self._beat(now)
            self._poller.wait(self._sleep(time.monotonic()), SETTLE_S)
        if self._held:
            log.warning("left with %d frames in hand", len(self._held), extra={"worker": self._name})
        self._beat(time.monotonic())
        self._hub.close()
        return 0

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

    def _send(self, message: m.Head) -> None:
        if not self._broker.send(encode(message)):
            self._refused.warn("broker_full", "the broker is away or takes nothing; beats and dones are dropped")

    def _receive(self, now: float) -> None:
        for parts in drain(self._broker, BURST) if self._poller.ready(self._broker) else ():
            try:
                message, payload = self._read.decode(parts)
            except PeerError as error:
                self._refused.warn(error.kind, f"refused a message of the broker: {error}")
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
            self._refused.warn("payload", f"a frame's picture cannot be decoded: {event.reason}", worker=self._name)
            self._finish([event.job], "refused", event.reason)
        else:
            self._on_inferred(event)

    def _start_batch(self, now: float) -> None:
        if self._engine.busy:
            return
        # Everything that credit can bring is here, or nothing more will come: waiting would be in vain.
        hurry = self._stopper.draining or self._batcher.waiting >= self._batcher.capacity
        jobs = self._batcher.take(now, hurry)
        if jobs:
            leases = _leases(self._current(jobs))
            self._send(m.Started(worker=self._name, incarnation=self._incarnation, leases=leases))
            self._engine.infer(jobs)

    def _on_inferred(self, event: Inferred) -> None:
        if event.error:
            # The sink says it once more, and aloud, of each frame that no other attempt could save.
            self._refused.warn("model", event.error, logging.INFO, worker=self._name)
            self._finish(event.jobs, "failed", event.error, event.seconds)
            return
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
            self._refused.warn("no_sink", "a sink is away: its results are dropped", worker=self._name)
            self._finish(missed, "no_sink", "", event.seconds)

    def _finish(self, jobs: list[Job], outcome: m.Outcome, reason: str, seconds: float = 0.0) -> None:
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


def _leases(jobs: list[Job]) -> list[int]:
    return [job.work.lease for job in jobs]
