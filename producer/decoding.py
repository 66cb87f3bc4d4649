"""Packets of the picture become pictures with an index and a repaired time, once and for all: decoded again after a
restart of the sink, each gets those that it had before. The producer's decoder; PyAV, no sockets.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction

import av
from av.video.codeccontext import VideoCodecContext

from common.config import Stream
from common.media import Track, decode_threads, prepare_decoder
from producer.damage import Damage
from producer.damage_h264 import FrameNumbers
from producer.replay import Kept, Known, Replay
from producer.sampling import Sampler
from producer.source import Demuxed, Source
from producer.timeline import Timeline

#: Packets whose pictures are still counted while they come: more than any decoder holds.
MAX_CURSORS = 256
#: Time base of the output of a live source: it may come back with any rate, and this divides nearly all of them.
LIVE_BASE = Fraction(1, 90_000)


@dataclass(slots=True)
class Picture:
    """A decoded picture that is not announced yet."""

    frame: av.VideoFrame
    kept: Kept | None
    known: Known
    prepared: tuple[bytes, tuple[int, int], tuple[int, int]] | None = field(default=None)


class Decoding:
    """``replay`` keeps what may have to be decoded again."""

    def __init__(self, stream: Stream, source: Source) -> None:
        self._stream = stream
        #: Time base of the output's times, in seconds.
        self.base = output_base(source)
        self.timeline = Timeline(self.base, source.live, source.start_time)
        self.replay = Replay()
        self._sampler = Sampler(stream.every, stream.fps)
        self._cursors: dict[int, int] = {}  # packet → pictures of it that have come out of the present decoder
        self._last_pts: int | None = None  # of the last picture that was decoded for the first time
        self.next_index = 0  #: of the next picture that is decoded for the first time
        self.threads = 1
        #: The decoder was told that nothing follows.
        self.flushed = False
        self._open(source, None)

    @property
    def repairs(self) -> Counter[str]:
        return self.timeline.repairs

    def _open(self, source: Source, at: float | None) -> None:
        video = source.video
        self.threads = threads_for(source, self._stream)
        self._decoder = prepare_decoder(video, self.threads, for_model=True)
        sounds = [(base_of(track), _length(track)) for track in source.audio]
        codec = video.codec_context
        self._damage = Damage(codec.name)
        self._numbers = FrameNumbers(codec.extradata or b"") if codec.name == "h264" else None
        self._told = -1  # the last packet that the two were told of
        self.timeline.opened(source.video_time_base, source.rate, sounds, source.discontinuous, at)
        self.flushed = False

    def change(self, source: Source, at: float | None) -> None:
        """The source was opened again; ``at``: as :meth:`Timeline.opened` has it."""
        self._open(source, at)
        self.replay.begin(self.next_index)
        self._cursors.clear()
        self._last_pts = None

    def restart(self, decoder: VideoCodecContext) -> None:
        """Packets will be taken again, by a fresh decoder."""
        self._decoder, self.flushed = decoder, False
        self._cursors.clear()

    def take(self, one: Demuxed) -> Kept | None:
        """Keep the source's next packet. None: a packet of sound that has no place."""
        time: int | None = None
        if one.track and one.packet.size:
            # Sound is repaired here; the picture's own times are the match key and stay as they are.
            time = self.timeline.sound(one.track - 1, one.packet.pts, one.packet.duration or 0, one.at)
            if time is None:
                return None
        return self.replay.put(one.track, one.packet, time, one.at)

    def pictures(self, kept: Kept, again: bool, now: float) -> list[Picture]:
        """What comes out of the decoder with this packet of the picture. ``again``: more will follow that was taken
        before."""
        packet = kept.packet
        packet.opaque = [kept.number]
        self.flushed = not packet.size
        if packet.size and kept.number > self._told:
            self._told = kept.number
            hole = self._numbers is not None and self._numbers.hole(bytes(packet))
            self._damage.packet(kept.number, kept.starts, packet.is_corrupt, hole)
        try:
            frames = self._decoder.decode(packet if packet.size else None)
        except av.FFmpegError:  # the sink's decoder says the same
            self.repairs["undecodable_packets"] += 1
            self._damage.refused(kept.number)
            return []
        came = []
        for frame in frames:
            opaque: list[int] | None = frame.opaque  # type: ignore[assignment]
            # Not every decoder hands the packet's number on.
            origin = self.replay.get(opaque[0]) if opaque else self.replay.find(frame.pts)
            known = self._known(origin) or self._new(frame, origin, again, now)
            if known is not None:
                came.append(Picture(frame, origin, known))
        return came

    def _new(self, frame: av.VideoFrame, kept: Kept | None, again: bool, now: float) -> Known | None:
        """A picture that is decoded for the first time gets its index and its time."""
        if again and frame.pts is not None and self._last_pts is not None and frame.pts <= self._last_pts:
            return None  # damage: a fresh decoder shows what the first one did not
        stamp = self.timeline.picture(frame.pts, frame.duration or 0, kept.at if kept is not None else now)
        time = stamp.pts * self.base
        known = Known(self.next_index, stamp, self._sampler.wants(time), self._is_damaged(frame, kept, time))
        self.next_index += 1
        self._last_pts = frame.pts
        if kept is not None:
            kept.pictures.append(known)
            self._count(kept)
        return known

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

    def _is_damaged(self, frame: av.VideoFrame, kept: Kept | None, time: Fraction) -> bool:
        number, starts = (kept.number, kept.starts) if kept is not None else (None, False)
        return self._damage.picture(number, starts, bool(frame.key_frame), frame.is_corrupt, float(time))

    def check(self) -> None:
        self.timeline.check()
        self.replay.check()
        self._damage.check()


def threads_for(source: Source, stream: Stream) -> int:
    """Decoder threads, at both ends."""
    return decode_threads(source.video.width, source.video.height, stream.decode_threads)


def output_base(source: Source) -> Fraction:
    """Time base of the output's times, in seconds."""
    return LIVE_BASE if source.live else base_of(source.video)


def base_of(track: Track) -> Fraction:
    """Time base of a track's packets, in seconds."""
    return Fraction(track.time_base or Fraction(1, 1000))


def _length(track: Track) -> Fraction | None:
    """Usual length of a sound packet, in seconds."""
    samples, rate = getattr(track.codec_context, "frame_size", 0), getattr(track.codec_context, "sample_rate", 0)
    return Fraction(samples, rate) if samples and rate else None
