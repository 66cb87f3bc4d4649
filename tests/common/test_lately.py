"""Rates and medians of the last seconds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.lately import KEPT_S, MAX_KEPT, SPAN_S, STEPS, Durations, Mean, Rate


@pytest.mark.parametrize("fps", [0.5, 25, 1000])
def test_a_steady_rate_is_told_as_it_is(fps: float) -> None:
    rate = Rate()
    told = []
    for number in range(int(fps * 20)):
        rate.add(1, 100 + number / fps)
        if number / fps > SPAN_S + 1:
            told.append(rate.per_second(100 + number / fps))
    assert told
    assert all(one == pytest.approx(fps, rel=0.15, abs=1.5 / SPAN_S) for one in told)


def test_a_rate_begins_at_once_and_is_over_after_a_pause() -> None:
    rate = Rate()
    assert rate.per_second(5.0) == 0.0
    for number in range(10):
        rate.add(1, 10 + number * 0.1)
    assert rate.per_second(10.9) == pytest.approx(10, rel=0.15)
    assert rate.per_second(10.9 + SPAN_S / 2) < 5
    assert rate.per_second(20.0) == 0.0
    rate.add(1, 30.0)
    assert rate.per_second(30.0) == pytest.approx(1 / (SPAN_S / STEPS)), "one is no thousand a second"


def test_a_mean_is_of_what_was_lately() -> None:
    mean = Mean()
    assert mean.value(0.0) is None
    for number in range(100):
        mean.add(4, number * 0.1)
    for number in range(100):
        mean.add(8, 20 + number * 0.1)
    assert mean.value(29.9) == 8
    assert mean.value(100.0) is None


def test_medians_are_of_the_newest() -> None:
    known = Durations()
    assert known.quantiles(0.0, 0.5) is None
    for number in range(100):
        known.add(number / 100, 50 + number / 100)
    assert known.quantiles(51.0, 0, 0.5, 0.95, 1) == [0.0, 0.5, 0.95, 0.99]
    for number in range(MAX_KEPT):
        known.add(7.0, 52 + number / 100)
    assert known.quantiles(54.0, 0.05) == [7.0]
    assert known.quantiles(54.0 + KEPT_S + 1, 0.5) is None


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 50)), max_size=200))
def test_nothing_grows_and_rates_are_never_negative(steps: list[tuple[float, int]]) -> None:
    rate, known, now = Rate(), Durations(), 0.0
    for pause, count in steps:
        now += pause
        rate.add(count, now)
        known.add(pause, now)
        assert 0 <= rate.per_second(now) <= sum(count for _, count in steps) / (SPAN_S / STEPS)
        assert len(rate._steps) <= STEPS + 1
        assert len(known._known) <= MAX_KEPT
