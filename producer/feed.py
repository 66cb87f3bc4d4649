"""Packets become link messages and pictures; pictures become Frames and Notices. The producer's hands.

Fate rules (DESIGN §2, §4): lossless waits until the window, the model and the broker have room; live never waits, it
announces the frame as ``window_full`` with the reason and goes on, and what the link has no room for as ``gap``. The
Frame goes out before its Notice. A sink that begins a new epoch gets everything again from the index that it names.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

import av
from av.video.codeccontext import VideoCodecContext

from common import messages as m
from common.config import Stream
from common.media import decode_threads, prepare_decoder
from common.picture import turn
from producer.gaps import Gaps
from producer.letters import Letters
from producer.link import MAX_BEHIND_S, Link
from producer.pace import Pace
from producer.prepare import Preparer
from producer.replay import Kept, Known, Replay
from producer.sampling import Sampler
from producer.source import Demuxed, Source
from producer.timeline import Timeline
from producer.window import Window

#: Packets whose pictures are still counted while they come: more than any decoder holds.
MAX_CURSORS = 256


@dataclass(slots=True)
class Picture:
    """A decoded picture that is not announced yet."""

    frame: av.VideoFrame
    kept: Kept | None
    known: Known
    prepared: tuple[bytes, tuple[int, int], tuple[int, int]] | None = field(default=None)


class NotReached(Exception):
    """The picture to go on with did not come out of what was kept."""


class Feed:
    """One stream's way from demuxed packets to numbered messages.

    ``push`` hands a Frame to the broker and says whether it was taken.
    """

    def __init__(self, stream: Stream, sink: str, source: Source, push: Callable[[m.Frame, bytes], bool]) -> None:
        self._stream, self._sink, self._push = stream, sink, push
        self._live = stream.mode == "live"
        self._lossy = self._live or source.live  # what is gone is gone: it cannot be read again
        video = source.video
        self.threads = decode_threads(video.width, video.height, stream.decode_threads)
        self._decoder = prepare_decoder(video, self.threads, for_model=True)
        self._base = Fraction(video.time_base or Fraction(1, 1000))
        self.timeline = Timeline(self._base, source.rate, source.start_time, rebase=source.live)
        self._sampler = Sampler(stream.every, stream.fps)
        self._replay = Replay()
        self._again: deque[Kept] = deque()  # packets that are taken once more, before the source's next
        self._cursors: dict[int, int] = {}  # packet → pictures of it that have come out of the present decoder
        self._next_index = 0  # of the next picture that is decoded for the first time
        self._last_pts: int | None = None  # of the last one that was
        # Bounded by the decoder's delay: no packet is taken while it holds any.
        self._pictures: deque[Picture] = deque()
        self.epoch: int | None = None
        self.spec: m.InputSpec | None = None
        self._preparer: Preparer | None = None
        #: Why the last :meth:`announce` had to wait, "" where it did not.
        self.waits_for = ""
        self.gaps = 0  #: frames that were announced as gaps
        self._begin(0, True, 0)

    def _begin(self, epoch: int, media: bool, resume: int) -> None:
        """A new epoch: numbers, window and gaps start anew."""
        budget = self._stream.latency if self._live else None
        self.media = media
        self.window = Window(self._stream.window, self._stream.window_bytes, Pace(self._stream.in_flight, budget))
        self.link = Link(max_behind=MAX_BEHIND_S) if self._live else Link()
        self._letters = Letters(self._stream.name, epoch, self._base, self.link, resume)
        self._gaps = Gaps()
        self._packet_bytes = 0  # of packets since the last announced frame
        #: Still on the way to the first picture that is wanted: packets are kept, none is forwarded.
        self.catching_up = False

    def welcome(self, epoch: int, media: bool, resume: int = 0, counts_on: bool = False) -> None:
        """The first Welcome of a fresh feed. Pictures before ``resume`` are not announced. ``counts_on``: the source
        does not give them again, its first picture has that index (a live source)."""
        self._begin(epoch, media, resume)
        self.epoch = epoch
        if counts_on:
            self._next_index = resume
        else:
            self.catching_up = resume > 0

    def restart(self, epoch: int, media: bool, resume: int, decoder: VideoCodecContext) -> bool:
        """The sink has begun a new epoch and wants all from picture ``resume`` on. False: that is no longer kept."""
        if resume > self._next_index:
            return False
        again = self._replay.since(resume)
        if again is None and not self._lossy:
            return False
        self._begin(epoch, media, resume)
        self.epoch, self._decoder = epoch, decoder
        self._pictures.clear()
        self._cursors.clear()
        self._again = deque(self._replay.rest() if again is None else again)
        for kept in self._again:
            kept.link = None
        return True

    def served(self, spec: m.InputSpec | None) -> None:
        """What the model wants to be sent; None: no live worker serves it."""
        if spec is not None and self._stream.send_size:
            spec = m.InputSpec(*self._stream.send_size, letterbox=spec.letterbox)
        if spec != self.spec:
            self.spec = spec
            self._preparer = Preparer(spec, self._stream.codec, self._stream.quality) if spec else None

    def durable(self, index: int) -> None:
        """The sink will never ask for the pictures up to ``index`` again."""
        self._replay.durable(index)

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
        """Forward a packet to the sink; decode it where it is of the picture."""
        if one.track and not self.media:
            return
        # Sound is shifted here; the picture's own times are the match key and stay as they are.
        shift = self.timeline.shift(Fraction(one.packet.time_base or self._base)) if one.track else 0
        self._use(self._replay.put(one.track, one.packet, shift), now)

    def _use(self, kept: Kept, now: float) -> None:
        packet = kept.packet
        left_out = self._live and self._gaps.leaves_out(kept.number, kept.starts, self.link.full(now))
        left_out = left_out and packet.size > 0  # the end costs nothing, and brings what the sink's decoder still holds
        if self.media and not self.catching_up and not left_out:
            self._letters.packet(kept, now)
        if kept.track:
            return
        self._packet_bytes += packet.size
        packet.opaque = [kept.number]
        try:
            frames = self._decoder.decode(packet if packet.size else None)
        except av.FFmpegError:  # the sink's decoder says the same
            self.timeline.repairs["undecodable_packets"] += 1
            return
        for frame in frames:
            opaque: list[int] | None = frame.opaque  # type: ignore[assignment]
            # Not every decoder hands the packet's number on.
            self._came(frame, self._replay.get(opaque[0]) if opaque else self._replay.find(frame.pts), now)

    def _came(self, frame: av.VideoFrame, kept: Kept | None, now: float) -> None:
        """A picture was decoded: for the first time, or again."""
        known = self._known(kept)
        if known is None:
            if self._again and frame.pts is not None and self._last_pts is not None and frame.pts <= self._last_pts:
                return  # damage: a fresh decoder shows what the first one did not
            stamp = self.timeline.picture(frame.pts, frame.duration or 0)
            known = Known(self._next_index, stamp, self._sampler.wants(stamp.pts * self._base))
            self._next_index += 1
            self._last_pts = frame.pts
            if kept is not None:
                kept.pictures.append(known)
                self._count(kept)
        if known.index <= self.index:
            return
        if self.catching_up:
            self.catching_up = False
            again = self._replay.since(known.index)
            for earlier in (self._replay.rest() if again is None else again) if self.media else ():
                self._letters.packet(earlier, now)
        self._pictures.append(Picture(frame, kept, known))

    def _known(self, kept: Kept | None) -> Known | None:
        """The next picture of this packet, where it has come out of an earlier decoder."""
        at = self._cursors.get(kept.number, 0) if kept is not None else 0
        if kept is None or at >= len(kept.pictures):
            return None
        self._count(kept)
        return kept.pictures[at]

    def _count(self, kept: Kept) -> None:
        self._cursors[kept.number] = self._cursors.get(kept.number, 0) + 1
        if len(self._cursors) > MAX_CURSORS:
            del self._cursors[next(iter(self._cursors))]

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
            self._letters.missing(missing, picture.known.stamp, now)
        if self._is_gap(picture, now):
            self._pictures.popleft()
            self.gaps += 1
            self._letters.gap(picture.known.stamp, now)
            return True
        if not self._live and not self.window.room:
            self.waits_for = "sink"
            return False
        fate: m.Fate = "not_sampled"
        reason = ""
        if picture.frame.is_corrupt:
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
        packet = picture.kept.link if picture.kept is not None else None
        self._letters.picture(picture.frame.pts, packet, picture.known.stamp, turn(picture.frame), fate, reason, now)
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
            picture.prepared = self._preparer(picture.frame)
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
        self.timeline.check()
        self._gaps.check()
        self._replay.check()
        assert self.index < self._next_index or self.catching_up
