"""What an honest producer says of a clip on the media link, made from the protocol alone."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from common import messages as m
from common.media import pack, prepare_decoder, to_packet

#: Epoch in recorded messages; a session puts its own in.
NO_EPOCH = 0
Spoken = tuple[m.Packet | m.Notice | m.Change | m.Filler | m.End, bytes]


@dataclass(frozen=True, slots=True)
class Speech:
    """A session from Hello to End; every frame counts as sent."""

    hello: m.Hello
    carriers: list[bytes]
    messages: list[Spoken]
    frames: int


def speech_of(clip: Path, stream: str, mode: m.Mode = "lossless") -> Speech:
    """The session of ``clip``. Raises UncarriedCodec."""
    with av.open(str(clip)) as container:
        video = container.streams.video[0]
        tracks: list[VideoStream | AudioStream] = [video, *container.streams.audio]
        infos, carriers = [], []
        for track in tracks:
            carrier, blob = pack(track)
            carriers.append(blob)
            base = Fraction(track.time_base or 1)
            infos.append(
                m.TrackInfo(
                    kind="video" if track is video else "audio",
                    codec=track.codec_context.name,
                    carrier=carrier,
                    size=len(blob),
                    time_base=(base.numerator, base.denominator),
                )
            )
        hello = m.Hello(
            stream=stream, session="x", mode=mode, latency=0.2, model="echo", tracks=infos,
            video=m.VideoInfo(width=video.width, height=video.height, time_base=infos[0].time_base, rate=(25, 1)),
        )  # fmt: skip
        talk = _Talk(hello, video)
        for packet in container.demux(tracks):
            if packet.size:  # (the decoders are flushed below)
                talk.packet(packet, tracks.index(packet.stream))  # type: ignore[arg-type]
        talk.end()
    return Speech(hello, carriers, talk.messages, talk.index)


class _Talk:
    def __init__(self, hello: m.Hello, video: VideoStream) -> None:
        self._hello = hello
        self._decoder = prepare_decoder(video, hello.threads)
        self._base = Fraction(*hello.video.time_base)
        self.messages: list[Spoken] = []
        self.index = 0

    @property
    def _link(self) -> int:
        return len(self.messages) + 1

    def packet(self, packet: av.Packet, track: int) -> None:
        base = Fraction(packet.time_base)
        header = m.Packet(
            stream=self._hello.stream, epoch=NO_EPOCH, link=self._link, track=track, pts=packet.pts, dts=packet.dts,
            duration=packet.duration or 0, time_base=(base.numerator, base.denominator), key=packet.is_keyframe,
        )  # fmt: skip
        self.messages.append((header, bytes(packet)))
        if track == 0:
            self._decode(to_packet(header, bytes(packet)))

    def _decode(self, packet: av.Packet | None) -> None:
        for picture in self._decoder.decode(packet):
            number = picture.opaque[0] if picture.opaque else None  # type: ignore[index]
            notice = m.Notice(
                stream=self._hello.stream, epoch=NO_EPOCH, link=self._link, index=self.index, pts=picture.pts,
                packet=number, out=round(Fraction(self.index, 25) / self._base), fate="sent",
                duration=round(Fraction(1, 25) / self._base),
            )  # fmt: skip
            self.messages.append((notice, b""))
            self.index += 1

    def end(self) -> None:
        flush = m.Packet(
            stream=self._hello.stream, epoch=NO_EPOCH, link=self._link, track=0, time_base=self._hello.video.time_base
        )
        self.messages.append((flush, b""))
        self._decode(None)
        self.messages.append(
            (m.End(stream=self._hello.stream, epoch=NO_EPOCH, link=self._link, last=self.index - 1), b"")
        )
