"""The encoder: keyframes by time, times as they are, colours named, a template for every muxer."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from common.config import PRESETS, Encoding
from common.errors import OutputError
from common.messages import VideoInfo
from sink.encode import Encoder, Shape, shape_of

BASE = Fraction(1, 12800)
TICK = 512
FAST = Encoding(encoder="x264", preset="ultrafast")


def shape(**fields: Any) -> Shape:
    known: dict[str, Any] = {"width": 96, "height": 64, "time_base": BASE, "rate": Fraction(25), "full_range": False}
    return Shape(**{**known, "sar": None, "primaries": 2, "transfer": 2, "matrix": 2, **fields})


def picture(number: int, form: str = "yuv420p") -> av.VideoFrame:
    noise = np.random.default_rng(number).integers(16, 235, (96, 96), np.uint8)
    return av.VideoFrame.from_ndarray(noise, format=form)


def encode(encoder: Encoder, stamps: Sequence[int], form: str = "yuv420p") -> list[av.Packet]:
    packets = [one for number, pts in enumerate(stamps) for one in encoder.encode(picture(number, form), pts, TICK)]
    return packets + list(encoder.flush())


def decode(encoder: Encoder, packets: list[av.Packet]) -> list[av.VideoFrame]:
    """Through a file, by way of the template, as the outputs do it."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream_from_template(encoder.template(packets[0]))
        for packet in packets:
            packet.stream = stream
            container.mux(packet)
    buffer.seek(0)
    with av.open(buffer, "r") as container:
        return list(container.decode(video=0))


def idr(packet: av.Packet) -> bool:
    """Whether the packet holds an IDR picture: NAL unit type 5 of H.264, table 7-1."""
    data = bytes(packet)
    return any(data[at + 3] & 31 == 5 for at in range(len(data) - 3) if data[at : at + 3] == b"\0\0\1")


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("preset", ["ultrafast", "medium"])
def test_times_come_out_as_they_went_in(preset: str, live: bool) -> None:
    stamps = [0, 512, 513, 1536, 9000, 9001, 200_000, *range(200_512, 230_000, TICK)]
    packets = encode(Encoder(shape(), Encoding(encoder="x264", preset=preset), live), stamps)
    assert [packet.pts for packet in packets] == stamps
    assert [packet.dts for packet in packets] == stamps, "no B-frames"


def test_a_start_that_is_not_zero_stays() -> None:
    stamps = [123_456 + number * TICK for number in range(5)]
    assert [packet.pts for packet in encode(Encoder(shape(), FAST, False), stamps)] == stamps


@pytest.mark.parametrize("interval", [0.5, 1.0])
def test_an_idr_at_least_every_interval_of_stream_time(interval: float) -> None:
    encoder = Encoder(shape(), Encoding(encoder="x264", preset="veryfast", keyframe_interval=interval), False)
    stamps = [number * TICK for number in range(50)]
    packets = encode(encoder, stamps)
    keys = [number for number, packet in enumerate(packets) if packet.is_keyframe]
    assert keys == list(range(0, 50, math.ceil(interval * 25))), "with the first frame at or after the interval"
    assert all(idr(packet) for packet in packets if packet.is_keyframe)


def test_the_interval_goes_by_time_and_not_by_count() -> None:
    encoder = Encoder(shape(), Encoding(encoder="x264", preset="veryfast", keyframe_interval=1.0), False)
    packets = encode(encoder, [number * 25 * TICK // 2 for number in range(9)])  # two a second
    assert [packet.is_keyframe for packet in packets] == [True, False] * 4 + [True]


def test_picture_and_colours_survive() -> None:
    encoder = Encoder(shape(primaries=1, transfer=1, matrix=1, sar=Fraction(4, 3)), FAST, False)
    frames = decode(encoder, encode(encoder, [number * TICK for number in range(3)]))
    assert [frame.time for frame in frames] == [0, 0.04, 0.08]
    first = frames[0]
    assert (int(first.color_primaries), int(first.color_trc), int(first.colorspace)) == (1, 1, 1)
    assert int(first.color_range) == 1
    context = decode_context(encoder)
    assert context.sample_aspect_ratio == Fraction(4, 3)
    lossless = Encoder(shape(), Encoding(encoder="x264", preset="ultrafast", crf=0), False)
    frames = decode(lossless, encode(lossless, [0, TICK]))
    assert all((frame.to_ndarray() == picture(number).to_ndarray()).all() for number, frame in enumerate(frames))


def decode_context(encoder: Encoder) -> av.VideoCodecContext:
    again = Encoder(encoder._shape, FAST, False)
    template = again.template(encode(again, [0])[0])
    return template.codec_context


def test_full_range() -> None:
    encoder = Encoder(shape(full_range=True), FAST, False)
    frames = decode(encoder, encode(encoder, [0, TICK], "yuvj420p"))
    assert int(frames[0].color_range) == 2


def test_an_unknown_rate_is_no_obstacle() -> None:
    stamps = [0, 4000, 4001, 30_000]
    assert [packet.pts for packet in encode(Encoder(shape(rate=None), FAST, False), stamps)] == stamps


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_opens(preset: str) -> None:
    Encoder(shape(), Encoding(encoder="x264", preset=preset), False)


@pytest.mark.parametrize("encoding", [Encoding(encoder="x264", preset="warp"), Encoding(encoder="x264", tune="nose")])
def test_what_does_not_open_is_a_clear_error(encoding: Encoding) -> None:
    with pytest.raises(OutputError, match=r"no encoder opens for 96x64 .*libx264"):
        Encoder(shape(), encoding, False)


def test_without_nvenc_x264_is_taken() -> None:
    encoder = Encoder(shape(), Encoding(preset="ultrafast"), False)
    assert encoder.name in ("libx264", "h264_nvenc")


def test_shape_of_a_hello() -> None:
    info = VideoInfo(width=64, height=96, time_base=(1, 12800), rate=(0, 1), sar=(4, 3), primaries=9)
    made = shape_of(info, (96, 64), True, 6, turned=True)
    assert made == shape(rate=None, sar=Fraction(3, 4), full_range=True, primaries=9, matrix=6)
    assert shape_of(info, (96, 64), True, 6, turned=False).sar == Fraction(4, 3)
