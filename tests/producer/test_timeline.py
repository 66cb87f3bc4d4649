"""The source's clock, repaired: whatever the stamps, the output increases and every repair is counted."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from producer.timeline import Timeline

BASE = Fraction(1, 90_000)
TICK = 3600


def timeline(start: Fraction | None = None, rebase: bool = False) -> Timeline:
    return Timeline(BASE, Fraction(25), start, rebase)


def out(line: Timeline, *stamps: int | None) -> list[int]:
    given = [line.picture(pts).pts for pts in stamps]
    line.check()
    return given


def test_good_stamps_are_left_alone() -> None:
    line = timeline(Fraction(7, 5))
    assert out(line, 126_000, 129_600, 140_000) == [126_000, 129_600, 140_000]
    assert not line.repairs
    assert line.shift(Fraction(1, 48_000)) == 0


def test_a_negative_start_is_moved_to_zero_with_the_sound() -> None:
    line = timeline(Fraction(-1, 2))
    assert out(line, -45_000, -41_400) == [0, TICK]
    assert line.shift(Fraction(1, 48_000)) == 24_000
    assert line.repairs == {"rebased": 1}


def test_a_picture_before_zero_that_the_header_does_not_tell_of() -> None:
    line = timeline(Fraction(0))
    assert out(line, -7200, -3600, 0) == [0, TICK, 2 * TICK]
    assert line.shift(Fraction(1, 1000)) == 80
    assert line.repairs == {"negative_start": 1}


def test_a_late_start_and_a_live_source_begin_at_zero() -> None:
    assert out(timeline(Fraction(3600)), 3600 * 90_000) == [0]
    assert out(timeline(Fraction(5), rebase=True), 5 * 90_000) == [0]
    assert out(timeline(Fraction(5)), 5 * 90_000) == [5 * 90_000]


def test_missing_stamps_go_on_at_the_frame_rate() -> None:
    line = timeline()
    assert out(line, None, None, 10_000, None) == [0, 3600, 10_000, 13_600]
    assert line.repairs == {"missing_pts": 3}


def test_without_a_rate_missing_stamps_are_25_a_second() -> None:
    assert out(Timeline(Fraction(1, 1000), None), None, None) == [0, 40]


def test_a_repeated_or_earlier_stamp_comes_just_after() -> None:
    line = timeline()
    assert out(line, 0, 3600, 3600, 0, 7200) == [0, 3600, 3601, 3602, 7200]
    assert line.repairs == {"not_increasing": 2}


def test_the_second_picture_after_a_jump_back_moves_the_clock() -> None:
    line = timeline()
    stamps = out(line, *range(900_000, 918_000, TICK), *range(0, 18_000, TICK))
    gaps = [b - a for a, b in pairwise(stamps)]
    assert gaps == [TICK] * 4 + [1] + [TICK] * 4
    assert line.repairs == {"not_increasing": 1, "jumped_back": 1}
    assert line.shift(BASE) == stamps[-1] - 14_400, "sound moves along"


def test_one_wrong_stamp_far_back_moves_nothing() -> None:
    line = timeline()
    assert out(line, 900_000, 0, 907_200, 0, 914_400) == [900_000, 900_001, 907_200, 907_201, 914_400]
    assert line.repairs == {"not_increasing": 2}
    assert line.offset == 0


def test_durations() -> None:
    line = timeline()
    assert line.picture(0).duration == TICK
    assert line.picture(3600, 1800).duration == 1800
    assert line.picture(7200, -5).duration == TICK


@given(
    st.lists(st.none() | st.integers(-(2**33), 2**33), min_size=1, max_size=60),
    st.none() | st.fractions(-100, 100_000, max_denominator=90_000),
    st.booleans(),
)
def test_output_starts_at_or_after_zero_and_strictly_increases(
    stamps: list[int | None], start: Fraction | None, rebase: bool
) -> None:
    line = timeline(start, rebase)
    given_out = out(line, *stamps)
    assert given_out[0] >= 0
    assert all(a < b for a, b in pairwise(given_out))
    assert line.repairs["missing_pts"] == stamps.count(None)
