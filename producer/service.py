"""The producer's shell: polls sockets, feeds the cores, performs what they say. One stream a process."""

from __future__ import annotations

import logging
import secrets
import time
from collections import deque

from common import messages as m
from common.config import Fleet, Stream
from common.errors import LinkError, PeerError, SourceError
from common.lifecycle import Stopper
from common.log import Seldom
from common.status import Status
from common.transport import Hub, Poller, Waker, drain
from common.wire import Reader, encode
from producer.feed import Feed
from producer.greeting import make_hello
from producer.source import Source, cut_short

#: Seconds between two Hellos while no Welcome came.
HELLO_S = 0.3
#: The sink speaks every 0.1 s. After this long a silence, in seconds, it is greeted again: it may know us under the
#: name of a broken connection.
AGAIN_S = 1.0
#: Seconds between two progress lines.
PROGRESS_S = 0.2
#: After SIGTERM, what is under way gets this long, in seconds, to be resolved.
GRACE_S = 20.0
#: A sink that is silent this long, in seconds, is named in the log.
SILENT_S = 2.0
#: A sink that has just been started with us needs a while to open its sockets, in seconds.
STARTING_S = 8.0
#: Most messages taken from one socket before other work is done.
BURST = 64
#: While there is work to do, sockets are looked at this often, in seconds.
RECEIVE_S = 0.002
RESTARTED = "the sink was restarted and no longer knows this stream: start the run again"

log = logging.getLogger(__name__)


class Producer:
    """Runs one stream to its end."""

    def __init__(self, fleet: Fleet, stream: Stream, status: Status, stopper: Stopper) -> None:
        self._fleet, self._stream, self._status, self._stopper = fleet, stream, status, stopper
        self._hub = Hub(fleet.security.insecure)
        self._frames = self._hub.connect("push", fleet.broker.frames, hwm=64)
        self._news = self._hub.connect("sub", fleet.broker.news)
        self._news.subscribe()
        self._media = self._hub.connect("dealer", fleet.sink.media, hwm=1024)
        self._waker = Waker()
        self._poller = Poller(self._news, self._media, self._waker, stopper.waker)
        self._read_media: Reader[m.ToProducer] = Reader(m.ToProducer)
        self._read_news: Reader[m.News] = Reader(m.News)
        self._refused = Seldom(log)
        self._resend: deque[tuple[m.Frame, bytes]] = deque()  # bounded by the window
        self._session = secrets.token_hex(8)
        self._closed: m.Closed | None = None
        self._heard = time.monotonic()
        self._next_hello = 0.0
        self._next_progress = 0.0
        self._ended = False

    def run(self) -> int:
        """Returns the exit code. Raises SourceError, LinkError."""
        self._source = source = Source(
            self._stream.source, notify=self._waker.wake, at_own_speed=self._stream.mode == "live"
        )
        self._feed = Feed(
            self._stream,
            self._fleet.sink.name,
            source,
            self._push,
        )
        hello, blobs = make_hello(source, self._stream, self._session, self._feed.threads)
        for what in hello.omitted:
            log.warning("left out: %s", what, extra={"stream": self._stream.name})
        self._status.say(
            "source",
            stream=self._stream.name,
            width=source.video.width,
            height=source.video.height,
            rate=float(source.rate or 0),
            frames=source.expected_frames,
            sound=[track.codec_context.name for track in source.audio],
        )
        self._greet(hello, blobs)
        if self._feed.epoch is not None:
            source.start()
            self._loop()
        self._hub.close()
        return self._verdict()

    def _push(self, frame: m.Frame, payload: bytes) -> bool:
        return self._frames.send(encode(frame), payload)

    def _greet(self, hello: m.Hello, blobs: bytes) -> None:
        self._greeting = (encode(hello), blobs)
        while self._feed.epoch is None and not self._stopper.draining:
            now = time.monotonic()
            if now >= self._next_hello:
                self._media.send(*self._greeting)
                self._next_hello = now + HELLO_S
                self._watch_sink(now)
            self._poller.wait(HELLO_S)
            self._receive(time.monotonic())

    def _loop(self) -> None:
        give_up: float | None = None
        busy, heard = False, 0.0
        while self._closed is None:
            now = time.monotonic()
            if not busy or now >= heard + RECEIVE_S:
                heard = now
                self._receive(now)
            if self._stopper.draining and give_up is None:
                give_up = now + GRACE_S
                self._source.stop()
                self._end("interrupted", now)
            if give_up is not None and now > give_up:
                log.error(
                    "left with %d frames unresolved and %d messages unsent",
                    self._feed.window.unresolved,
                    self._feed.link.unsent,
                )
                return
            busy = self._advance(now)
            self._flush(now)
            self._progress(now)
            self._watch_sink(now)
            if not busy and self._closed is None:
                self._poller.wait(0.002 if self._feed.link.unsent or self._resend else 0.05)

    def _advance(self, now: float) -> bool:
        """One step of work; False where there is none to be done now."""
        feed = self._feed
        if self._ended:
            return False
        if not feed.idle:
            return feed.announce(now)
        if feed.link.full:
            feed.waits_for = "sink"
            return False
        one = self._source.take()
        if one is not None:
            feed.take(one, now)
            return True
        if self._source.drained:
            self._end(str(self._source.error or ""), now)
        return False

    def _end(self, reason: str, now: float) -> None:
        if not self._ended:
            self._ended = True
            self._feed.end(reason, now)

    def _receive(self, now: float) -> None:
        for parts in drain(self._media, BURST):
            try:
                message, _ = self._read_media.decode(parts)
            except PeerError as error:
                self._refused.warn(error.kind, f"refused a message of the sink: {error}")
                continue
            self._heard = now
            self._on_sink(message, now)
        for parts in drain(self._news, BURST):
            try:
                news, _ = self._read_news.decode(parts)
            except PeerError as error:
                self._refused.warn(error.kind, f"refused news of the broker: {error}")
                continue
            self._feed.served(news.models.get(self._stream.model))
            if self._feed.epoch is not None:
                self._resend.extend(self._feed.window.news(news, self._stream.name, self._feed.epoch, now))
        if self._feed.epoch is not None:
            self._resend.extend(self._feed.window.tick(now))
            self._feed.link.tick(now)

    def _on_sink(self, message: m.ToProducer, now: float) -> None:
        feed = self._feed
        if isinstance(message, m.Welcome):
            if message.session == self._session and feed.epoch is None:
                feed.welcome(message.epoch, message.media)
        elif feed.epoch is None or message.epoch != feed.epoch or message.stream != self._stream.name:
            self._refused.counts["other_epoch"] = self._refused.counts.get("other_epoch", 0) + 1
        elif isinstance(message, m.Ack) and message.link < feed.link.acknowledged:
            raise LinkError(RESTARTED)
        elif isinstance(message, m.Ack):
            feed.link.ack(message.link, message.gap, now)
            feed.window.ack(message, now)
        elif isinstance(message, m.Closed):
            self._closed = message
        else:
            raise LinkError(RESTARTED)

    def _flush(self, now: float) -> None:
        while self._resend:
            header, payload = self._resend[0]
            if self._feed.window.waits(header) and not self._push(header, payload):
                break
            self._resend.popleft()
        while (message := self._feed.link.peek()) is not None:
            parts = (encode(message.header), message.payload) if message.payload else (encode(message.header),)
            if not self._media.send(*parts):
                return
            self._feed.link.sent()

    def _progress(self, now: float) -> None:
        if now < self._next_progress:
            return
        self._next_progress = now + PROGRESS_S
        window = self._feed.window
        self._status.say(
            "progress",
            stream=self._stream.name,
            announced=self._feed.index + 1,
            in_flight=window.unanswered,
            unresolved=window.unresolved,
            waits_for=self._feed.waits_for,
            resent=window.resent,
        )

    def _watch_sink(self, now: float) -> None:
        if now - self._heard > (STARTING_S if self._feed.epoch is None else SILENT_S):
            self._refused.warn("sink_silent", f"the sink at {self._fleet.sink.media} does not answer")
        if self._feed.epoch is not None and now > max(self._heard + AGAIN_S, self._next_hello):
            self._media.send(*self._greeting)
            self._next_hello = now + AGAIN_S

    def _verdict(self) -> int:
        source, frames = self._source, self._feed.index + 1
        if self._stopper.draining:
            return 0 if self._closed is not None else 1
        if source.error is not None:
            raise source.error
        if frames == 0:
            raise SourceError(f"no picture of {self._stream.source} could be decoded")
        if cut := cut_short(source):
            raise SourceError(cut)
        return 0
