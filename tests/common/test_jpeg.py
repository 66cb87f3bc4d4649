"""A JPEG's claims against its bytes."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st

from common.codec import decode_rgb
from common.errors import PeerError
from common.jpeg import MAX_SCANS, MAX_SEGMENTS, PIXELS_A_BYTE, Header, check_cost, read_header
from tests.fuzz.pictures import SIZE, jpegs, with_scans, with_size

SOUND = jpegs(random.Random(3))
WIDTH, HEIGHT = SIZE


def test_headers_of_all_kinds() -> None:
    headers = [read_header(data) for data in SOUND]
    assert {(one.width, one.height) for one in headers} == {SIZE}
    assert [one.components for one in headers] == [3, 3, 3, 3, 3, 1, 1, 4]
    assert [one.many_scans for one in headers] == [False, False, True, False, False, False, True, False]
    for data, header in zip(SOUND, headers, strict=True):
        check_cost(data, header)
        assert read_header(memoryview(data)) == header


def test_colours_that_come_one_after_the_other_are_many_scans() -> None:
    """What follows the first scan is read only where that lacks a component."""
    data = bytearray(SOUND[0])
    data[data.index(b"\xff\xda") + 4] = 1
    assert read_header(bytes(data)).many_scans


def test_what_our_encoder_makes_is_one_scan_and_far_from_the_limit() -> None:
    for height, width in ((360, 640), (1, 1), (2160, 3840)):
        flat = simplejpeg.encode_jpeg(np.zeros((height, width, 3), np.uint8), quality=1)
        header = read_header(flat)
        assert header == Header(width, height, 3, False)
        assert width * height < PIXELS_A_BYTE * len(flat) / 2
        check_cost(flat, header)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "cut off"),
        (b"\xff\xd8", "cut off"),
        (b"\x89PNG\r\n\x1a\n" * 9, "no JPEG"),
        (SOUND[0][:200], "cut off"),
        (b"\xff\xd8\xff\xd9", "marker d9"),
        (b"\xff\xd8\xff\xe0\x00\x01", "a segment of 1 bytes"),
        (b"\xff\xd8\xff\xfe\x00\x02" + b"\x00" * 9, "no segment at byte 6"),
        (b"\xff\xd8\xff\xda" + b"\x00\x0c" * 9, "a scan before its frame"),
        (b"\xff\xd8" + b"\xff\xfe\x00\x02" * (MAX_SEGMENTS + 1), "more than"),
        (b"\xff\xd8" + b"\xff" * 10**6, "more than"),
        (b"\xff\xd8" + (b"\xff\xc0\x00\x11" + bytes(15)) * 2, "two frames"),
    ],
)
def test_what_is_no_header(data: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_header(data)


def test_more_pixels_than_the_bytes_can_hold() -> None:
    data = with_size(SOUND[0], 7680, 4320)
    with pytest.raises(ValueError, match="cannot hold 7680×4320"):
        check_cost(data, read_header(data))
    check_cost(data + bytes(7680 * 4320 // PIXELS_A_BYTE), read_header(data))


def test_scans_are_counted_where_they_are_decoded() -> None:
    """One scan more costs one more pass over all pixels: 10⁶ of them fit into a payload."""
    ours, theirs = SOUND[2].count(b"\xff\xda"), SOUND[2]
    check_cost(with_scans(theirs, MAX_SCANS - ours), read_header(theirs))
    bomb = with_scans(theirs, MAX_SCANS - ours + 1)
    with pytest.raises(ValueError, match=f"{MAX_SCANS + 1} scans"):
        check_cost(bomb, read_header(bomb))
    many_comments = SOUND[4]  # its comment holds what looks like scans, but a decoder stops after the first one
    assert many_comments.count(b"\xff\xda") > MAX_SCANS
    assert decode_rgb(many_comments, "jpeg", SIZE).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("number", [0, 2])
def test_a_bomb_costs_next_to_nothing(number: int) -> None:
    bomb = with_scans(SOUND[number], 100_000)
    if number == 0:  # the same in a picture whose colours come one after the other
        bomb = bomb.replace(b"\xff\xda\x00\x0c\x03", b"\xff\xda\x00\x0c\x01")
    started = time.process_time()
    with pytest.raises(PeerError, match="scans"):
        decode_rgb(bomb, "jpeg", SIZE)
    assert time.process_time() - started < 0.5


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(SOUND), st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=6), st.floats(0, 1)
)
def test_any_damage_gives_a_header_or_a_value_error(data: bytes, changes: list[tuple[float, int]], cut: float) -> None:
    damaged = bytearray(data)
    for place, value in changes:
        damaged[int(place * len(damaged))] = value
    del damaged[max(1, int(cut * len(damaged))) :]
    try:
        header = read_header(bytes(damaged))
    except ValueError:
        return
    assert 0 <= header.width < 2**16
    assert 0 <= header.height < 2**16
