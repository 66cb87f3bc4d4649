"""The encoder: one for all outputs of a stream. x264, or NVENC where it opens.

No B-frames, so that dts equals pts: a picture at time 0 would otherwise have a negative dts, and MKV and TS would move
every time (docs/decisions/0002). An IDR at least every ``keyframe_interval`` seconds of stream time.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.stream import VideoStream

from common.config import Encoding
from common.errors import OutputError
from common.messages import VideoInfo

#: x264's presets and the NVENC ones that stand closest.
NVENC_PRESETS = {
    "ultrafast": "p1", "superfast": "p1", "veryfast": "p2", "faster": "p3", "fast": "p3",
    "medium": "p4", "slow": "p5", "slower": "p6", "veryslow": "p7",
}  # fmt: skip
#: Rate control needs some rate; used where the source names none.
DEFAULT_RATE = Fraction(25)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shape:
    """What the encoder is opened for."""

    width: int
    height: int
    time_base: Fraction
    rate: Fraction | None
    full_range: bool
    sar: Fraction | None
    primaries: int
    transfer: int
    matrix: int


def shape_of(info: VideoInfo, size: tuple[int, int], full_range: bool, matrix: int, turned: bool) -> Shape:
    """The encoder's shape for pictures of ``size`` (upright, even) in ``matrix`` (2: unspecified)."""
    sar = Fraction(*info.sar) if info.sar and info.sar[0] > 0 else None
    return Shape(
        *size,
        time_base=Fraction(*info.time_base),
        rate=Fraction(*info.rate) if info.rate and info.rate[0] > 0 else None,
        full_range=full_range,
        sar=1 / sar if sar and turned else sar,
        primaries=info.primaries,
        transfer=info.transfer,
        matrix=matrix,
    )


class Encoder:
    """Frames in, packets out. Raises OutputError where nothing opens."""

    def __init__(self, shape: Shape, encoding: Encoding, live: bool) -> None:
        self._shape = shape
        self._codec, self.name = _open(shape, encoding, live)
        self._step = round(Fraction(encoding.keyframe_interval) / shape.time_base)
        self._next_key: int | None = None

    def encode(self, frame: av.VideoFrame, pts: int, duration: int, key: bool = False) -> Iterator[av.Packet]:
        """``frame`` must have the shape's size and be 8-bit 4:2:0. ``pts`` in the shape's time base. ``key``: make it a
        keyframe in any case."""
        frame.pts, frame.time_base, frame.duration = pts, self._shape.time_base, duration
        key = key or self._next_key is None or pts >= self._next_key
        frame.pict_type = PictureType.I if key else PictureType.NONE
        if key:
            self._next_key = pts + self._step
        yield from self._run(frame)

    def flush(self) -> Iterator[av.Packet]:
        yield from self._run(None)

    def _run(self, frame: av.VideoFrame | None) -> Iterator[av.Packet]:
        try:
            yield from self._codec.encode(frame)
        except av.FFmpegError as error:
            raise OutputError(f"{self.name} cannot encode: {error.strerror or error}") from None

    def template(self, first: av.Packet) -> VideoStream:
        """A template for muxers' streams. Made by way of a NUT file: one taken from the encoder broke MP4."""
        buffer = io.BytesIO()
        with av.open(buffer, "w", format="nut") as nut:
            stream = nut.add_stream("libx264", rate=self._shape.rate or DEFAULT_RATE)
            _describe(stream.codec_context, self._shape)
            stream.codec_context.extradata = self._codec.extradata
            packet = av.Packet(bytes(first))
            packet.stream, packet.is_keyframe = stream, True
            packet.pts = packet.dts = 0
            packet.time_base = self._shape.time_base
            nut.mux(packet)
        buffer.seek(0)
        template = av.open(buffer, format="nut").streams.video[0]
        # What was found in the bitstream is the clock's tick, not the rate of the pictures; unknown is better.
        template.codec_context.framerate = self._shape.rate or Fraction(0)
        return template


def _open(shape: Shape, encoding: Encoding, live: bool) -> tuple[VideoCodecContext, str]:
    wanted = {"auto": ("h264_nvenc", "libx264"), "x264": ("libx264",), "nvenc": ("h264_nvenc",)}[encoding.encoder]
    reasons = []
    for name in wanted:
        try:
            codec = av.CodecContext.create(name, "w")
            assert isinstance(codec, VideoCodecContext)
            _describe(codec, shape)
            # PyAV's default is slices, which encode a picture at once but leave the other threads idle meanwhile.
            codec.thread_type = "SLICE" if live else "FRAME"
            codec.options = (
                _nvenc(encoding, live) if name == "h264_nvenc" else _x264(encoding, live, shape.rate is not None)
            )
            codec.open()
            return codec, name
        except (av.FFmpegError, ValueError) as error:
            reasons.append(f"{name}: {getattr(error, 'strerror', None) or error}")
    raise OutputError(f"no encoder opens for {shape.width}x{shape.height} ({'; '.join(reasons)})")


def _describe(codec: VideoCodecContext, shape: Shape) -> None:
    codec.width, codec.height = shape.width, shape.height
    codec.pix_fmt = "yuvj420p" if shape.full_range else "yuv420p"
    codec.time_base = shape.time_base
    codec.framerate = shape.rate or DEFAULT_RATE
    # Far beyond the interval that encode() forces by time, so that the encoder's own counting never comes first.
    codec.gop_size = 100_000
    codec.max_b_frames = 0
    codec.color_range = 2 if shape.full_range else 1
    codec.color_primaries, codec.color_trc, codec.colorspace = shape.primaries, shape.transfer, shape.matrix
    if shape.sar is not None:
        codec.sample_aspect_ratio = shape.sar


def _x264(encoding: Encoding, live: bool, constant: bool) -> dict[str, str]:
    options = {"preset": encoding.preset, "crf": str(encoding.crf), "forced-idr": "1"}
    if constant:
        # Else the stream itself names the time base as its rate (12,800 a second), which some players believe.
        options["x264-params"] = "force-cfr=1"
    tune = encoding.tune or ("zerolatency" if live else "")
    return options | ({"tune": tune} if tune else {})


def _nvenc(encoding: Encoding, live: bool) -> dict[str, str]:
    options = {
        "preset": NVENC_PRESETS.get(encoding.preset, "p2"),
        "rc": "constqp" if encoding.crf == 0 else "vbr",
        "cq": str(encoding.crf),
        "forced-idr": "1",
    }
    return options | ({"tune": "ull", "delay": "0", "zerolatency": "1"} if live else {"tune": "hq"})
