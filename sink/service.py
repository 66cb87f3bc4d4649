"""The sink's shell: a ROUTER for producers (media link), a PULL for results; one :class:`SinkStream` a live stream."""

from __future__ import annotations

import logging
import time

from common import messages as m
from common.config import Fleet
from common.errors import PeerError
from common.lifecycle import Stopper
from common.log import Seldom
from common.metrics import Metrics
from common.status import Status
from common.transport import Hub, Poller, Unreachable, Waker, drain
from common.wire import Reader, encode
from sink.ledger import State
from sink.stream import SinkStream

#: Longest sleep of the loop, in seconds.
IDLE_S = 0.05
#: Seconds between two progress lines.
PROGRESS_S = 0.2
#: After SIGTERM, streams get this long, in seconds, to come to their end by themselves.
GRACE_S = 5.0
#: Most messages taken from one socket before other work is done.
BURST = 128

#: Messages that arrive within this long of each other, in seconds, are handled together.
SETTLE_S = 0.002

log = logging.getLogger(__name__)


class Sink:
    """Serves the streams of the configuration until it is told to stop."""

    def __init__(self, fleet: Fleet, status: Status, stopper: Stopper) -> None:
        self._fleet, self._status, self._stopper = fleet, status, stopper
        self._hub = Hub(fleet.security.insecure)
        self._media = self._hub.bind("router", fleet.sink.media, hwm=4096)
        self._results = self._hub.bind("pull", fleet.sink.results, hwm=4096)
        self._waker = Waker()
        self._poller = Poller(self._media, self._results, self._waker, stopper.waker)
        self._read_media: Reader[m.ToSink] = Reader(m.ToSink)
        self._read_results: Reader[m.ToResults] = Reader(m.ToResults)
        self._streams: dict[str, SinkStream] = {}
        self._peers: dict[str, bytes] = {}  # stream → routing id of its producer
        self._epochs: dict[str, int] = {}
        self._refused, self._bad_results = Seldom(log), Seldom(log)
        self._metrics = Metrics()
        self._metrics.serve(fleet.metrics.sink)
        self._next_progress = 0.0

    def run(self) -> int:
        """Returns the exit code."""
        give_up: float | None = None
        while True:
            now = time.monotonic()
            self._receive(now)
            for stream in list(self._streams.values()):
                self._step(stream, now)
            self._progress(now)
            if self._stopper.draining:
                give_up = give_up or now + GRACE_S
                open_ones = [stream for stream in self._streams.values() if stream.closed is None]
                if not open_ones:
                    break
                if now > give_up:
                    for stream in open_ones:
                        stream.give_up("shutdown")
            self._poller.wait(self._sleep(time.monotonic()), SETTLE_S)
        self._hub.close()
        return 0

    def _receive(self, now: float) -> None:
        for parts in drain(self._media, BURST) if self._poller.ready(self._media) else ():
            try:
                message, payload = self._read_media.decode(parts[1:])
                self._on_media(parts[0], message, bytes(payload), now)
            except PeerError as error:
                self._refused.warn(error.kind, f"refused a message of a producer: {error}", peer=parts[0].hex())
        for parts in drain(self._results, BURST) if self._poller.ready(self._results) else ():
            try:
                answer, _ = self._read_results.decode(parts)
            except PeerError as error:
                self._bad_results.warn(error.kind, f"refused a result: {error}")
                continue
            stream = self._streams.get(answer.stream)
            if stream is None:
                self._refused.warn("unknown_stream", f"result of a stream that is not here: {answer.stream!r}")
            else:
                stream.on_answer(answer)
                if isinstance(answer, m.Result):
                    self._metrics.observe(answer.seconds)

    def _on_media(self, peer: bytes, message: m.ToSink, payload: bytes, now: float) -> None:
        if isinstance(message, m.Hello):
            self._on_hello(peer, message, payload)
            return
        stream = self._streams.get(message.stream)
        if stream is None or stream.epoch != message.epoch:
            self._send(peer, m.Unknown(stream=message.stream, epoch=message.epoch))
            return
        if peer != self._peers.get(message.stream):
            # Only a Hello, with its secret session, makes a peer: a stranger must not draw the Acks to itself. A
            # producer that has reconnected under a new routing id hears nothing, says Hello, and sends again.
            raise PeerError("stranger", f"{type(message).__name__.lower()} of a peer that has not said Hello")
        stream.on_link(message, payload, now)

    def _on_hello(self, peer: bytes, hello: m.Hello, payload: bytes) -> None:
        if all(stream.name != hello.stream for stream in self._fleet.streams):
            raise PeerError("unknown_stream", f"Hello of {hello.stream!r}, which the configuration does not name")
        running = self._streams.get(hello.stream)
        if running is None or running.hello.session != hello.session:
            epoch = self._epochs.get(hello.stream, 0) + 1
            config = self._fleet.stream(hello.stream)
            newer = SinkStream(config, hello, payload, epoch, self._waker.wake)  # refused here, it harms no other
            if running is not None and running.closed is None:  # a newer session closes the older one
                running.give_up("superseded")
                log.warning("a new session replaces the running one", extra={"stream": hello.stream})
            running = newer
            self._epochs[hello.stream] = epoch
            self._streams[hello.stream] = running
        self._peers[hello.stream] = peer
        self._send(
            peer,
            m.Welcome(stream=hello.stream, session=hello.session, epoch=running.epoch, media=running.wants_media),
        )

    def _step(self, stream: SinkStream, now: float) -> None:
        was_open = stream.closed is None
        stream.advance(now)
        closes = was_open and stream.closed is not None
        if closes and stream.closed is not None:
            self._status.say("closed", **stream.report(), error=stream.closed.error)
        peer = self._peers.get(stream.config.name)
        if peer is None:
            return
        if (ack := stream.ack(now)) is not None:
            self._send(peer, ack)
            if stream.closed is not None:  # repeated with each Ack until the producer leaves
                self._send(peer, stream.closed)
        if closes and stream.closed is not None:
            self._send(peer, stream.closed)

    def _send(self, peer: bytes, message: m.Head) -> None:
        try:
            if not self._media.send(peer, encode(message)):
                self._refused.warn("producer_slow", "a producer does not take its acknowledgements")
        except Unreachable:
            self._peers = {stream: one for stream, one in self._peers.items() if one != peer}

    def _progress(self, now: float) -> None:
        if now < self._next_progress:
            return
        self._next_progress = now + PROGRESS_S
        for stream in self._streams.values():
            if stream.closed is None:
                self._status.say("progress", **stream.progress())
            states = stream.ledger.states
            for state in State:  # zeros as well: a count that has gone down would stay otherwise
                self._metrics.gauge("frames", states.get(state, 0), stream=stream.config.name, state=state)

    def _sleep(self, now: float) -> float:
        deadlines = [at for stream in self._streams.values() if (at := stream.next_deadline()) is not None]
        return max(0.0, min([IDLE_S, *(at - now for at in deadlines)]))
