"""Reference pictures of H.264 that are missing between two packets, which its decoder conceals without a word. Pure.

Each reference picture counts ``frame_num`` up by one, and every slice begins with it (ITU-T H.264 7.4.3). Only the
front of a packet is looked at. Where something cannot be read, nothing is said: the decoder will find that damage.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from producer.nal import after_lengths, after_start_codes, parameter_sets

#: Bytes of a packet that are searched for its first slice: parameter sets and messages come before it.
LOOK_BYTES = 8192
#: Bytes of a slice that hold what is wanted of its header.
HEAD_BYTES = 32
#: Bytes of a sequence parameter set that are read. What is wanted is in its first 40, or behind scaling lists, which
#: take 480 where no value of them is like the one before.
SET_BYTES = 512
#: Of so many pictures half may come after a hole. With more, it is the encoder that counts otherwise.
HABIT = 64
#: Kinds of NAL units (table 7-1): slices, their first partition, slices of a keyframe, parameter sets.
SLICE, PARTITION, KEY_SLICE, SEQUENCE, PICTURE = 1, 2, 5, 7, 8
#: Profiles whose parameter sets name the chroma format (7.3.2.1.1).
HIGH = frozenset({44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244})
#: Parameter sets that may be known at a time (7.4.2).
MAX_SEQUENCES, MAX_PICTURES = 32, 256


class _Bits:
    """Reads a NAL unit's payload from its front. Raises IndexError at its end."""

    def __init__(self, payload: bytes) -> None:
        raw = payload.replace(b"\0\0\3", b"\0\0")
        self._value, self._left = int.from_bytes(raw, "big"), len(raw) * 8

    def take(self, count: int) -> int:
        """The next ``count`` bits."""
        self._left -= count
        if self._left < 0:
            raise IndexError
        return self._value >> self._left & (1 << count) - 1

    def flag(self) -> bool:
        return self.take(1) == 1

    def number(self) -> int:
        """The next Exp-Golomb code, unsigned."""
        zeros = self._left - (self._value & (1 << self._left) - 1).bit_length()
        self.take(zeros)
        return self.take(zeros + 1) - 1

    def signed(self) -> int:
        code = self.number()
        return (code + 1) // 2 if code & 1 else -(code // 2)


@dataclass(frozen=True, slots=True)
class _Sequence:
    """What a sequence parameter set says of ``frame_num``: its bits, and what may stand around it."""

    bits: int
    gaps_allowed: bool
    planes_apart: bool
    fields: bool


class FrameNumbers:
    """``extradata``: the track's, which says how packets are divided and may hold parameter sets."""

    def __init__(self, extradata: bytes) -> None:
        self._sequences: dict[int, _Sequence] = {}
        self._sequence_of: dict[int, int] = {}  # picture parameter set → sequence parameter set
        self._length = 0  # bytes before each NAL unit that hold its length; 0: they begin with start codes
        self._reference: int | None = None  # frame_num of the last reference picture, None where it is not known
        self._habit: deque[bool] = deque(maxlen=HABIT)  # which of the last pictures came after a hole
        if extradata[:1] == b"\1" and len(extradata) > 6:
            self._length = (extradata[4] & 3) + 1
            for unit in parameter_sets("h264", extradata):
                self._learn(unit)
        else:
            self._first_slice(extradata)

    def hole(self, front: bytes) -> bool:
        """Whether a reference picture is missing before the next packet, of which the first LOOK_BYTES are read."""
        unit = self._first_slice(front[:LOOK_BYTES])
        if unit is None:
            self._reference = None
            return False
        found = self._count(unit)
        self._habit.append(found)
        return found and sum(self._habit) * 2 <= HABIT

    def _first_slice(self, data: bytes) -> bytes | None:
        """The first slice; parameter sets before it are learnt."""
        for unit in after_lengths(data, self._length) if self._length else after_start_codes(data):
            if unit[0] & 31 in (SLICE, PARTITION, KEY_SLICE):
                return unit[:HEAD_BYTES]
            self._learn(unit)
        return None

    def _learn(self, unit: bytes) -> None:
        kind = unit[0] & 31
        try:
            if kind == SEQUENCE:
                number, sequence = _sequence(_Bits(unit[1:SET_BYTES]))
                if number < MAX_SEQUENCES:
                    self._sequences[number] = sequence
            elif kind == PICTURE:
                bits = _Bits(unit[1:HEAD_BYTES])
                number, of = bits.number(), bits.number()
                if number < MAX_PICTURES:
                    self._sequence_of[number] = of
        except IndexError:
            pass  # damaged: what was known before holds on

    def _count(self, unit: bytes) -> bool:
        """Whether the slice's ``frame_num`` does not follow."""
        before, self._reference = self._reference, None
        try:
            bits = _Bits(unit[1:HEAD_BYTES])
            first, _, of = bits.number(), bits.number(), bits.number()
            sequence = self._sequences.get(self._sequence_of.get(of, -1))
            if sequence is None:
                return False
            if sequence.planes_apart:
                bits.take(2)
            number = bits.take(sequence.bits)
            field = sequence.fields and bits.flag()
        except IndexError:
            return False
        reference = unit[0] >> 5 & 3 != 0
        if first:  # more of the picture before, or its beginning is lost
            self._reference = before if number == before else None
            return False
        self._reference = number if reference else before
        if unit[0] & 31 == KEY_SLICE or before is None or sequence.gaps_allowed:
            return False
        # The second field of a picture has the number of the first.
        return (number - before) % (1 << sequence.bits) not in ((0, 1) if field else (1,))


def _sequence(bits: _Bits) -> tuple[int, _Sequence]:
    """A sequence parameter set and its number, as far as ``frame_mbs_only_flag`` (7.3.2.1.1)."""
    profile = bits.take(8)
    bits.take(16)
    number = bits.number()
    apart = False
    if profile in HIGH:
        chroma = bits.number()
        apart = chroma == 3 and bits.flag()
        bits.number()
        bits.number()
        bits.take(1)
        if bits.flag():
            for which in range(12 if chroma == 3 else 8):
                if bits.flag():
                    _skip_scaling(bits, 16 if which < 6 else 64)
    length = bits.number() + 4
    order = bits.number()
    if order == 0:
        bits.number()
    elif order == 1:
        bits.take(1)
        bits.number()
        bits.number()
        for _ in range(bits.number()):  # ends with the bits
            bits.number()
    bits.number()
    gaps_allowed = bits.flag()
    bits.number()
    bits.number()
    if length > 16:
        raise IndexError
    return number, _Sequence(length, gaps_allowed, apart, fields=not bits.flag())


def _skip_scaling(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last
