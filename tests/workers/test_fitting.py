"""How many pictures fit: halved at once, raised with care."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workers.fitting import LONGEST_S, PATIENCE_S, Fit

PIXELS = 100


def test_all_is_allowed_until_it_is_too_much() -> None:
    fit = Fit(16)
    assert fit.most(PIXELS, 0.0) == 16
    assert not fit.fitted(16, PIXELS, 0.0)
    assert fit.too_large(16, PIXELS, 0.0) == 8
    assert (fit.most(PIXELS, 1.0), fit.pictures, fit.halved) == (8, 8, 1)
    assert fit.too_large(8, PIXELS, 1.0) == 4
    assert fit.too_large(3, PIXELS, 1.0) == 1
    assert fit.most(PIXELS, 1.0) == 1
    assert fit.most(1000 * PIXELS, 1.0) == 1, "one picture is always tried"


def test_small_pictures_are_not_held_back_by_large_ones() -> None:
    fit = Fit(16)
    fit.too_large(4, 10 * PIXELS, 0.0)
    assert [fit.most(pixels, 0.0) for pixels in (10 * PIXELS, 5 * PIXELS, PIXELS)] == [2, 4, 16]


def test_after_some_time_twice_as_much_is_tried() -> None:
    fit = Fit(16)
    fit.too_large(16, PIXELS, 0.0)
    fit.too_large(8, PIXELS, 0.0)
    assert fit.most(PIXELS, PATIENCE_S - 0.1) == 4
    assert fit.most(PIXELS, PATIENCE_S) == 8
    assert not fit.fitted(4, PIXELS, PATIENCE_S), "no more frames were there: no trial"
    assert fit.fitted(8, PIXELS, PATIENCE_S)
    assert fit.most(PIXELS, PATIENCE_S + 0.1) == 8
    assert fit.most(PIXELS, 2 * PATIENCE_S) == 16
    assert fit.fitted(16, PIXELS, 2 * PATIENCE_S)
    assert fit.pictures is None
    assert fit.most(1000 * PIXELS, 2 * PATIENCE_S) == 16


def test_trials_that_fail_become_rare() -> None:
    fit = Fit(16)
    fit.too_large(16, PIXELS, 0.0)
    now, waits = 0.0, []
    for _ in range(10):
        since = now
        while fit.most(PIXELS, now) == 8:
            now += 1.0
        waits.append(now - since)
        assert fit.too_large(16, PIXELS, now) == 8
    assert waits == sorted(waits)
    assert waits[:3] == [PATIENCE_S, 2 * PATIENCE_S, 4 * PATIENCE_S]
    assert waits[-1] == LONGEST_S


def test_a_cap_that_was_lifted_too_early_comes_back_for_longer() -> None:
    fit = Fit(2)
    fit.too_large(2, PIXELS, 0.0)
    assert fit.fitted(2, PIXELS, PATIENCE_S)
    fit.too_large(2, PIXELS, PATIENCE_S + 1)
    assert fit.most(PIXELS, 2 * PATIENCE_S + 1) == 1
    assert fit.most(PIXELS, 3 * PATIENCE_S + 1) == 2


@given(st.integers(2, 32), st.lists(st.tuples(st.integers(1, 40), st.floats(0, 200)), max_size=60))
def test_whatever_the_memory_does(max_batch: int, steps: list[tuple[int, float]]) -> None:
    """Each step has room for so many pictures: the size tried is allowed, one at least, and ends up fitting."""
    fit, now = Fit(max_batch), 0.0
    for room, gap in steps:
        now += gap
        for _ in range(10):
            count = fit.most(PIXELS, now)
            assert 1 <= count <= max_batch
            if count == 1 or count <= room:
                fit.fitted(count, PIXELS, now)
                break
            fit.too_large(count, PIXELS, now)
            fit.check()
        else:
            raise AssertionError("halved ten times and still too large")
        fit.check()
