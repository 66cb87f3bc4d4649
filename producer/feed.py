"""Packets become link messages and pictures; pictures become Frames and Notices. The producer's hands.

Fate rules (DESIGN §2, §4): lossless waits until the window, the model and the broker have room; live never waits, it
announces the frame as ``window_full`` with the reason and goes on, and what the link has no room for as ``gap``. The
Frame goes out before its Notice. A sink that begins a new epoch gets everything again from the index that it names.
A source that is opened again goes on in the same epoch: a Change tells the sink of its tracks before the first packet.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from fractions import Fraction

import av
from av.video.codeccontext import VideoCodecContext

from common import messages as m
from common.config import Stream
from common.errors import SourceError
from common.metrics import Histogram
from common.picture import turn
from common.wire import MAX_PAYLOAD
from producer.decoding import Decoding, Picture
from producer.gaps import Gaps
from producer.letters import Letters, Shown
from producer.link import MAX_BEHIND_S, Link
from producer.pace import Pace
from producer.prepare import Preparer
from producer.replay import Kept
from producer.source import Demuxed, Source
from producer.timeline import Timeline
from producer.window import Window


class NotReached(Exception):
    """The picture to go on with did not come out of what was kept."""


class Feed:
    """One stream's way from demuxed packets to numbered messages.

    ``push`` hands a Frame to the broker and says whether it was taken.
    """

    def __init__(self, stream: Stream, sink: str, source: Source, push: Callable[[m.Frame, bytes], bool]) -> None:
        self._stream, self._sink, self._push = stream, sink, push
        self._live = stream.mode == "live"
        self._lossy = self._live or not source.rereadable  # what is gone is gone: it cannot be read again
        self._decoding = Decoding(stream, source)
        self._again: deque[Kept] = deque()  # packets that are taken once more, before the source's next
        # Bounded by the decoder's delay: no packet is taken while it holds any.
        self._pictures: deque[Picture] = deque()
        self._untold: tuple[m.Hello, bytes] | None = None  # the source was opened again, and the sink does not know
        self.epoch: int | None = None
        self.spec: m.InputSpec | None = None
        self._preparer: Preparer | None = None
        #: Why the last :meth:`announce` had to wait, "" where it did not.
        self.waits_for = ""
        self.gaps = 0  #: frames that were announced as gaps
        #: Frames announced, by their fate, over all epochs.
        self.fates: Counter[str] = Counter()
        self.prepared = Histogram()  #: seconds that it took to make a picture ready for the model
        self._begin(0, True, 0)

    def _begin(self, epoch: int, media: bool, resume: int) -> None:
        """A new epoch: numbers, window and gaps start anew."""
        budget = self._stream.latency if self._live else None
        self.media = media
        self.window = Window(self._stream.window, self._stream.window_bytes, Pace(self._stream.in_flight, budget))
        self.link = Link(max_behind=MAX_BEHIND_S) if self._live else Link()
        self._letters = Letters(self._stream.name, epoch, self.base, self.link, resume)
        self._gaps = Gaps()
        self._forwarded = False  # a packet of the present source
        self._packet_bytes = 0  # of packets since the last announced frame
        #: Still on the way to the first picture that is wanted: packets are kept, none is forwarded.
        self.catching_up = False

    def welcome(self, epoch: int, media: bool, resume: int = 0, counts_on: bool = False) -> None:
        """The first Welcome of a fresh feed. Pictures before ``resume`` are not announced. ``counts_on``: the source
        does not give them again, its first picture has that index (a live source)."""
        self._begin(epoch, media, resume)
        self.epoch = epoch
        if counts_on:
            self._decoding.next_index = resume
        else:
            self.catching_up = resume > 0

    def restart(
        self,
        epoch: int,
        media: bool,
        resume: int,
        decoder: VideoCodecContext,
        untold: tuple[m.Hello, bytes] | None = None,
    ) -> bool:
        """The sink has begun a new epoch and wants all from picture ``resume`` on. False: that is no longer kept.
        ``untold``: its tracks, where the sink may have begun with others."""
        if resume > self._decoding.next_index:
            return False
        replay = self._decoding.replay
        again = replay.since(resume)
        if again is None and not self._lossy:
            return False
        self._begin(epoch, media, resume)
        self.epoch, self._untold = epoch, untold
        self._decoding.restart(decoder)
        self._pictures.clear()
        self._again = deque(replay.rest() if again is None else again)
        for kept in self._again:
            kept.link = None
        return True

    def flush(self, now: float) -> None:
        """The source is gone: what the decoder holds comes out, at both ends."""
        if not self._decoding.flushed:
            self._use(self._decoding.replay.put(0, av.Packet(), at=now), now)

    def change(self, source: Source, hello: tuple[m.Hello, bytes], at: float | None) -> None:
        """The source was opened again, after :meth:`flush` and when no picture waits. Its tracks are those of
        ``hello``; ``at``: as :meth:`Timeline.opened` has it."""
        assert self.idle
        self._decoding.change(source, at)
        self._again.clear()
        self._forwarded, self._untold = False, hello

    def filler(self, text: str, away: float, now: float) -> None:
        """The source is away: show a placeholder now."""
        if self.media and not self.link.full(now) and (stamp := self.timeline.filler(now)) is not None:
            self._letters.filler(stamp, text, away, now)

    def served(self, spec: m.InputSpec | None) -> None:
        """What the model wants to be sent; None: no live worker serves it."""
        if spec is not None and self._stream.send_size:
            spec = m.InputSpec(*self._stream.send_size, letterbox=spec.letterbox)
        if spec != self.spec:
            self.spec = spec
            self._preparer = Preparer(spec, self._stream.codec, self._stream.quality) if spec else None

    def durable(self, index: int) -> None:
        """The sink will never ask for the pictures up to ``index`` again."""
        self._decoding.replay.durable(index)

    @property
    def base(self) -> Fraction:
        """Time base of the output's times, in seconds."""
        return self._decoding.base

    @property
    def timeline(self) -> Timeline:
        return self._decoding.timeline

    @property
    def threads(self) -> int:
        """Of the decoder."""
        return self._decoding.threads

    @property
    def index(self) -> int:
        """The last index announced."""
        return self._letters.index

    @property
    def idle(self) -> bool:
        """No decoded picture waits."""
        return not self._pictures

    @property
    def replaying(self) -> bool:
        """Packets wait that were taken before."""
        return bool(self._again)

    def replay(self, now: float) -> None:
        """Take the next packet once more."""
        self._use(self._again.popleft(), now)

    def take(self, one: Demuxed, now: float) -> None:
        """Forward a packet to the sink; decode it where it is of the picture. Raises SourceError."""
        if one.track and not self.media:
            return
        if one.packet.size > MAX_PAYLOAD:
            raise SourceError(
                f"a packet of {one.packet.size >> 20} MiB is too large: {MAX_PAYLOAD >> 20} MiB may be sent"
            )
        kept = self._decoding.take(one)
        if kept is not None:
            self._use(kept, now)

    def _use(self, kept: Kept, now: float) -> None:
        packet = kept.packet
        left_out = self._live and self._gaps.leaves_out(kept.number, kept.starts, self.link.full(now))
        if not packet.size:  # the end costs nothing, and brings what the sink's decoder still holds
            left_out = not self._forwarded
        if self.media and not self.catching_up and not left_out:
            self._forward(kept, now)
        if not kept.track:
            self._packet_bytes += packet.size
            for picture in self._decoding.pictures(kept, self.replaying, now):
                self._came(picture, now)

    def _forward(self, kept: Kept, now: float) -> None:
        if self._untold is not None:
            # Only when something follows: a source that comes and goes while the sink is away would fill the link.
            self._letters.change(*self._untold, now)
            self._untold = None
        self._letters.packet(kept, now)
        self._forwarded = True

    def _came(self, picture: Picture, now: float) -> None:
        """A picture was decoded: for the first time, or again."""
        if picture.known.index <= self.index:
            return
        if self.catching_up:
            self.catching_up = False
            replay = self._decoding.replay
            again = replay.since(picture.known.index)
            for earlier in (replay.rest() if again is None else again) if self.media else ():
                self._forward(earlier, now)
        self._pictures.append(picture)

    def announce(self, now: float) -> bool:
        """Announce the first waiting picture. False: it has to wait (lossless), for ``waits_for``.

        Raises NotReached where a picture before it is missing that can be had by reading the source again.
        """
        picture = self._pictures[0]
        self.waits_for = ""
        if (missing := picture.known.index - self.index - 1) > 0:
            if not self._lossy:
                raise NotReached
            self.gaps += missing
            self.fates["gap"] += missing
            self._letters.missing(missing, picture.known.stamp, now)
        if self._is_gap(picture, now):
            self._pictures.popleft()
            self.gaps += 1
            self.fates["gap"] += 1
            self._letters.gap(picture.known.stamp, now)
            return True
        if not self._live and not self.window.room:
            self.waits_for = "sink"
            return False
        fate: m.Fate = "not_sampled"
        reason = ""
        if picture.known.damaged:
            fate, reason = "corrupt", "corrupt"
        elif picture.known.wanted:
            obstacle = self._send(picture, now)
            if obstacle and not self._live:
                self.waits_for = obstacle
                return False
            fate, reason = ("window_full", obstacle) if obstacle else ("sent", "")
        self._pictures.popleft()
        if fate != "sent":
            self.window.announce(picture.known.index, self._packet_bytes)
        self._packet_bytes = 0
        kept = picture.kept
        link, seconds = (kept.link, max(0.0, now - kept.at)) if kept is not None else (None, 0.0)
        shown = Shown(picture.frame.pts, link, turn(picture.frame), seconds)
        self._letters.picture(shown, picture.known.stamp, fate, reason, now)
        self.fates[fate] += 1
        return True

    def _is_gap(self, picture: Picture, now: float) -> bool:
        """Whether the sink cannot have this picture, or where it gets none, its notice."""
        if not self._live or picture.kept is None:
            return False
        if not self.media:
            return self.link.full(now)
        return self._gaps.hides(picture.kept.number, picture.kept.starts, picture.kept.link is not None)

    def _send(self, picture: Picture, now: float) -> str:
        """Send the picture to the model. Returns what stands in the way, "" where nothing does."""
        if self._preparer is None:
            return "no_worker"
        if not self.window.room_to_send:
            return "window_full"
        if picture.prepared is None:
            began = time.perf_counter()
            picture.prepared = self._preparer(picture.frame)
            self.prepared.observe(time.perf_counter() - began)
        payload, source, size = picture.prepared
        header = m.Frame(
            stream=self._stream.name,
            epoch=self.epoch or 0,
            index=picture.known.index,
            model=self._stream.model,
            sink=self._sink,
            source=source,
            size=size,
            codec=self._stream.codec,
            budget=self._stream.latency if self._live else None,
        )
        if not self._push(header, payload):
            return "broker_full"
        self.window.announce(header.index, len(payload) + self._packet_bytes)
        self.window.sent(header, payload, now)
        return ""

    def end(self, reason: str, now: float) -> None:
        """Nothing follows."""
        self._pictures.clear()
        self._again.clear()
        self._letters.end(reason, self.timeline.repairs, now)

    def check(self) -> None:
        self.window.check()
        self.link.check()
        self._gaps.check()
        self._decoding.check()
        assert self.index < self._decoding.next_index or self.catching_up
