"""Missing reference pictures, by the numbers in the slices: bits written by hand, and real encoders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.damage_h264 import HABIT, LOOK_BYTES, FrameNumbers
from tests.support import ffmpeg

#: NAL unit headers, with and without "others refer to it".
KEY, REFERENCE, OTHER = 0x65, 0x61, 0x01
SEQUENCE, PICTURE, MESSAGE = 0x67, 0x68, 0x06


class Writer:
    """Writes bits."""

    def __init__(self) -> None:
        self.bits = ""

    def put(self, value: int, count: int) -> Writer:
        self.bits += f"{value:0{count}b}"
        return self

    def code(self, *values: int) -> Writer:
        """Exp-Golomb codes, unsigned."""
        for value in values:
            self.put(value + 1, 2 * (value + 1).bit_length() - 1)
        return self

    def unit(self, head: int) -> bytes:
        """A NAL unit, with the bytes that keep start codes out of it."""
        bits = self.bits + "1"
        bits += "0" * (-len(bits) % 8)
        out = bytearray()
        for value in int(bits, 2).to_bytes(len(bits) // 8, "big"):
            if value <= 3 and out[-2:] == b"\0\0":
                out.append(3)
            out.append(value)
        return bytes([head]) + bytes(out)


@dataclass(frozen=True)
class Shape:
    """What the parameter sets say."""

    profile: int = 77
    bits: int = 4
    order: int = 0
    gaps: bool = False
    fields: bool = False
    scaling: bool = False
    #: A value that is not looked at; large ones are many zeros.
    skipped: int = 2

    def sets(self) -> list[bytes]:
        one = Writer().put(self.profile, 8).put(0, 8).put(30, 8).code(0)
        if self.profile == 100:
            one.code(1, 0, 0).put(0, 1).put(self.scaling, 1)
            if self.scaling:  # lists of 16 and 64 steps of 0, and one that ends with its first step, -8
                one.put(1, 1).code(*[0] * 16).put(0, 5).put(1, 1).code(*[0] * 64).put(1, 1).code(16)
        one.code(self.bits - 4, self.order)
        if self.order == 0:
            one.code(self.skipped)
        elif self.order == 1:
            one.put(0, 1).code(0, self.skipped, 2, 5, 6)
        one.code(4).put(self.gaps, 1).code(19, 10).put(not self.fields, 1).put(1, 3)
        return [one.unit(SEQUENCE), Writer().code(0, 0).put(0, 2).unit(PICTURE)]

    def slice(self, head: int, number: int, first: int = 0, field: bool = False) -> bytes:
        one = Writer().code(first, 5, 0).put(number % (1 << self.bits), self.bits)
        if self.fields:
            one.put(field, 1)
        return one.put(0x1234567, 32).unit(head)


def framed(*units: bytes, length: int = 0) -> bytes:
    """A packet: start codes, or lengths of so many bytes."""
    return b"".join((len(unit).to_bytes(length, "big") if length else b"\0\0\0\1") + unit for unit in units)


def avcc(units: list[bytes], length: int) -> bytes:
    lists = [bytes([0xE1]), bytes([1])]
    sets = b"".join(head + len(unit).to_bytes(2, "big") + unit for head, unit in zip(lists, units, strict=True))
    return bytes([1, 77, 0, 30, 0xFC | length - 1]) + sets


SHAPES = st.builds(
    Shape, st.sampled_from([66, 77, 100]), st.integers(4, 16), st.integers(0, 2), fields=st.booleans(),
    scaling=st.booleans(), skipped=st.sampled_from([0, 2, 2**21, 2**23, 2**25 + 1]),
)  # fmt: skip
#: ``k`` a keyframe, ``r`` another reference, ``o`` no reference; and whether it is lost.
PICTURES = st.lists(st.tuples(st.sampled_from("krrroo"), st.sampled_from([False] * 5 + [True])), max_size=HABIT // 2)


@settings(max_examples=80, deadline=None)
@given(SHAPES, PICTURES, st.sampled_from([0, 0, 1, 2, 4]))
def test_a_hole_is_a_reference_that_is_missing(shape: Shape, pictures: list[tuple[str, bool]], length: int) -> None:
    numbers = FrameNumbers(avcc(shape.sets(), length) if length else framed(*shape.sets()))
    reference = missing = 0  # frame_num of the last one; how many have been lost since one came
    for kind, lost in [("k", False), *pictures]:
        number = 0 if kind == "k" else reference + 1
        reference = reference if kind == "o" else number
        if lost and kind != "k":
            missing += kind == "r"
            continue
        head = {"k": KEY, "r": REFERENCE, "o": OTHER}[kind]
        hole = numbers.hole(framed(shape.slice(head, number), length=length))
        assert hole == (kind != "k" and missing % (1 << shape.bits) != 0)
        missing = missing if kind == "o" else 0


def test_fields_of_one_picture_have_one_number() -> None:
    shape = Shape(fields=True)
    numbers = FrameNumbers(framed(*shape.sets()))
    for number in range(40):
        for _ in range(2):
            assert not numbers.hole(framed(shape.slice(REFERENCE if number else KEY, number, field=True)))
    assert numbers.hole(framed(shape.slice(REFERENCE, 41, field=True)))


def test_the_same_number_twice_is_a_lost_keyframe() -> None:
    shape = Shape()
    numbers = FrameNumbers(framed(*shape.sets()))
    assert [numbers.hole(framed(shape.slice(REFERENCE if n else KEY, n))) for n in (0, 1, 1, 2)] == [0, 0, 1, 0]


def test_an_encoder_may_leave_numbers_out_where_it_says_so() -> None:
    shape = Shape(gaps=True)
    numbers = FrameNumbers(framed(*shape.sets()))
    assert not any(numbers.hole(framed(shape.slice(REFERENCE if n else KEY, n))) for n in (0, 1, 3, 5, 6))


def test_an_encoder_that_counts_otherwise_is_believed() -> None:
    shape = Shape()
    numbers = FrameNumbers(framed(*shape.sets()))
    found = [numbers.hole(framed(shape.slice(REFERENCE if n else KEY, 2 * n))) for n in range(3 * HABIT)]
    assert any(found[:HABIT])
    assert not any(found[HABIT:])


def test_only_the_first_slice_of_a_picture_counts() -> None:
    shape = Shape()
    numbers = FrameNumbers(framed(*shape.sets()))
    assert not numbers.hole(framed(shape.slice(KEY, 0)))
    for first in (20, 40):
        assert not numbers.hole(framed(shape.slice(KEY, 0, first)))
    assert not numbers.hole(framed(shape.slice(REFERENCE, 1), shape.slice(REFERENCE, 9, 20)))
    assert not numbers.hole(framed(shape.slice(REFERENCE, 2)))
    assert not numbers.hole(framed(shape.slice(REFERENCE, 5, 20))), "its beginning is lost: the decoder will say so"
    assert not numbers.hole(framed(shape.slice(REFERENCE, 8)))
    assert numbers.hole(framed(shape.slice(REFERENCE, 10)))
    assert not numbers.hole(framed(shape.slice(REFERENCE, 10, 20))), "the rest of it"
    assert numbers.hole(framed(shape.slice(REFERENCE, 12)))


@pytest.mark.parametrize("zeros", range(18, 32))
def test_bytes_that_keep_start_codes_out_are_not_read(zeros: int) -> None:
    for bits in (4, 5, 6, 8, 12):
        for gaps in (False, True):
            shape = Shape(bits=bits, gaps=gaps, skipped=2**zeros)
            numbers = FrameNumbers(framed(*shape.sets()))
            found = [numbers.hole(framed(shape.slice(REFERENCE if n else KEY, n))) for n in (0, 1, 2, 4, 5)]
            assert found == [False, False, False, not gaps, False]


def test_parameter_sets_in_the_stream() -> None:
    shape, other = Shape(), Shape(100, 8, 1, scaling=False)
    numbers = FrameNumbers(b"")
    assert not numbers.hole(framed(shape.slice(KEY, 0))), "nothing is known yet"
    for one in (shape, other):
        front = [bytes([9, 16]), *one.sets(), bytes([MESSAGE, 5, 3, 1, 2, 3, 128])]
        assert not numbers.hole(framed(*front, one.slice(KEY, 0)))
        assert not numbers.hole(framed(one.slice(REFERENCE, 1)))
        assert numbers.hole(framed(one.slice(REFERENCE, 3)))


def test_a_slice_that_is_not_found_says_nothing() -> None:
    shape = Shape()
    numbers = FrameNumbers(framed(*shape.sets()))
    assert not numbers.hole(framed(shape.slice(KEY, 0)))
    long = framed(bytes([MESSAGE]) + b"\x55" * LOOK_BYTES, shape.slice(REFERENCE, 1))
    assert not numbers.hole(long[:LOOK_BYTES])
    assert not numbers.hole(framed(shape.slice(REFERENCE, 2)))
    assert not numbers.hole(framed(shape.slice(REFERENCE, 3)[:2])), "its end comes too early"
    assert not numbers.hole(framed(shape.slice(REFERENCE, 5)))
    assert numbers.hole(framed(shape.slice(REFERENCE, 7)))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60), st.lists(st.binary(max_size=60), max_size=8))
def test_rubbish_is_no_error(extradata: bytes, packets: list[bytes]) -> None:
    for extra in (extradata, b"\1" + extradata, framed(bytes([SEQUENCE]) + extradata)):
        numbers = FrameNumbers(extra)
        for packet in packets:
            for head in (b"", b"\0\0\1\x67", b"\0\0\1\x68", b"\0\0\1\x65"):
                numbers.hole(head + packet)


def fronts(path: Path) -> tuple[bytes, list[bytes]]:
    """Extradata, and each packet's front."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        packets = [bytes(one)[:LOOK_BYTES] for one in container.demux(video) if one.size]
        return video.codec_context.extradata or b"", packets


@pytest.mark.parametrize("ending", ["mp4", "ts"])
@pytest.mark.parametrize(
    "options",
    [
        "keyint=20:bframes=3:b-pyramid=normal:ref=4:open-gop=1:scenecut=0",
        "keyint=20:bframes=2:interlaced=1:slices=3",
        "intra-refresh=1:keyint=20",
    ],
)
def test_real_streams(tmp_path: Path, options: str, ending: str) -> None:
    clip = tmp_path / f"clip.{ending}"
    source = ("-f", "lavfi", "-i", "testsrc2=s=160x96:r=25")
    ffmpeg(*source, "-frames:v", "60", "-c:v", "libx264", "-preset", "veryfast", "-x264-params", options, clip)
    extradata, packets = fronts(clip)
    assert not any(_holes(extradata, packets))
    slices = [_first_slice(front, ending == "mp4") for front in packets]
    for lost in range(1, 50):
        holes = list(_holes(extradata, packets[:lost] + packets[lost + 1 :]))
        assert not any(holes[:lost])
        if slices[lost] >> 5 == 0:
            assert not any(holes), f"nobody refers to {lost}"
        elif slices[lost] != KEY != slices[lost + 1]:
            assert holes[lost], f"{lost} is missing"


def _holes(extradata: bytes, packets: list[bytes]) -> Iterator[bool]:
    numbers = FrameNumbers(extradata)
    return (numbers.hole(front) for front in packets)


def _first_slice(front: bytes, lengths: bool) -> int:
    """The first byte of a packet's first slice."""
    if lengths:
        units, at = [], 0
        while at + 4 < len(front):
            units.append(front[at + 4 :])
            at += 4 + int.from_bytes(front[at : at + 4], "big")
    else:
        units = front.split(b"\0\0\1")[1:]
    return next(unit[0] for unit in units if unit[0] & 31 in (1, 5))
