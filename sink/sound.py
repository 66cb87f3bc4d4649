"""Sound beside the picture: copied where the container takes it, else AAC; held until its picture is written.

The lists say what is copied: some pairs fail in the muxer, and some abort the process (DESIGN §6).
"""

from __future__ import annotations

import io
import logging
from collections import deque
from collections.abc import Iterator
from fractions import Fraction

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from msgspec.structs import replace

from common.messages import Packet

#: Decoder names whose packets a container takes as they are.
COPIED: dict[str, frozenset[str]] = {
    "mp4": frozenset({"aac", "mp3", "mp3float", "ac3", "eac3", "flac", "opus", "libopus", "alac"}),
    "mkv": frozenset(
        {"aac", "mp3", "mp3float", "mp2", "mp2float", "ac3", "eac3", "flac", "opus", "libopus", "vorbis", "alac", "dca"}
        | {"truehd", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le"}
    ),
    "ts": frozenset({"aac", "mp3", "mp3float", "mp2", "mp2float", "ac3", "eac3", "opus", "libopus", "dca"}),
}
#: Encoders that can make a packet of silence for a track that is copied into MP4; others have none.
SILENT = {"aac": "aac", "mp3": "libmp3lame", "mp3float": "libmp3lame", "ac3": "ac3", "eac3": "eac3", "flac": "flac",
          "opus": "libopus", "libopus": "libopus", "alac": "alac"}  # fmt: skip
#: PyAV 18.1 ends the process when the planes of a frame with more channels are asked for.
MAX_PLANES = 7
#: AAC: bits a second for each channel, samples a frame, and the rates that it knows (ISO/IEC 14496-3 table 1.18).
AAC_BITS, AAC_FRAME = 96_000, 1024
AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
#: Most sound that waits for its picture; beyond, the oldest goes on ahead.
MAX_HELD_PACKETS, MAX_HELD_BYTES = 8192, 16 * 2**20
#: Most sound that is kept while no picture is written at all; beyond, the oldest is left out and counted. That is over
#: an hour of AAC.
MAX_KEPT_PACKETS, MAX_KEPT_BYTES = 2**18, 256 * 2**20
#: Longest jump within a track, and from the picture to its first packet, in seconds; longest packet. MP4 has 32 bits
#: for a duration, which is three hours at 192 kHz.
MAX_JUMP_S = 7200

log = logging.getLogger(__name__)


class Sound:
    """One sound track in the forms that the outputs need. Packets go in once and come out in each form."""

    def __init__(self, track: AudioStream, kinds: set[str]) -> None:
        self._track = track
        self.name = track.codec_context.name  # what it is, whatever it was announced as
        kept = sorted(kind for kind in kinds if self.name not in COPIED[kind])
        self._encoder = _Aac(track) if kept else None
        if kept:
            log.info("sound %s is re-encoded to AAC for %s", self.name, ", ".join(kept))

    def copied(self, kind: str) -> bool:
        """Whether an output of this kind takes the source's packets."""
        return self.name in COPIED[kind]

    def template(self, kind: str) -> AudioStream:
        """What a container of this kind makes its stream from."""
        return self._track if self.copied(kind) else self._aac.template

    def encoded(self, packet: av.Packet | None) -> list[av.Packet]:
        """The packet (None: the end) as AAC, where any output needs that."""
        return list(self._encoder.encode(packet)) if self._encoder is not None else []

    def silence(self, kind: str) -> av.Packet | None:
        """One packet of silence in this container's form of the track, None where nobody can make it."""
        name = SILENT.get(self.name, "") if self.copied(kind) else "aac"
        context = self.template(kind).codec_context
        try:
            return _silent_packet(name, context.sample_rate, context.layout.name)
        except (av.FFmpegError, ValueError) as error:
            log.info("no silence for %s: %s", self.name, error)
            return None

    @property
    def _aac(self) -> _Aac:
        assert self._encoder is not None
        return self._encoder


class _Aac:
    """Decodes a track and encodes it as AAC."""

    def __init__(self, track: AudioStream) -> None:
        self._decoder = track.codec_context
        self._base = Fraction(track.time_base or Fraction(1, 1000))
        rate = self._decoder.sample_rate
        rate = rate if rate in AAC_RATES else min(AAC_RATES, key=lambda one: abs(one - rate))
        layout = self._decoder.layout.name
        self._codec = _open_aac(rate, layout if "channels" not in layout else _plain(self._decoder.channels))
        self._resampler = AudioResampler(self._codec.format, self._codec.layout, rate, AAC_FRAME)
        self.template = _aac_template(self._codec)
        self.errors = 0

    def encode(self, packet: av.Packet | None) -> Iterator[av.Packet]:
        try:
            frames = self._decoder.decode(packet)
            if packet is not None:
                for frame in frames:
                    frame.time_base = packet.time_base
            resampled = [one for frame in frames for one in self._resampler.resample(frame)]
            if packet is None:
                resampled += self._resampler.resample(None)
            for frame in resampled:
                yield from self._codec.encode(frame)
            if packet is None:
                yield from self._codec.encode(None)
        except (av.FFmpegError, ValueError) as error:  # a damaged packet costs its sound
            self.errors += 1
            if self.errors == 1:
                log.warning("damaged sound is left out: %s", error)


def _silent_packet(name: str, rate: int, layout: str) -> av.Packet:
    codec = av.CodecContext.create(name, "w")
    assert isinstance(codec, AudioCodecContext)
    formats = codec.codec.audio_formats
    codec.sample_rate, codec.layout, codec.time_base = rate, layout, Fraction(1, rate)
    codec.format = formats[0] if formats else "s16"
    codec.open()
    if codec.channels > MAX_PLANES:
        raise ValueError(f"{codec.channels} channels are too many")
    frame = av.AudioFrame(codec.format.name, layout, codec.frame_size or AAC_FRAME)
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    frame.sample_rate, frame.pts = rate, 0
    packet = [*codec.encode(frame), *codec.encode(None)][0]
    packet.time_base = Fraction(1, rate)
    return packet


def _plain(channels: int) -> str:
    return {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}.get(channels, "stereo")


def _open_aac(rate: int, layout: str) -> AudioCodecContext:
    codec = av.CodecContext.create("aac", "w")
    assert isinstance(codec, AudioCodecContext)
    codec.sample_rate, codec.layout, codec.format = rate, layout, "fltp"
    codec.time_base = Fraction(1, rate)
    codec.bit_rate = AAC_BITS * codec.channels
    codec.flags |= av.codec.context.Flags.global_header
    codec.open()
    return codec


def _aac_template(codec: AudioCodecContext) -> AudioStream:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="nut") as nut:
        stream = nut.add_stream("aac", rate=codec.sample_rate)
        stream.layout = codec.layout.name
        stream.codec_context.extradata = codec.extradata
        packet = av.Packet(b"\0" * 16)
        packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, 0, 0, True
        packet.time_base = Fraction(1, codec.sample_rate)
        nut.mux(packet)
    buffer.seek(0)
    return av.open(buffer, format="nut").streams.audio[0]


class SoundGate:
    """Holds sound until the picture of its time is written, so that files are interleaved well. Pure.

    Sound whose time is far from all that surrounds it is left out: muxers fail on it, and some end the process.
    """

    def __init__(self, max_packets: int = MAX_HELD_PACKETS, max_bytes: int = MAX_HELD_BYTES) -> None:
        self._held: deque[tuple[Fraction, Packet, bytes]] = deque()
        self._bytes = 0
        self._max_packets, self._max_bytes = max_packets, max_bytes
        self._picture = Fraction(0)  # time of the last picture
        self._last: dict[int, Fraction] = {}  # track → time of its last packet that was let through
        self.forced = 0
        self.dropped = 0

    def put(self, packet: Packet, payload: bytes) -> None:
        stamp = packet.pts if packet.pts is not None else packet.dts
        time = stamp * Fraction(*packet.time_base) if stamp is not None else Fraction(0)
        if not 0 <= packet.duration * Fraction(*packet.time_base) <= MAX_JUMP_S:
            packet = replace(packet, duration=0)
        self._held.append((time, packet, payload))
        self._bytes += len(payload)
        while len(self._held) > MAX_KEPT_PACKETS or self._bytes > MAX_KEPT_BYTES:
            self._bytes -= len(self._held.popleft()[2])
            self.dropped += 1

    def release(self, time: Fraction | None) -> Iterator[tuple[Packet, bytes]]:
        """What may be written now that the picture has come to ``time`` (seconds; None: everything)."""
        self._picture = self._picture if time is None else time
        while self._held:
            over = len(self._held) > self._max_packets or self._bytes > self._max_bytes
            if time is not None and self._held[0][0] > time and not over:
                return
            self.forced += bool(over and time is not None and self._held[0][0] > time)
            _, packet, payload = self._held.popleft()
            self._bytes -= len(payload)
            if self._fits(packet):
                yield packet, payload
            else:
                self.dropped += 1

    def _fits(self, packet: Packet) -> bool:
        around = self._last.get(packet.track, self._picture)
        times = [stamp * Fraction(*packet.time_base) for stamp in (packet.pts, packet.dts) if stamp is not None]
        if any(abs(time - around) > MAX_JUMP_S for time in times):
            return False
        if times:
            self._last[packet.track] = max(times)
        return True

    def check(self) -> None:
        assert self._bytes == sum(len(payload) for _, _, payload in self._held) <= MAX_KEPT_BYTES
        assert len(self._held) <= MAX_KEPT_PACKETS
