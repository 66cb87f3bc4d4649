"""Which frames the model sees: counts, grids, jitter, holes."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.sampling import Sampler


def chosen(sampler: Sampler, times: list[Fraction]) -> list[int]:
    picked = [number for number, time in enumerate(times) if sampler.wants(time)]
    sampler.check()
    return picked


def regular(rate: Fraction | int, count: int) -> list[Fraction]:
    return [Fraction(number) / rate for number in range(count)]


def test_every_frame_by_default() -> None:
    assert chosen(Sampler(), regular(25, 10)) == list(range(10))


def test_every_third_frame() -> None:
    assert chosen(Sampler(every=3), regular(25, 10)) == [0, 3, 6, 9]


@pytest.mark.parametrize(("fps", "rate", "step"), [(12.5, 25, 2), (5, 25, 5), (10, 30, 3), (24.0, 48, 2), (1, 25, 25)])
def test_a_rate_that_divides_gives_a_regular_choice(fps: float, rate: int, step: int) -> None:
    assert chosen(Sampler(fps=fps), regular(rate, 100)) == list(range(0, 100, step))


def test_ntsc_rate_halved_stays_regular_for_minutes() -> None:
    rate = Fraction(30000, 1001)
    assert chosen(Sampler(fps=float(rate / 2)), regular(rate, 10_000)) == list(range(0, 10_000, 2))


def test_jitter_does_not_break_the_grid() -> None:
    rng = random.Random(1)
    times = [Fraction(number, 25) + Fraction(rng.randint(-8, 8), 1000) for number in range(500)]
    assert chosen(Sampler(fps=12.5), times) == list(range(0, 500, 2))


def test_a_rate_above_the_source_takes_every_frame() -> None:
    assert chosen(Sampler(fps=60), regular(25, 200)) == list(range(200))


def test_a_rate_that_does_not_divide_is_kept_on_average() -> None:
    assert len(chosen(Sampler(fps=25), regular(30, 3000))) == pytest.approx(2500, abs=5)


def test_after_a_hole_a_new_grid_begins_and_nothing_is_made_up_for() -> None:
    times = regular(25, 50) + [Fraction(100) + time for time in regular(25, 50)]
    picked = chosen(Sampler(fps=5), times)
    assert picked == [*range(0, 50, 5), *range(50, 100, 5)]


def test_every_and_fps_together() -> None:
    assert chosen(Sampler(every=2, fps=5), regular(20, 41)) == list(range(0, 41, 4))


@pytest.mark.parametrize(("every", "fps"), [(0, None), (-1, None), (1, 0.0), (1, -3.0)])
def test_nonsense_is_refused(every: int, fps: float | None) -> None:
    with pytest.raises(ValueError):
        Sampler(every, fps)


@given(
    st.lists(st.fractions(Fraction(1, 240), Fraction(2), max_denominator=1000), min_size=1, max_size=200),
    st.floats(0.1, 120),
)
def test_never_more_than_fps_and_always_the_first(gaps: list[Fraction], fps: float) -> None:
    """Over any stretch the choice stays within the rate (one frame and a quarter step of tolerance)."""
    sampler, time, times = Sampler(fps=fps), Fraction(0), []
    for gap in gaps:
        times.append(time)
        time += gap
    picked = [times[number] for number in chosen(sampler, times)]
    assert picked[0] == 0
    step = 1 / Fraction(fps).limit_denominator(100_000)
    for first in range(0, len(picked), 7):
        for last in range(first + 1, len(picked), 11):
            # From the first, a new grid at most brings one frame early; a hole never lets the choice catch up.
            assert last - first <= (picked[last] - picked[first]) / step + 1.5
