"""Live streams against fleets of every speed, simulated: results come in time, and the workers are kept busy."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import pytest

from producer.pace import Pace
from tests.fleet import ACK_S, HOP_S, WAIT_S, Fleet, jitter

BUDGET_S = 0.5
#: What is promised of the results that are computed.
IN_TIME = 0.95
#: Share of what the workers could give in time at best that they must give, from the first second on.
BUSY = 0.8
MINUTE_S = 60


def fleet(service: Callable[[int], float], workers: int, *, budget: float = BUDGET_S, **fields: float) -> Fleet:
    return Fleet(Pace(96, budget), service, workers, budget=budget, **fields)  # type: ignore[arg-type]


def shares(made: Fleet, since: float = 0.0) -> tuple[float, float]:
    """Results in time per second, and their share of all results."""
    ages = [age for at, age in made.seen.ages if at > since]
    good = sum(age <= made.budget for age in ages)
    return good / (made.now - since), good / max(1, len(ages))


def ideal(seconds: float, workers: int, fps: float, budget: float = BUDGET_S) -> float:
    """Results a second that can be had in time of workers that take ``seconds`` for each frame."""
    if seconds <= 0.45 * budget:
        return min(fps, workers / seconds)  # one waits at each worker
    cycle = math.ceil((seconds + WAIT_S + 3 * HOP_S + ACK_S) * fps) / fps  # none waits, the next comes with its frame
    return min(fps, workers / cycle)


SHARES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.42, 0.55, 0.7, 0.85, 0.95)
SPEEDS = [*product((1, 2, 4), SHARES, (1,)), *product((1, 4), (0.1, 0.3, 0.42, 0.95), (16,))]


@pytest.mark.parametrize(("workers", "share", "batch"), SPEEDS)
def test_every_speed_of_worker(workers: int, share: float, batch: int) -> None:
    """``share``: of the budget, that a frame takes, more or less; less so where there is little room for more."""
    seconds = share * BUDGET_S
    spread = 0.1 if share < 0.8 else 0.02 if share < 0.9 else 0.005
    made = fleet(jitter(lambda count: seconds * count, spread, 7), workers, batch=batch)
    made.run(MINUTE_S)
    rate, in_time = shares(made)
    assert in_time >= IN_TIME
    assert rate >= BUSY * ideal(seconds, workers, 25)


@pytest.mark.parametrize(("workers", "share"), [*product((1, 4), (0.05, 0.2, 0.3, 0.55))])
def test_models_that_take_a_batch_in_the_time_of_a_frame(workers: int, share: float) -> None:
    """As a GPU does. Up to half the budget, all 50 frames a second can be inferred in time."""
    made = fleet(jitter(lambda count: share * BUDGET_S, 0.05, 3), workers, fps=50)
    made.run(MINUTE_S)
    rate, in_time = shares(made)
    assert in_time >= IN_TIME
    assert rate >= BUSY * (50 if share < 0.5 else ideal(share * BUDGET_S, workers, 50))


@pytest.mark.parametrize(("spread", "share"), [(0.3, 0.05), (0.3, 0.2), (0.3, 0.42), (0.6, 0.05), (0.6, 0.2)])
@pytest.mark.parametrize("workers", [1, 4])
def test_times_that_vary_widely(workers: int, share: float, spread: float) -> None:
    seconds = share * BUDGET_S
    made = fleet(jitter(lambda count: seconds * count, spread, 11), workers, batch=1)
    made.run(2 * MINUTE_S)
    rate, in_time = shares(made)
    assert in_time >= IN_TIME
    assert rate >= 0.6 * ideal(seconds * math.exp(spread**2 / 2), workers, 25)


@pytest.mark.parametrize("budget", [0.1, 2.0])
@pytest.mark.parametrize("share", [0.05, 0.42, 0.7])
@pytest.mark.parametrize("workers", [1, 3])
def test_other_budgets(workers: int, share: float, budget: float) -> None:
    made = fleet(jitter(lambda count: share * budget * count, 0.05, 5), workers, budget=budget, fps=50, batch=1)
    made.run(2 * MINUTE_S)
    rate, in_time = shares(made)
    assert in_time >= IN_TIME
    assert rate >= BUSY * ideal(share * budget, workers, 50, budget)


@pytest.mark.parametrize("share", [0.2, 0.42, 0.7, 0.95])
@pytest.mark.parametrize("told", [True, False])
def test_workers_leave_and_join(share: float, told: bool) -> None:
    """Four workers, then one, then four. ``told``: the News tell how many; else there are others' among them."""
    seconds = share * BUDGET_S
    made = fleet(jitter(lambda count: seconds * count, 0.02, 3), 4, batch=1, news=told)
    for change in (0, -3, 3):
        if change > 0:
            made.join(change)
        elif change < 0:
            made.leave(-change)
        since = made.now
        made.run(MINUTE_S)
        rate, in_time = shares(made, since)
        assert in_time >= 0.94, "even in the minute of the change"
        workers = 1 if change < 0 else 4
        if told:
            assert rate >= 0.75 * ideal(seconds, workers, 25)
    assert shares(made)[1] >= IN_TIME


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_workers_become_slower_and_faster_again(share: float) -> None:
    pace_of_work = [1.0]
    made = fleet(jitter(lambda count: share * BUDGET_S * count * pace_of_work[0], 0.05, 3), 2, batch=1)
    for factor in (1, 2, 1):
        pace_of_work[0] = factor
        since = made.now
        made.run(MINUTE_S)
        rate, _ = shares(made, since)
        assert rate >= 0.7 * ideal(share * BUDGET_S * factor, 2, 25)
    assert shares(made)[1] >= IN_TIME


def test_all_workers_away_for_a_while() -> None:
    made = fleet(lambda count: 0.1 * count, 2)
    made.run(20)
    made.leave(2)
    made.run(10)
    assert made.window.with_model <= made.window.limit, "nothing piles up"
    made.join(2)
    since = made.now
    made.run(MINUTE_S)
    rate, in_time = shares(made, since)
    assert in_time >= IN_TIME
    assert rate >= BUSY * ideal(0.1, 2, 25)


@pytest.mark.parametrize("share", [1.1, 1.5, 3, 10])
def test_where_one_inference_takes_longer_than_the_budget(share: float) -> None:
    """One at a time: results are late, but no later than they must be, and they refresh the boxes."""
    seconds = share * BUDGET_S
    made = fleet(lambda count: seconds * count, 2)
    made.run(MINUTE_S)
    ages = [age for _, age in made.seen.ages]
    assert max(ages) <= seconds + WAIT_S + 3 * HOP_S
    assert len(ages) >= 0.6 * MINUTE_S / seconds
    assert made.reorder.late_results == len(ages)
    assert made.window.limit == 1


def test_a_fast_fleet_is_not_sent_more_than_it_needs() -> None:
    """So that little is under way when something goes wrong."""
    made = fleet(lambda count: 0.02 * count, 2)
    made.run(MINUTE_S)
    assert made.window.limit <= 4
    assert shares(made)[0] > 24
