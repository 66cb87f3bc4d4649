"""Live: what stays at home when the link is full, and which pictures are gaps for it."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from producer.gaps import Gaps


@dataclass
class Coder:
    """A stream of GOPs in the order of decoding; leading pictures of a keyframe are shown before it."""

    gaps: Gaps
    number: int = -1

    def packet(self, key: bool = False, full: bool = False) -> tuple[int, bool, bool]:
        """Number, whether a decoder can start there, whether it was forwarded."""
        self.number += 1
        left_out = self.gaps.leaves_out(self.number, key, full)
        self.gaps.check()
        return self.number, key, not left_out


def test_with_room_everything_goes_and_nothing_is_hidden() -> None:
    coder = Coder(Gaps())
    packets = [coder.packet(number % 5 == 0) for number in range(20)]
    assert all(forwarded for _, _, forwarded in packets)
    assert not any(coder.gaps.hides(*packet) for packet in packets)


def test_from_the_full_link_up_to_the_next_keyframe() -> None:
    coder = Coder(Gaps())
    sent = [coder.packet(number % 5 == 0, full=number in (6, 7))[2] for number in range(20)]
    assert sent == [True] * 6 + [False] * 4 + [True] * 10


def test_a_keyframe_that_finds_the_link_full_does_not_end_the_gap() -> None:
    coder = Coder(Gaps())
    sent = [coder.packet(number % 5 == 0, full=4 <= number <= 5)[2] for number in range(20)]
    assert sent == [True] * 4 + [False] * 6 + [True] * 10


def test_leading_pictures_after_the_gap_are_hidden_though_their_packets_went() -> None:
    coder = Coder(Gaps())
    first = coder.packet(True)
    lost = coder.packet(full=True)
    key = coder.packet(True)
    leading = [coder.packet(), coder.packet()]  # of an open GOP: they refer to what was left out
    after = coder.packet()
    shown = [first, lost, *leading, key, after]
    assert [coder.gaps.hides(*one) for one in shown] == [False, True, True, True, False, False]
    assert leading[0][2], "a decoder can use them, to no avail"


def test_pictures_that_the_decoder_still_held_are_not_hidden_before_the_gap_ends() -> None:
    """They came before the gap in every way."""
    coder = Coder(Gaps())
    before = [coder.packet(True), coder.packet(), coder.packet()]
    lost = coder.packet(full=True)
    assert [coder.gaps.hides(*one) for one in before] == [False] * 3
    assert coder.gaps.hides(*lost)


def test_two_gaps_in_a_row_wait_for_the_second_keyframe() -> None:
    coder = Coder(Gaps())
    coder.packet(True)
    coder.packet(full=True)
    first, leading = coder.packet(True), coder.packet()
    lost = coder.packet(full=True)
    second = coder.packet(True)
    # None of the first keyframe's pictures has come yet: the decoder lags behind.
    assert coder.gaps.hides(*leading)
    coder.gaps.hides(*first)
    assert coder.gaps.hides(*lost)
    assert not coder.gaps.hides(*second)


def test_sound_is_left_out_with_the_pictures() -> None:
    gaps = Gaps()
    assert not gaps.leaves_out(0, True, False)
    assert gaps.leaves_out(1, False, True)
    assert gaps.leaves_out(2, False, False), "sound is no place to start"
    assert not gaps.leaves_out(3, True, False)
    assert not gaps.leaves_out(4, False, False)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4)), min_size=1, max_size=15), st.data())
def test_what_is_shown_can_be_decoded(gops: list[tuple[int, int]], data: st.DataObject) -> None:
    """No picture that is not hidden refers to a packet that was left out; and where the link is never full, none is."""
    gaps = Gaps()
    coder = Coder(gaps)
    stream: list[tuple[int, bool, int]] = []  # (GOP, key, leading) in the order of decoding
    for number, (leading, rest) in enumerate(gops):
        leading = leading if number else 0
        stream += [(number, True, 0), *[(number, False, 1)] * leading, *[(number, False, 0)] * rest]
    packets = [coder.packet(key, data.draw(st.booleans())) for _, key, _ in stream]
    whole = {gop: all(packets[at][2] for at, one in enumerate(stream) if one[0] == gop) for gop, _, _ in stream}
    order = sorted(range(len(stream)), key=lambda at: (stream[at][0], not stream[at][2], at))
    for at in order:
        if gaps.hides(*packets[at]):
            continue
        gop, _, leading = stream[at]
        earlier = [packets[before][2] for before in range(at) if stream[before][0] == gop]
        assert packets[at][2], "its own packet"
        assert all(earlier), "what came before it in its GOP"
        assert not leading or whole[gop - 1], "the GOP before, which leading pictures refer to"
