"""Whatever the bytes of an H.264 packet or of its parameter sets are, the search for holes raises nothing, and reads no
more than it says."""

from __future__ import annotations

from random import Random

import pytest

from producer.damage_h264 import LOOK_BYTES, SET_BYTES, FrameNumbers
from tests.producer.test_damage_h264 import (
    KEY,
    MESSAGE,
    OTHER,
    REFERENCE,
    SEQUENCE,
    Shape,
    Writer,
    avcc,
    framed,
)

#: What stands between NAL units, and what is easily taken for it.
CODES = (b"\0\0\1", b"\0\0\0\1", b"\0\0\1\0\0\1", b"\0\0", b"\0\0\3", b"\0\0\0\0\1", b"\1", b"\xff\xff\xff\xff")


def packets(chance: Random, length: int) -> tuple[bytes, list[bytes]]:
    """A stream that is right: extradata, and packets of every kind."""
    shape = Shape(
        chance.choice([66, 77, 100]), chance.randint(4, 16), chance.randint(0, 2), chance.random() < 0.3,
        chance.random() < 0.3, chance.random() < 0.3, chance.choice([0, 2, 2**21, 2**25 + 1]),
    )  # fmt: skip
    sets = shape.sets()
    extradata = avcc(sets, length) if length else framed(*sets)
    made = []
    for number in range(6):
        head = KEY if not number else chance.choice([REFERENCE, OTHER])
        front = [bytes([9, 16]), *sets, bytes([MESSAGE, 5, 3, 1, 2, 3, 128])] if chance.random() < 0.5 else []
        made.append(framed(*front, shape.slice(head, number), shape.slice(head, number, 20), length=length))
    return extradata, made


def damaged(data: bytes, chance: Random) -> bytes:
    """The bytes after one to four mishaps."""
    for _ in range(chance.randint(1, 4)):
        at = chance.randint(0, len(data))
        to = min(len(data), at + chance.randint(0, 12))
        data = chance.choice([
            data[:at],
            data[at:],
            data[:at] + data[to:],
            data[:to] + data[at:],
            data[:at] + chance.choice(CODES) + data[at:],
            data[:at] + chance.choice(CODES) + data[to:],
            data[:at] + chance.randbytes(to - at) + data[to:],
            data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :],
        ])  # fmt: skip
    return data


@pytest.mark.parametrize("seed", range(8))
def test_no_bytes_are_an_error(seed: int) -> None:
    chance = Random(seed)
    for _ in range(300):
        extradata, made = packets(chance, chance.choice([0, 0, 1, 2, 3, 4]))
        numbers = FrameNumbers(damaged(extradata, chance) if chance.random() < 0.5 else extradata)
        for packet in made:
            numbers.hole(damaged(packet, chance) if chance.random() < 0.7 else packet)
        for _ in range(4):
            numbers.hole(chance.randbytes(chance.randrange(40)))


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4])
def test_no_packet_that_is_cut_is_an_error(length: int) -> None:
    """At every place, in extradata and in packets."""
    extradata, made = packets(Random(length), length)
    for cut in range(len(extradata) + 1):
        FrameNumbers(extradata[:cut])
        FrameNumbers(b"\1" + extradata[:cut])
    for packet in made:
        for cut in range(len(packet) + 1):
            FrameNumbers(extradata).hole(packet[:cut])
            FrameNumbers(extradata).hole(packet[cut:])


@pytest.mark.parametrize("empty", [b"\0\0\1", b"\0\0\0\1", b"\0\0\1\0\0\1", b"\0\0\0\1\0\0\0\1"])
def test_units_without_a_byte_are_passed_over(empty: bytes) -> None:
    shape = Shape()
    numbers = FrameNumbers(empty + framed(*shape.sets()) + empty)
    found = [numbers.hole(empty + framed(shape.slice(REFERENCE if n else KEY, n)) + empty) for n in (0, 1, 3)]
    assert found == [False, False, True]
    assert not numbers.hole(empty)


def sequence(offsets: int) -> bytes:
    """A parameter set with so many steps of a picture order count, two bytes each, before what is wanted of it."""
    one = Writer().put(77, 8).put(0, 8).put(30, 8).code(0, 0, 1).put(0, 1).code(0, 0, offsets)
    one.code(*[127] * offsets)
    return one.code(4).put(0, 1).code(19, 10).put(1, 1).put(1, 3).unit(SEQUENCE)


@pytest.mark.parametrize(("offsets", "read"), [(200, True), (255, True), (20_000, False)])
def test_a_parameter_set_is_read_no_further_than_it_can_matter(offsets: int, read: bool) -> None:
    """One of any size costs no more than one of SET_BYTES: what lies behind is not looked for."""
    shape = Shape()
    numbers = FrameNumbers(framed(sequence(offsets), shape.sets()[1]))
    assert len(sequence(offsets)) < SET_BYTES or not read
    found = [numbers.hole(framed(shape.slice(REFERENCE if n else KEY, n))) for n in (0, 1, 3)]
    assert found == [False, False, read]


def test_a_packet_is_searched_no_further_than_it_says() -> None:
    shape = Shape()
    numbers = FrameNumbers(framed(*shape.sets()))
    assert not numbers.hole(framed(shape.slice(KEY, 0)))
    messages = [bytes([MESSAGE, 0x55])] * (LOOK_BYTES // 6 + 1)
    assert not numbers.hole(framed(*messages, shape.slice(REFERENCE, 2))), "its slice lies behind"
    assert not numbers.hole(framed(*messages[: LOOK_BYTES // 12], shape.slice(REFERENCE, 2))), "nothing is known before"
    assert numbers.hole(framed(*messages[: LOOK_BYTES // 12], shape.slice(REFERENCE, 4)))
