"""Packets become link messages and pictures; pictures become Frames and Notices. The producer's hands.

Fate rules (DESIGN §2, §4): lossless waits until the window, the model and the broker have room; live never waits, it
announces the frame as ``window_full`` with the reason and goes on. The Frame goes out before its Notice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

import av

from common import messages as m
from common.config import Stream
from common.media import decode_threads, prepare_decoder
from common.picture import turn
from producer.link import Link
from producer.pace import Pace
from producer.prepare import Preparer
from producer.sampling import Sampler
from producer.source import Demuxed, Source
from producer.timeline import Stamp, Timeline
from producer.window import Window


@dataclass(slots=True)
class Picture:
    """A decoded picture that is not announced yet."""

    frame: av.VideoFrame
    packet: int | None
    stamp: Stamp
    wanted: bool
    turn: int
    prepared: tuple[bytes, tuple[int, int], tuple[int, int]] | None = field(default=None)


class Feed:
    """One stream's way from demuxed packets to numbered messages.

    ``push`` hands a Frame to the broker and says whether it was taken.
    """

    def __init__(self, stream: Stream, sink: str, source: Source, push: Callable[[m.Frame, bytes], bool]) -> None:
        self._stream, self._sink, self._source, self._push = stream, sink, source, push
        video = source.video
        self.threads = decode_threads(video.width, video.height, stream.decode_threads)
        self._decoder = prepare_decoder(video, self.threads, for_model=True)
        self._base = Fraction(video.time_base or Fraction(1, 1000))
        self.timeline = Timeline(self._base, source.rate, source.start_time, rebase=source.live)
        self._sampler = Sampler(stream.every, stream.fps)
        budget = stream.latency if stream.mode == "live" else None
        self.window = Window(stream.window, stream.window_bytes, Pace(stream.in_flight, budget))
        self.link = Link()
        self._pictures: deque[Picture] = (
            deque()
        )  # bounded by the decoder's delay: no packet is taken while it holds any
        self._packet_bytes = 0  # of packets since the last announced frame
        self.epoch: int | None = None
        self.media = True
        self.index = -1  # the last index announced
        self.spec: m.InputSpec | None = None
        self._preparer: Preparer | None = None
        #: Why the last :meth:`announce` had to wait, "" where it did not.
        self.waits_for = ""

    def welcome(self, epoch: int, media: bool) -> None:
        self.epoch, self.media = epoch, media

    def served(self, spec: m.InputSpec | None) -> None:
        """What the model wants to be sent; None: no live worker serves it."""
        if spec is not None and self._stream.send_size:
            spec = m.InputSpec(*self._stream.send_size, letterbox=spec.letterbox)
        if spec != self.spec:
            self.spec = spec
            self._preparer = Preparer(spec, self._stream.codec, self._stream.quality) if spec else None

    @property
    def idle(self) -> bool:
        """No decoded picture waits."""
        return not self._pictures

    def take(self, one: Demuxed, now: float) -> None:
        """Forward a packet to the sink; decode it where it is of the picture."""
        packet, number = one.packet, None
        if self.media and (packet.size or one.track == 0):
            number = self._forward(one, now)
        if one.track:
            return
        self._packet_bytes += packet.size
        packet.opaque = [number]
        try:
            frames = self._decoder.decode(packet if packet.size else None)
        except av.FFmpegError:  # the sink's decoder says the same
            self.timeline.repairs["undecodable_packets"] += 1
            return
        for frame in frames:
            stamp = self.timeline.picture(frame.pts, frame.duration or 0)
            opaque: list[int | None] | None = frame.opaque  # type: ignore[assignment]
            wanted = self._sampler.wants(stamp.pts * self._base)
            self._pictures.append(Picture(frame, opaque[0] if opaque else None, stamp, wanted, turn(frame)))

    def _forward(self, one: Demuxed, now: float) -> int:
        packet = one.packet
        base = Fraction(packet.time_base or self._base)
        # Sound is shifted here; the picture's own times are the match key and stay as they are.
        shift = self.timeline.shift(base) if one.track else 0

        def header(number: int) -> m.Packet:
            return m.Packet(
                stream=self._stream.name,
                epoch=self.epoch or 0,
                link=number,
                track=one.track,
                pts=None if packet.pts is None else packet.pts + shift,
                dts=None if packet.dts is None else packet.dts + shift,
                duration=packet.duration or 0,
                time_base=(base.numerator, base.denominator),
                key=packet.is_keyframe,
                corrupt=packet.is_corrupt,
                discard=packet.is_discard,
            )

        return self.link.put(header, bytes(packet) if packet.size else b"", now)

    def announce(self, now: float) -> bool:
        """Announce the first waiting picture. False: it has to wait (lossless), for ``waits_for``."""
        picture = self._pictures[0]
        lossless = self._stream.mode == "lossless"
        self.waits_for = ""
        if lossless and not self.window.room:
            self.waits_for = "sink"
            return False
        fate: m.Fate = "not_sampled"
        reason = ""
        if picture.frame.is_corrupt:
            fate, reason = "corrupt", "corrupt"
        elif picture.wanted:
            obstacle = self._send(picture, now)
            if obstacle and lossless:
                self.waits_for = obstacle
                return False
            fate, reason = ("window_full", obstacle) if obstacle else ("sent", "")
        self._pictures.popleft()
        self._notice(picture, fate, reason, now)
        return True

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
            index=self.index + 1,
            model=self._stream.model,
            sink=self._sink,
            source=source,
            size=size,
            codec=self._stream.codec,
            budget=self._stream.latency if self._stream.mode == "live" else None,
        )
        if not self._push(header, payload):
            return "broker_full"
        self.window.announce(header.index, len(payload) + self._packet_bytes)
        self.window.sent(header, payload, now)
        return ""

    def _notice(self, picture: Picture, fate: m.Fate, reason: str, now: float) -> None:
        self.index += 1
        if fate != "sent":
            self.window.announce(self.index, self._packet_bytes)
        self._packet_bytes = 0

        def header(number: int) -> m.Notice:
            return m.Notice(
                stream=self._stream.name,
                epoch=self.epoch or 0,
                link=number,
                index=self.index,
                pts=picture.frame.pts,
                packet=picture.packet,
                out=picture.stamp.pts,
                duration=picture.stamp.duration,
                turn=picture.turn,  # type: ignore[arg-type]
                fate=fate,
                reason=reason,
            )

        self.link.put(header, b"", now)

    def end(self, reason: str, now: float) -> None:
        """Nothing follows."""
        self._pictures.clear()
        self.link.put(
            lambda number: m.End(
                stream=self._stream.name,
                epoch=self.epoch or 0,
                link=number,
                last=self.index,
                reason=reason,
                repairs=dict(self.timeline.repairs),
            ),
            b"",
            now,
        )

    def check(self) -> None:
        self.window.check()
        self.link.check()
        self.timeline.check()
