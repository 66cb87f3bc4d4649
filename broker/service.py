"""The broker's shell: PULL for frames, ROUTER for workers, PUB for the news, PUSH to each sink."""

from __future__ import annotations

import itertools
import logging
import secrets
import time
from collections.abc import Collection, Iterable

from broker.actions import Action, Arrived, Gone, Heard, Log, SendWho, SendWork, Tell, Tick, Unsent
from broker.dispatch import Dispatcher
from broker.gauges import Gauges
from broker.limits import Limits
from common import messages as m
from common.config import Fleet
from common.errors import PeerError
from common.lifecycle import Stopper
from common.log import Seldom
from common.status import Status
from common.transport import Hub, Poller, Unreachable, drain
from common.trouble import Troubles, log_troubles, set_away
from common.wire import Reader, encode

#: Seconds between two News, and between two ticks of the core.
NEWS_S, TICK_S = 0.25, 0.1
#: After SIGTERM, what is held gets this long, in seconds, to be worked off.
GRACE_S = 3.0
#: Most messages taken from one socket before the other gets its turn.
BURST = 64
#: Most names that one line lists.
MAX_LISTED = 3
#: Most models that a status line names.
MAX_TOLD = 32
#: Messages that arrive within this long of each other, in seconds, are handled together.
SETTLE_S = 0.001

log = logging.getLogger(__name__)


class Broker:
    """Polls, feeds the dispatcher, performs what it says."""

    def __init__(self, fleet: Fleet, status: Status, stopper: Stopper) -> None:
        config = fleet.broker
        self._status, self._stopper = status, stopper
        self._hub = Hub.of(fleet.security, "broker")
        self._frames = self._hub.bind("pull", config.frames, name="frames", interface=config.bind)
        self._workers = self._hub.bind("router", config.workers, hwm=1024, name="workers", interface=config.bind)
        self._news = self._hub.bind("pub", config.news, name="news", interface=config.bind)
        results = self._hub.connect("push", fleet.sink.results, hwm=1024, watch=True, to="sink")
        self._sinks = {fleet.sink.name: results}
        self._poller = Poller(self._frames, self._workers, stopper.waker)
        limits = Limits(
            heartbeat_timeout=config.heartbeat_timeout,
            max_attempts=config.max_attempts,
            queue_frames=config.queue_frames,
            queue_bytes=config.queue_bytes,
            forget_stream=config.forget_stream,
        )
        self._core = Dispatcher(secrets.token_hex(8), limits)
        self._read_frames: Reader[m.Frame] = Reader(m.Frame)
        self._read_workers: Reader[m.ToBroker] = Reader(m.ToBroker)
        self._seldom, self._bad_frames = Seldom(log), Seldom(log)
        self._troubles = Troubles()
        self._had_worker = False
        self._gauges = Gauges()
        self._metrics = self._gauges.metrics
        self._metrics.serve(fleet.metrics.broker)

    def run(self) -> int:
        """Returns the exit code."""
        next_news = next_tick = 0.0
        give_up: float | None = None
        while True:
            now = time.monotonic()
            self._receive(now)
            if now >= next_tick:
                next_tick = now + TICK_S
                self._perform(self._core.handle(Tick(), now), now)
                self._name_troubles(now)
                for (socket, kind), count in self._hub.tend().items():
                    self._metrics.count("refused", count, socket=socket, kind=kind)
            if now >= next_news:
                next_news = now + NEWS_S
                self._publish(now)
            if self._stopper.draining:
                give_up = give_up or now + GRACE_S
                if self._core.idle or now > give_up:
                    break
            self._poller.wait(max(0.0, min(next_news, next_tick) - time.monotonic()), SETTLE_S)
        self._hub.close()
        return 0

    def _receive(self, now: float) -> None:
        for parts in drain(self._workers, BURST) if self._poller.ready(self._workers) else ():
            try:
                message, _ = self._read_workers.decode(parts[1:])
            except PeerError as error:
                self._metrics.count("refused", socket="workers", kind=error.kind)
                self._seldom.warn(error.kind, f"refused a message of a worker: {error}", peer=parts[0].hex())
                continue
            self._perform(self._core.handle(Heard(parts[0], message), now), now)
        for parts in drain(self._frames, BURST) if self._poller.ready(self._frames) else ():
            try:
                frame, payload = self._read_frames.decode(parts)
            except PeerError as error:
                self._metrics.count("refused", socket="frames", kind=error.kind)
                self._bad_frames.warn(error.kind, f"refused a frame: {error}")
                continue
            self._perform(self._core.handle(Arrived(frame, bytes(payload)), now), now)

    def _perform(self, actions: Iterable[Action], now: float) -> None:
        for action in actions:
            if isinstance(action, SendWork):
                self._send_work(action, now)
            elif isinstance(action, SendWho):
                self._send_who(action, now)
            elif isinstance(action, Tell):
                sink = self._sinks.get(action.sink)
                if sink is None or not sink.send(encode(action.message)):
                    text, lost = f"sink {action.sink!r} is not known or takes nothing: news dropped", action.message
                    self._seldom.warn("no_sink", text, stream=lost.stream, epoch=lost.epoch, index=lost.index)
            elif isinstance(action, Log):
                about = {"stream": action.stream, "epoch": action.epoch, "index": action.index, "worker": action.worker}
                (log.warning if action.warning else log.info)("%s", action.text, extra=about)

    def _send_work(self, action: SendWork, now: float) -> None:
        try:
            if not self._workers.send(action.route, encode(action.work), action.payload):
                self._perform(self._core.handle(Unsent(action.work.lease), now), now)
        except Unreachable:
            self._perform(self._core.handle(Gone(action.route), now), now)

    def _send_who(self, action: SendWho, now: float) -> None:
        try:
            self._workers.send(action.route, encode(action.who))  # where the queue is full, the next one will do
        except Unreachable:
            self._perform(self._core.handle(Gone(action.route), now), now)

    def _name_troubles(self, now: float) -> None:
        troubles, unserved, stuck = self._troubles, self._core.unserved(), self._core.stuck()
        self._had_worker = self._had_worker or self._core.workers > 0
        # What is not there yet is being started, as a rule: no reason for a warning.
        level = logging.WARNING if self._had_worker else logging.INFO
        text = f"no worker serves {_listed(unserved)}: {sum(unserved.values())} frames wait"
        troubles.set("no_worker", bool(unserved), now, text, level)
        troubles.set("worker_hangs", bool(stuck), now, f"{_listed(stuck)} hangs, and gets no more work")
        troubles.set("keys_list", bool(self._hub.problem), now, self._hub.problem)
        for name, sink in self._sinks.items():
            set_away(troubles, "sink_away", sink, f"the sink {name!r}", now)
        log_troubles(log, troubles.said(now))

    def _publish(self, now: float) -> None:
        self._news.send(encode(self._core.news()))
        troubles = self._troubles.report(now)
        self._gauges.look(self._core, troubles, now)
        self._status.say(
            "progress",
            queued=self._core.queued[0],
            leased=self._core.leased,
            workers=self._core.workers,
            streams=self._core.streams,
            models=list(itertools.islice(self._core.models, MAX_TOLD)),
            pool=self._core.pool(now),
            troubles=troubles,
        )
        self._metrics.tell(self._status, now)


def _listed(names: Collection[str]) -> str:
    """Some of the names, and how many there are more."""
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(itertools.islice(names, MAX_LISTED)) + more
