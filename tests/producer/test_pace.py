"""How many frames are under way: fixed in lossless mode, as many as come back in time in live mode."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from producer.pace import Pace


def serve(pace: Pace, seconds_a_frame: float, frames: int, step: float = 0.02) -> list[float]:
    """A worker that needs so long for each frame; returns each frame's age when its answer came."""
    now, free_at = 0.0, 0.0
    under_way: deque[tuple[float, float]] = deque()  # (sent, answered at)
    ages: list[float] = []
    while len(ages) < frames:
        now += step
        while under_way and under_way[0][1] <= now:
            sent, _ = under_way.popleft()
            ages.append(now - sent)
            pace.answered(sent, now)
            pace.check()
        if len(under_way) < pace.limit:
            free_at = max(free_at, now) + seconds_a_frame
            under_way.append((now, free_at))
    return ages


def test_lossless_keeps_its_number() -> None:
    pace = Pace(64, None)
    serve(pace, 10.0, 20)
    assert pace.limit == 64


def test_a_slow_worker_is_not_sent_more_than_it_can_answer_in_time() -> None:
    pace = Pace(64, 0.5)
    ages = serve(pace, 0.1, 400)
    assert sum(age > 0.5 for age in ages) <= 0.05 * len(ages)
    assert 1 <= pace.limit <= 5


def test_a_fast_worker_is_given_more() -> None:
    pace = Pace(64, 0.5)
    serve(pace, 0.001, 4000, step=0.001)
    assert pace.limit > 20


def test_one_late_burst_counts_once() -> None:
    pace = Pace(64, 0.5)
    for _ in range(1000):
        pace.answered(0.0, 0.1)
    before = pace.limit
    for _ in range(10):
        pace.answered(1.0, 2.0)
    assert pace.limit == int(before * 0.6) or pace.limit == int(64 * 0.6)


@given(st.lists(st.floats(0, 5), max_size=200))
def test_never_below_one_nor_above_the_most(ages: list[float]) -> None:
    pace = Pace(8, 0.3)
    now = 0.0
    for age in ages:
        now += 0.01
        pace.answered(now - age, now)
        pace.check()
