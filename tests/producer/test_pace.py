"""How many frames are under way: fixed in lossless mode, as many as come back in time in live mode."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.pace import MAX_CAUTION, PATIENCE, PRICE, Pace

BUDGET_S = 0.5


class Hand:
    """A pace driven by hand: each round uses the limit up, and all its answers take equally long."""

    def __init__(self, most: int = 64, workers: int = 0) -> None:
        self.pace = Pace(most, BUDGET_S)
        self.now = 100.0
        self.pace.workers(workers, self.now)

    def answers(self, count: int, took: float, late: bool = False, used: bool = True) -> int:
        """So many answers that took so long, one after the other; returns the limit."""
        for _ in range(count):
            sent, self.now = self.now + 1e-6, self.now + took
            self.pace.sent(self.pace.limit if used else 0)
            self.pace.answered(sent, self.now, late)
            self.pace.check()
        return self.pace.limit

    def grown(self, limit: int) -> Hand:
        """Until the limit is ``limit`` and has proved good."""
        while self.pace.limit < limit:
            self.answers(1, 0.001)
        self.answers(2 * limit, 0.001, used=False)
        assert self.pace.limit == limit
        return self


def test_lossless_keeps_its_number() -> None:
    pace = Pace(64, None)
    for late in (True, False) * 50:
        pace.sent(64)
        pace.answered(0.0, 10.0, late)
        pace.workers(3, 10.0)
        pace.check()
    assert pace.limit == 64


def test_it_grows_while_one_more_looks_safe() -> None:
    assert Hand().answers(500, 0.001) > 10
    assert Hand(most=5).answers(500, 0.001) == 5
    assert Hand().answers(500, 0.42 * BUDGET_S) > 1
    assert Hand().answers(20, 0.55 * BUDGET_S) == 1, "two in a row would take 1.1 of the budget"


def test_it_does_not_grow_where_it_is_not_used_up() -> None:
    hand = Hand().grown(3)
    hand.answers(6, 0.001, used=False)
    assert hand.answers(100, 0.001, used=False) <= 4


def test_a_worker_for_each_frame_makes_it_safe() -> None:
    hand = Hand(workers=4)
    assert hand.answers(30, 0.95 * BUDGET_S) == 4


def test_workers_that_leave_take_their_share_along() -> None:
    hand = Hand(workers=4).grown(9)
    hand.pace.workers(2, hand.now)
    assert hand.pace.limit == 4
    hand.pace.workers(0, hand.now)
    assert hand.pace.limit == 4, "nobody is there to be sent anything"
    hand.pace.workers(4, hand.now)
    assert hand.pace.limit == 4


def test_a_late_answer_in_a_trial_takes_it_back() -> None:
    hand = Hand()
    while hand.pace.limit < 4:
        hand.answers(1, 0.001)
    assert hand.answers(1, BUDGET_S, late=True) == 3
    assert hand.answers(30, 0.001) == 3, "what was too much is remembered"


def test_what_was_too_much_is_tried_again_ever_more_seldom() -> None:
    hand = Hand()
    while hand.pace.limit < 4:
        hand.answers(1, 0.001)
    waits = []
    for _ in range(6):
        hand.answers(1, BUDGET_S, late=True)
        waits.append(0)
        while hand.pace.limit < 4:
            hand.answers(1, 0.001)
            waits[-1] += 1
    assert waits[0] >= PRICE * 4
    assert all(later >= 1.5 * earlier for earlier, later in pairwise(waits[:4]))
    assert max(waits) <= PRICE * (4 * MAX_CAUTION + PATIENCE) + 20


def test_a_single_late_answer_is_forgiven_a_heap_is_not() -> None:
    hand = Hand().grown(10)
    assert hand.answers(1, BUDGET_S, late=True) == 10
    hand.answers(3 * PRICE, 0.3, used=False)
    assert hand.answers(1, BUDGET_S, late=True) == 10
    assert hand.answers(1, BUDGET_S, late=True) == 5


def test_late_answers_that_come_singly_add_up() -> None:
    hand = Hand().grown(10)
    for _ in range(20):
        hand.answers(10, 0.3)
        hand.answers(1, BUDGET_S, late=True)
    assert hand.pace.limit < 10


def test_frames_of_one_moment_count_once() -> None:
    """What was sent before the step back says nothing of the smaller number."""
    hand = Hand().grown(16)
    sent = hand.now
    for _ in range(16):
        hand.pace.answered(sent + 1e-6, sent + BUDGET_S, True)
    assert hand.pace.limit == 8


@given(st.lists(st.tuples(st.floats(0, 2), st.booleans(), st.integers(0, 12)), max_size=300), st.integers(1, 9))
def test_whatever_happens(events: list[tuple[float, bool, int]], most: int) -> None:
    pace = Pace(most, BUDGET_S)
    now = 0.0
    for took, late, number in events:
        now += 0.01
        if number > 8:
            pace.workers(number - 9, now)
        pace.sent(number)
        pace.answered(now - took, now, late)
        pace.check()


def test_one_at_a_time_is_always_allowed() -> None:
    hand = Hand()
    draw = random.Random(5)
    for _ in range(500):
        assert hand.answers(1, 10.0, late=draw.random() < 0.9) >= 1


@pytest.mark.parametrize("share", [0.01, 0.3])
def test_an_idle_stream_keeps_what_it_has(share: float) -> None:
    hand = Hand().grown(5)
    hand.now += 3600
    assert hand.answers(5, share * BUDGET_S, used=False) == 5
