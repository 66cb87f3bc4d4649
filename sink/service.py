"""The sink's shell: a ROUTER for producers (media link), a PULL for results; one :class:`SinkStream` a live stream."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path

from common import messages as m
from common.config import Fleet, Stream
from common.errors import Exit, PeerError
from common.lifecycle import Stopper
from common.log import Seldom
from common.media import unpack
from common.status import Status
from common.transport import Hub, Poller, Unreachable, Waker, drain
from common.trouble import Troubles, log_troubles
from common.wire import Reader, encode
from sink.checkpoint import Checkpoint
from sink.configured import Configured
from sink.gauges import Gauges
from sink.memory import give_back
from sink.preview import Previews
from sink.registry import Registry
from sink.stream import SinkStream

#: Longest sleep of the loop, in seconds.
IDLE_S = 0.05
#: Seconds between two progress lines.
PROGRESS_S = 0.2
#: After SIGTERM, streams get this long, in seconds, to come to their end by themselves.
GRACE_S = 5.0
#: The same where a successor goes on: for closing the outputs, whose frames that are not durable are done again.
HANDOVER_S = 8.0
#: Most messages taken from one socket before other work is done.
BURST = 128
#: Messages that arrive within this long of each other, in seconds, are handled together.
SETTLE_S = 0.002
#: An output that takes nothing for so long, in seconds, is called slow.
STUCK_S = 0.6
#: So many sessions are remembered that another one has replaced.
MAX_SUPERSEDED = 1024
#: A closed stream is told of for so long, in seconds, where its producer stays.
CLOSED_S = 10.0
#: A stream whose decisions crashed gets this long, in seconds, to close its outputs.
BROKEN_S = 10.0

log = logging.getLogger(__name__)


class Sink:
    """Serves the streams of the configuration until it is told to stop. ``file``: where the configuration is; streams
    that are added to it or removed are followed."""

    def __init__(self, fleet: Fleet, status: Status, stopper: Stopper, file: Path | None = None) -> None:
        self._fleet, self._status, self._stopper = fleet, status, stopper
        self._hub, bind = Hub.of(fleet.security, "sink"), fleet.sink.bind
        self._media = self._hub.bind("router", fleet.sink.media, hwm=4096, name="media", interface=bind)
        self._results = self._hub.bind("pull", fleet.sink.results, hwm=4096, name="results", interface=bind)
        self._waker = Waker()
        self._poller = Poller(self._media, self._results, self._waker, stopper.waker)
        self._read_media: Reader[m.ToSink] = Reader(m.ToSink)
        self._read_results: Reader[m.ToResults] = Reader(m.ToResults)
        self._streams: dict[str, SinkStream] = {}
        self._configured = Configured(fleet, file)
        self._known = {stream.name: stream for stream in fleet.streams}  # what is configured, or not yet forgotten
        self._registry = Registry(self._configured)
        self._peers: dict[str, bytes] = {}  # stream → routing id of its producer
        self._alone: dict[str, float] = {}  # stream → since when its producer is gone
        self._closed: dict[str, float] = {}  # stream → when it was closed
        self._broken: dict[str, float] = {}  # stream → when its decisions crashed
        self._named: dict[str, set[str]] = {}  # stream → its troubles so far
        self._superseded: dict[tuple[str, str], int] = {}  # (stream, session) → epoch
        self._refused, self._bad_results = Seldom(log), Seldom(log)
        self._places: dict[str, set[str]] = {}  # stream → its outputs that are in trouble
        self._troubles = Troubles()
        self._gauges = Gauges()
        self._metrics = self._gauges.metrics
        self._metrics.serve(fleet.metrics.sink)
        self._previews = Previews(self._waker.wake)
        self._next_progress = 0.0

    def run(self) -> int:
        """Returns the exit code."""
        give_up: float | None = None
        while True:
            now = time.monotonic()
            self._receive(now)
            self._step_all(now)
            self._progress(now)
            self._previews.deliver(self._status)
            if self._stopper.draining:
                give_up = give_up or now + (HANDOVER_S if self._stopper.handing_over else GRACE_S)
                open_ones = [stream for stream in self._streams.values() if not stream.over]
                if not open_ones or (self._stopper.handing_over and now > give_up):
                    break
                if self._stopper.handing_over:
                    for stream in open_ones:
                        stream.retire(successor=True)
                elif now > give_up:
                    for stream in open_ones:
                        stream.give_up("shutdown")
            self._poller.wait(self._sleep(time.monotonic()), SETTLE_S)
        self._hub.close()
        return Exit.HANDED_OVER if self._stopper.handing_over else 0

    def _receive(self, now: float) -> None:
        for parts in drain(self._media, BURST) if self._poller.ready(self._media) else ():
            try:
                message, payload = self._read_media.decode(parts[1:])
                self._on_media(parts[0], message, bytes(payload), now)
            except PeerError as error:
                self._metrics.count("refused", socket="media", kind=error.kind)
                self._refused.warn(error.kind, f"refused a message of a producer: {error}", peer=parts[0].hex())
        for parts in drain(self._results, BURST) if self._poller.ready(self._results) else ():
            try:
                answer, _ = self._read_results.decode(parts)
            except PeerError as error:
                self._metrics.count("refused", socket="results", kind=error.kind)
                self._bad_results.warn(error.kind, f"refused a result: {error}")
                continue
            stream = self._streams.get(answer.stream)
            if stream is None:
                self._metrics.count("refused", socket="results", kind="unknown_stream")
                self._bad_results.warn(
                    "unknown_stream",
                    f"result of a stream that is not here: {answer.stream!r}",
                    logging.INFO,
                    stream=answer.stream,
                )
            elif stream.crashed is None:
                with self._apart(stream, now):
                    stream.on_answer(answer, now)
                if isinstance(answer, m.Result):
                    self._metrics.observe(answer.seconds)

    def _on_media(self, peer: bytes, message: m.ToSink, payload: bytes, now: float) -> None:
        if isinstance(message, m.Hello):
            self._on_hello(peer, message, payload, now)
            return
        stream = self._streams.get(message.stream)
        if stream is None or stream.epoch != message.epoch:
            self._send(peer, m.Unknown(stream=message.stream, epoch=message.epoch), now)
            return
        if peer != self._peers.get(message.stream):
            # Only a Hello, with its secret session, makes a peer: a stranger must not draw the Acks to itself. A
            # producer that has reconnected under a new routing id hears nothing, says Hello, and sends again.
            raise PeerError("stranger", f"{type(message).__name__.lower()} of a peer that has not said Hello")
        if stream.crashed is None:
            with self._apart(stream, now):
                stream.on_link(message, payload, now)

    def _on_hello(self, peer: bytes, hello: m.Hello, payload: bytes, now: float) -> None:
        name = hello.stream
        if self._stopper.handing_over:
            return  # our successor will answer
        config = self._configured.find(name, now)
        if config is None:
            raise PeerError("unknown_stream", f"Hello of {name!r}, which the configuration does not name")
        if (epoch := self._superseded.get((name, hello.session))) is not None:
            self._send(peer, m.Closed(stream=name, epoch=epoch, error=m.SUPERSEDED), now)
            return
        running = self._streams.get(name)
        if running is not None and running.crashed is not None:
            self._send(peer, m.Unknown(stream=name, epoch=running.epoch), now)  # soon
            return
        if running is None or running.hello.session != hello.session:
            if running is not None and not running.over:
                unpack(hello.tracks, payload)  # one that cannot go on itself ends nothing
                # Answered when the older one is at its end: the newer one goes on where that has come to.
                self._supersede(running)
                return
            if running is not None:
                self._forget(running)
            past = self._registry.next(hello, now)
            if isinstance(past, str):
                if past:  # given up: no space came free in time
                    self._give_up_for_good(peer, hello, past, now)
                else:  # we are here, and cannot begin yet
                    self._send(peer, m.Unknown(stream=name, epoch=self._registry.past[name].epoch), now)
                return
            running = self._begin(config, hello, payload, past)
            if running is None:
                return
            self._streams[name] = running
            if running.resume:
                log.warning("going on from frame %d", running.resume, extra={"stream": name, "epoch": running.epoch})
        self._peers[name] = peer
        self._alone.pop(name, None)
        self._send(
            peer,
            m.Welcome(
                stream=name,
                session=hello.session,
                epoch=running.epoch,
                resume=running.resume,
                media=running.wants_media,
            ),
            now,
        )

    def _begin(self, config: Stream, hello: m.Hello, payload: bytes, past: Checkpoint) -> SinkStream | None:
        """A new epoch; None where it crashes at once. Raises PeerError."""
        try:
            tally, preview = self._gauges.tally(config.name), self._previews.of(config.name)
            return SinkStream(config, hello, payload, past, self._waker.wake, tally, preview)
        except PeerError:
            raise
        except Exception as error:  # noqa: BLE001  one stream's, not ours
            # Its number has been given away, perhaps to a file.
            self._registry.put(config.name, past, "", time.monotonic())
            self._count_crash(config.name, hello.session, past.books.frames, error)
            return None

    def _supersede(self, stream: SinkStream) -> None:
        """Another session takes over. The older one is told so if it is still there, or the two would take turns."""
        stream.retire()
        self._superseded[stream.config.name, stream.hello.session] = stream.epoch
        if len(self._superseded) > MAX_SUPERSEDED:
            del self._superseded[next(iter(self._superseded))]

    def _give_up_for_good(self, peer: bytes, hello: m.Hello, error: str, now: float) -> None:
        """The stream ends here, for a disk that has stayed full."""
        name = hello.stream
        past: Checkpoint = self._registry.past[name]
        states, epoch, frames = past.books.states, past.epoch, past.books.frames
        # One that has been started again meanwhile knows no epoch, and would not listen.
        self._send(peer, m.Welcome(stream=name, session=hello.session, epoch=epoch, resume=frames, media=False), now)
        self._send(peer, m.Closed(stream=name, epoch=past.epoch, states=states, error=error), now)
        report = {"stream": name, "frames": past.books.frames, "states": states, "reasons": past.books.reasons}
        self._status.say("closed", **report, repairs={}, parts=past.parts, error=error)

    def _step_all(self, now: float) -> None:
        before = len(self._streams)
        for name in list(self._streams):
            self._step(self._streams[name], now)
        if len(self._streams) < before:  # here, where no variable holds them any more
            give_back()

    def _step(self, stream: SinkStream, now: float) -> None:
        name, was_over = stream.config.name, stream.over
        with self._apart(stream, now):
            stream.advance(now)
        if stream.crashed is not None:
            self._step_crashed(stream, now)
            return
        if stream.over and not was_over:
            self._closed[name] = now
            self._gauges.frames(name, stream.ledger.states)
            if stream.closed is not None:
                self._status.say("closed", **stream.report(), epoch=stream.epoch, error=stream.closed.error)
            else:
                self._forget(stream)
                return
        peer = self._peers.get(name)
        if peer is None:
            self._without_producer(stream, now)
            return
        ack = None
        with self._apart(stream, now):
            ack = stream.ack(now)
        if ack is not None:
            self._send(peer, ack, now)
        if stream.closed is not None and (ack is not None or not was_over):
            self._send(peer, stream.closed, now)  # repeated with each Ack until the producer leaves
            if now > self._closed[name] + CLOSED_S:
                self._forget(stream)

    @contextlib.contextmanager
    def _apart(self, stream: SinkStream, now: float) -> Iterator[None]:
        """What goes wrong inside is the stream's own affair: the others go on."""
        try:
            yield
        except PeerError:
            raise
        except Exception as error:  # noqa: BLE001  told, and counted
            if stream.crashed is None:
                stream.crashed, self._broken[stream.config.name] = error, now
                with contextlib.suppress(Exception):
                    stream.retire()  # its outputs are closed

    def _step_crashed(self, stream: SinkStream, now: float) -> None:
        """When its outputs are no longer in use, its producer begins a new epoch."""
        name, error = stream.config.name, stream.crashed
        assert error is not None
        if stream.over:
            reached = stream.resolved if stream.hello.mode == "live" else stream.checkpoint.books.frames
            self._count_crash(name, stream.hello.session, reached, error)
            if (peer := self._peers.get(name)) is not None:
                self._send(peer, m.Unknown(stream=name, epoch=stream.epoch), now)
            self._forget(stream)
        elif now > self._broken[name] + BROKEN_S:
            raise error  # it cannot be ended: a new start of all is what is left

    def _count_crash(self, stream: str, session: str, reached: int, error: BaseException) -> None:
        count = self._registry.crashed(stream, session, reached, error)
        text = f"{stream} crashed here: {type(error).__name__}: {error}; it begins a new epoch"
        log.critical("%s", text, exc_info=error, extra={"stream": stream, "count": count})
        self._metrics.count("stream_crashes", stream=stream)

    def _without_producer(self, stream: SinkStream, now: float) -> None:
        name = stream.config.name
        if stream.over:
            self._forget(stream)
        elif name not in self._registry.known:
            stream.give_up("shutdown")  # it has been removed, and nobody goes on with it
        elif now > self._alone.setdefault(name, now) + self._fleet.sink.producer_timeout:
            log.warning("its producer is gone: the outputs are closed", extra={"stream": name})
            stream.retire()

    def _forget(self, stream: SinkStream) -> None:
        """Only what another epoch begins with is kept."""
        name = stream.config.name
        self._gauges.ended(stream)
        self._registry.put(name, stream.checkpoint, stream.full, time.monotonic())
        for table in (self._streams, self._peers, self._alone, self._closed, self._broken):
            table.pop(name, None)

    def _configure(self, now: float) -> None:
        """Follow the configuration. A stream that is no longer in it is forgotten for good when it is at its end."""
        self._configured.look(now)
        configured = {stream.name: stream for stream in self._configured.fleet.streams}
        for name in [name for name in self._known if name not in configured and name not in self._streams]:
            self._registry.forget(self._known.pop(name))
            self._gauges.forget(name)
            self._previews.forget(name)
            for key in [key for key in self._superseded if key[0] == name]:
                del self._superseded[key]
            for trouble in self._named.pop(name, ()):
                self._troubles.set(trouble, False, now)
            self._places.pop(name, None)
            log.info("forgotten: it is no longer in the configuration", extra={"stream": name})
            self._status.say("forgotten", stream=name)
        self._known.update(configured)
        for name, stream in self._streams.items():
            if name in configured and configured[name] != stream.config and not stream.over:
                stream.retire(successor=True)  # who says Hello next goes on as it is configured now

    def _send(self, peer: bytes, message: m.Head, now: float) -> None:
        try:
            if not self._media.send(peer, encode(message)):
                stream = getattr(message, "stream", None)
                self._refused.warn("producer_slow", "a producer does not take its acknowledgements", stream=stream)
        except Unreachable:
            for stream in [stream for stream, one in self._peers.items() if one == peer]:
                del self._peers[stream]
                self._alone[stream] = now

    def _progress(self, now: float) -> None:
        if now < self._next_progress:
            return
        self._next_progress = now + PROGRESS_S
        for (socket, kind), count in self._hub.tend().items():
            self._metrics.count("refused", count, socket=socket, kind=kind)
        self._configure(now)
        self._previews.hear(self._status.requests(), now)
        self._look_around(now)
        troubles = self._troubles.report(now)
        told = False
        for stream in self._streams.values():
            if not stream.over:
                # Once is enough: the line is heard as a word on all of them.
                more = {} if told else {"troubles": troubles}
                lately = self._gauges.tally(stream.config.name).summary(now)
                self._status.say("progress", **stream.progress(), epoch=stream.epoch, **lately, **more)
                told = True
        if not told:  # also where there are none: we are here
            self._status.say("troubles", troubles=troubles)
        self._gauges.look(self._streams, [name for name in self._known if self._registry.full(name)], troubles, now)
        self._metrics.tell(self._status, now)

    def _look_around(self, now: float) -> None:
        """Name what stands in the way."""
        self._troubles.set("keys_list", bool(self._hub.problem), now, self._hub.problem)
        for name in self._known:
            stream, full = self._streams.get(name), self._registry.full(name)
            self._name("disk_full", name, bool(full) and stream is None, now, f"{full}; waiting for space")
            stuck = stream is not None and not stream.over and stream.stuck(now) > STUCK_S
            text = f"an output of {name} takes nothing: a pipe whose reader is slow, or a slow disk"
            self._name("output_slow", name, stuck, now, text)
            sent = stream.troubles() if stream is not None else {}
            for place in sent.keys() | self._places.get(name, set()):
                self._name("sending", name, place in sent, now, sent.get(place, ""), place)
            self._places[name] = set(sent)
        log_troubles(log, self._troubles.said(now))

    def _name(self, kind: str, stream: str, active: bool, now: float, text: str, which: str = "") -> None:
        """A trouble of one stream, or of what ``which`` names of it. Whose it is, others tell by its name: ``kind``, a
        space, the stream, and after another space ``which``."""
        trouble = f"{kind} {stream} {which}".rstrip()
        if active:
            self._named.setdefault(stream, set()).add(trouble)
        self._troubles.set(trouble, active, now, text)

    def _sleep(self, now: float) -> float:
        deadlines = [at for stream in self._streams.values() if (at := stream.next_deadline()) is not None]
        return max(0.0, min([IDLE_S, *(at - now for at in deadlines)]))
