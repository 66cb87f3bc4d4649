"""The producer's shell: polls sockets, feeds the cores, performs what they say. One stream a process."""

from __future__ import annotations

import logging
import secrets
import time
from collections import deque

from common import messages as m
from common.config import Fleet, Stream
from common.errors import Exit, LinkError, PeerError, SourceError
from common.lifecycle import Stopper
from common.log import Seldom, mask
from common.media import prepare_decoder, unpack
from common.status import Status
from common.transport import Hub, Poller, Waker, drain
from common.wire import Reader, encode
from producer.decoding import output_base, threads_for
from producer.feed import Feed, NotReached
from producer.gauges import Gauges
from producer.greeter import Greeter
from producer.greeting import make_hello
from producer.intake import Intake
from producer.lookout import Lookout
from producer.source import Source, cut_short

#: Seconds between two progress lines.
PROGRESS_S = 0.2
#: After SIGTERM, what is under way gets this long, in seconds, to be resolved, while somebody is there who can do so.
GRACE_S = 20.0
#: After this long a silence, in seconds, nobody is.
LEAVE_S = 1.5
#: The same where the sink speaks and nothing moves on: an output takes nothing.
STALLED_S = 5.0
#: Most messages taken from one socket before other work is done.
BURST = 64
#: While there is work to do, sockets are looked at this often, in seconds.
RECEIVE_S = 0.002
#: Protocol from which on a sink knows Change and Filler.
CHANGES = 102

log = logging.getLogger(__name__)


class Producer:
    """Runs one stream to its end. ``again``: it has died and is started again, so that the source may well be away."""

    def __init__(self, fleet: Fleet, stream: Stream, status: Status, stopper: Stopper, again: bool = False) -> None:
        self._fleet, self._stream, self._status, self._stopper = fleet, stream, status, stopper
        self._hub = Hub.of(fleet.security, "producer")
        self._frames = self._hub.connect("push", fleet.broker.frames, hwm=64, to="broker")
        self._news = self._hub.connect("sub", fleet.broker.news, to="broker")
        self._news.subscribe()
        self._media = self._hub.connect("dealer", fleet.sink.media, hwm=1024, to="sink")
        self._waker = Waker()
        self._poller = Poller(self._news, self._media, self._waker, stopper.waker)
        self._read_media: Reader[m.ToProducer] = Reader(m.ToProducer)
        self._read_news: Reader[m.News] = Reader(m.News)
        self._refused = Seldom(log)
        self._resend: deque[tuple[m.Frame, bytes]] = deque()  # bounded by the window
        self._closed: m.Closed | None = None
        now = time.monotonic()
        self._greeter, self._lookout = Greeter(now), Lookout(fleet, stream, now)
        self._reached, self._moved = (0, -1), 0.0  # link and frames that the sink has dealt with, and since when
        self._next_progress = 0.0
        self._gauges = Gauges(stream.name, now)
        self._metrics = self._gauges.metrics
        self._ended = False
        self._gave_up = False
        self._intake = Intake(stream, self._waker.wake, again)
        self._feed: Feed | None = None  # from the first time that the source is open
        self._session = secrets.token_hex(8)
        self._source: Source | None = None  # the last one that was open
        self._sink_speaks = m.VERSION  # the sink's version of the protocol

    def run(self) -> int:
        """Returns the exit code. Raises SourceError, LinkError."""
        self._loop()
        self._hub.close(linger=not self._gave_up)
        return self._verdict()

    def _opened(self, source: Source, now: float) -> None:
        """The source is open, for the first time or again. It is read from the sink's Welcome on."""
        feed = self._feed
        anew = feed is None or feed.epoch is None  # nothing was begun
        base = output_base(source) if feed is None or anew else feed.base
        try:
            hello = make_hello(source, self._stream, self._session, threads_for(source, self._stream), base)
        except SourceError as error:
            self._intake.failed(error, now)
            return
        if feed is None or anew:
            self._feed = self._new_feed(source)
        else:
            feed.change(source, hello, None if self._intake.follows else now)
            source.start()
        self._source = source
        self._lookout.seen(now)
        before = self._greeter.hello[0] if feed is not None else None
        self._greeter.hello = hello
        if before is None or (before.video, before.tracks) != (hello[0].video, hello[0].tracks):
            self._tell(source, hello[0].omitted)

    def _tell(self, source: Source, omitted: list[str]) -> None:
        """What the source is like."""
        self._gauges.declared = float(source.rate or 0)
        for what in omitted:
            log.warning("left out: %s", what, extra={"stream": self._stream.name})
        self._status.say(
            "source",
            stream=self._stream.name,
            width=source.video.width,
            height=source.video.height,
            rate=float(source.rate or 0),
            frames=None if self._stream.loop else source.expected_frames,
            sound=[track.codec_context.name for track in source.audio],
        )

    def _push(self, frame: m.Frame, payload: bytes) -> bool:
        return self._frames.send(encode(frame), payload)

    def _loop(self) -> None:
        give_up: float | None = None
        busy, heard = False, 0.0
        while self._closed is None:
            now = time.monotonic()
            if not busy or now >= heard + RECEIVE_S:
                heard = now
                self._receive(now)
            self._greeter.tick()
            if self._stopper.handing_over:
                self._gave_up = True  # nothing is waited for: what is under way is our successor's
                self._intake.stop()
                return
            if self._stopper.draining:
                if self._feed is None or self._feed.epoch is None:
                    return  # nothing was begun
                if give_up is None:
                    give_up, self._moved = now + GRACE_S, now
                    self._intake.stop()
                    self._end("interrupted", now)
                if now > give_up or self._deserted(now):
                    self._leave()
                    return
            busy = self._advance(now)
            unsent = False
            if self._feed is not None:
                self._flush(self._feed)
                self._greet(now)
                unsent = self._feed.link.unsent > 0
            self._progress(now)
            if not busy and self._closed is None:
                self._poller.wait(0.002 if unsent or self._resend else 0.05)

    def _deserted(self, now: float) -> bool:
        """Whether nobody is there who could resolve what is under way."""
        assert self._feed is not None
        window, link = self._feed.window, self._feed.link
        if now - self._greeter.known > LEAVE_S:
            return True
        reached = (link.acknowledged, window.resolved)
        if reached != self._reached:
            self._reached, self._moved = reached, now
        if window.unanswered == 0 and now - self._moved > STALLED_S:
            return True
        return window.unanswered > 0 and self._lookout.nobody_works(now, LEAVE_S)

    def _leave(self) -> None:
        assert self._feed is not None
        self._gave_up = True
        window, link = self._feed.window, self._feed.link
        log.error(
            "left with %d frames unresolved, %d of them without an answer, and %d messages that the sink did not take",
            window.unresolved,
            window.unanswered,
            link.unacknowledged,
            extra={"stream": self._stream.name},
        )

    def _advance(self, now: float) -> bool:
        """One step of work; False where there is none to be done now."""
        feed = self._feed
        if self._ended or self._stopper.draining:
            return False
        if feed is None or feed.epoch is None or (feed.idle and not feed.replaying and self._intake.source is None):
            return self._await_source(now)
        if not feed.idle:
            self._lookout.seen(now)
            try:
                return feed.announce(now)
            except NotReached:
                log.warning("frame %d cannot be decoded from what was kept: reading the source again", feed.index + 1)
                self._read_again()
                return False
        # A live source is never held up: what the link has no room for is announced as a gap.
        if self._stream.mode != "live" and feed.link.full(now):
            feed.waits_for = "sink"
            self._lookout.seen(now)
            return False
        if feed.replaying:
            feed.replay(now)
            return True
        source = self._intake.source
        if source is None:
            return False
        one = source.take()
        if one is not None:
            self._lookout.packet(one.track, now)
            feed.take(one, now)
            source.hurry = feed.catching_up
            if not feed.idle:
                self._lookout.seen(now)
                self._intake.gave(now)
            elif self._intake.is_blind(self._lookout.blind_s) and self._sink_speaks >= CHANGES:
                feed.flush(now)
                self._intake.lost(now, "gives no picture that can be decoded")
            return True
        if source.drained:
            if self._intake.returns() and self._sink_speaks >= CHANGES:
                feed.flush(now)
                self._intake.lost(now)
            else:
                self._end(str(source.error or ""), now)
        else:
            self._fill(now)
        return False

    def _await_source(self, now: float) -> bool:
        """There is no source, or the sink has not welcomed it yet."""
        feed = self._feed
        if feed is not None and feed.epoch is not None and self._sink_speaks < CHANGES:  # it was another one before
            self._end(self._intake.why, now)
            return False
        if (source := self._intake.poll(now)) is not None:
            self._opened(source, now)
            return True
        self._fill(now)
        return False

    def _fill(self, now: float) -> None:
        """Show a placeholder where it is time: the source is away, or is back without a picture so far."""
        if self._feed is not None and self._feed.epoch is not None and self._intake.filler_due(now):
            self._feed.filler(self._intake.why, self._intake.away(now), now)

    def _new_feed(self, source: Source) -> Feed:
        feed = Feed(self._stream, self._fleet.sink.name, source, self._push)
        if self._lookout.spec is not None:
            feed.served(self._lookout.spec)
        return feed

    def _read_again(self) -> None:
        """The source again from its beginning. The sink knows us by the Hello that it has. Raises SourceError."""
        with self._stopper.at_once():
            source = self._intake.again()
        make_hello(source, self._stream, self._session, threads_for(source, self._stream))  # leaves out the same tracks
        self._source, self._feed = source, self._new_feed(source)

    def _end(self, reason: str, now: float) -> None:
        assert self._feed is not None
        if not self._ended:
            self._ended = True
            self._feed.end(reason, now)

    def _receive(self, now: float) -> None:
        feed = self._feed
        for parts in drain(self._media, BURST):
            try:
                message, _ = self._read_media.decode(parts)
            except PeerError as error:
                self._metrics.count("refused", socket="sink", kind=error.kind)
                self._refused.warn(error.kind, f"refused a message of the sink: {error}")
                continue
            if isinstance(message, m.Refused):
                self._media.refused(message.reason)
                continue
            self._greeter.spoke(now)
            self._on_sink(message, now)
        for parts in drain(self._news, BURST):
            try:
                news, _ = self._read_news.decode(parts)
            except PeerError as error:
                self._metrics.count("refused", socket="news", kind=error.kind)
                self._refused.warn(error.kind, f"refused news of the broker: {error}")
                continue
            self._lookout.news(news, now)
            if feed is not None:
                feed.served(self._lookout.spec)
                if feed.epoch is not None:
                    self._resend.extend(feed.window.news(news, self._stream.name, feed.epoch, now))
        if feed is not None and feed.epoch is not None:
            self._resend.extend(feed.window.tick(now))
            feed.link.tick(now)

    def _on_sink(self, message: m.Welcome | m.Unknown | m.Ack | m.Closed, now: float) -> None:
        feed = self._feed
        if feed is None:
            return  # it speaks of a producer before us
        if isinstance(message, m.Welcome):
            if message.session == self._session:
                self._greeter.unknown = False
                if message.epoch != feed.epoch:
                    self._begin(feed, message, now)
        elif feed.epoch is None or message.epoch != feed.epoch or message.stream != self._stream.name:
            self._refused.counts["other_epoch"] = self._refused.counts.get("other_epoch", 0) + 1
        elif isinstance(message, m.Ack):
            if message.link > feed.link.transmitted or message.resolved > feed.index:
                self._metrics.count("refused", socket="sink", kind="ack")
                self._refused.warn("ack", "refused an acknowledgement of what was never sent")
                return
            self._greeter.unknown = False
            feed.link.ack(message.link, message.gap, now)
            feed.window.ack(message, now)
            feed.durable(message.durable)
        elif isinstance(message, m.Closed):
            self._closed = message
        else:
            self._greeter.unknown = True

    def _begin(self, feed: Feed, welcome: m.Welcome, now: float) -> None:
        """A new epoch: the first one, or one after the sink has lost the one before."""
        resume = welcome.resume
        source = self._source
        assert source is not None
        self._sink_speaks = welcome.v
        self._lookout.seen(now)
        untold = self._greeter.welcomed()
        if feed.epoch is None:
            counts_on = not source.rereadable or self._stream.loop
            feed.welcome(welcome.epoch, welcome.media, resume, counts_on)
        else:
            log.warning(
                "the sink has begun epoch %d and wants frame %d next",
                welcome.epoch,
                resume,
                extra={"stream": self._stream.name},
            )
            hello, blobs = self._greeter.hello
            decoder = prepare_decoder(unpack(hello.tracks, blobs)[0], feed.threads, for_model=True)  # type: ignore[arg-type]
            self._resend.clear()
            self._ended = False
            if feed.restart(welcome.epoch, welcome.media, resume, decoder, untold):
                return
            self._read_again()
            assert self._feed is not None
            assert self._source is not None
            feed, source = self._feed, self._source
            feed.welcome(welcome.epoch, welcome.media, resume)
        if feed.catching_up:
            log.info("going on from frame %d of the file", resume, extra={"stream": self._stream.name})
        source.hurry = feed.catching_up
        source.start()

    def _flush(self, feed: Feed) -> None:
        while self._resend:
            header, payload = self._resend[0]
            if feed.window.waits(header) and not self._push(header, payload):
                break
            self._resend.popleft()
        while not self._greeter.unknown and (message := feed.link.peek()) is not None:
            parts = (encode(message.header), message.payload) if message.payload else (encode(message.header),)
            if not self._media.send(*parts):
                return
            feed.link.sent()

    def _greet(self, now: float) -> None:
        if (hello := self._greeter.due(now)) is not None:
            self._media.send(encode(hello[0]), hello[1])

    def _progress(self, now: float) -> None:
        if now < self._next_progress:
            return
        self._next_progress = now + PROGRESS_S
        feed = self._feed
        self._lookout.refusals({"broker_refuses": self._news.refusal, "sink_refuses": self._media.refusal}, now)
        troubles = self._lookout.look(now, self._intake, feed, self._greeter.heard, self._ended)
        source = self._intake.state(now)
        fps = self._gauges.fps(feed, now) if feed is not None else 0.0
        self._gauges.look(source, self._ended, feed, troubles, now)
        self._metrics.tell(self._status, now)
        if feed is None:
            self._status.say("opening", stream=self._stream.name, source=source, troubles=troubles)
            return
        window = feed.window
        self._status.say(
            "progress",
            stream=self._stream.name,
            source=source,
            announced=feed.index + 1,
            in_flight=window.unanswered,
            unresolved=window.unresolved,
            waits_for=feed.waits_for if feed.epoch is not None else "sink",
            resent=window.resent,
            gaps=feed.gaps,
            fps=fps,
            troubles=troubles,
        )

    def _verdict(self) -> int:
        source, feed = self._source, self._feed
        if self._stopper.handing_over and self._closed is None:
            return Exit.HANDED_OVER
        if self._closed is not None and self._closed.error == m.SUPERSEDED:
            raise LinkError(f"{self._stream.name}: {m.SUPERSEDED}: stop one of the two")
        if self._stopper.draining:
            return 0 if self._closed is not None or feed is None or feed.epoch is None else 1
        assert source is not None
        assert feed is not None
        if source.error is not None:
            raise source.error
        if feed.index < 0:
            raise SourceError(f"no picture of {mask(self._stream.source)} could be decoded")
        if cut := cut_short(source):
            raise SourceError(cut)
        return 0
