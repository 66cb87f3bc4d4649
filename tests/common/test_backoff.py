"""Pauses between attempts: doubled, bounded, shortened by chance."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.backoff import Backoff


def test_the_first_attempt_is_due_at_once() -> None:
    backoff = Backoff(0.25, 2.0)
    assert backoff.due(0.0)
    assert backoff.pause(0.0) == 0.0


def test_pauses_double_up_to_the_longest_and_start_over() -> None:
    backoff, random, now = Backoff(0.25, 2.0), Random(1), 100.0
    for bound in (0.25, 0.5, 1.0, 2.0, 2.0):
        backoff.failed(now, random)
        assert 0.5 * bound <= backoff.pause(now) <= bound
        assert not backoff.due(now + 0.49 * bound)
        assert backoff.due(now + bound)
        now += bound
    backoff.worked()
    assert backoff.due(now)
    backoff.failed(now, random)
    assert backoff.pause(now) <= 0.25


def test_many_do_not_come_back_in_step() -> None:
    pauses = set()
    for seed in range(20):
        backoff = Backoff(1.0, 2.0)
        backoff.failed(0.0, Random(seed))
        pauses.add(backoff.pause(0.0))
    assert max(pauses) - min(pauses) > 0.25


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 10)), max_size=200))
def test_never_longer_than_the_longest(steps: list[tuple[bool, float]]) -> None:
    backoff, random, now = Backoff(0.1, 3.0), Random(2), 0.0
    for works, seconds in steps:
        now += seconds
        if works:
            backoff.worked()
        else:
            backoff.failed(now, random)
        assert backoff.pause(now) <= 3.0
        assert backoff.due(now + 3.0)
        backoff.check()


def test_days_of_failures_do_not_overflow() -> None:
    backoff, random = Backoff(0.25, 2.0), Random(3)
    for second in range(5000):
        backoff.failed(float(second), random)
    assert 1.0 <= backoff.pause(4999.0) <= 2.0


@pytest.mark.parametrize(("first", "most"), [(0.0, 1.0), (2.0, 1.0), (-1.0, 1.0)])
def test_pauses_that_make_no_sense(first: float, most: float) -> None:
    with pytest.raises(ValueError, match="make no sense"):
        Backoff(first, most)
