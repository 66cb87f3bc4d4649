"""Batches: full or waited for, one size each, suspects alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.batching import Batcher

WAIT_S = 0.01


def batcher(max_batch: int, *frames: str, now: float = 0.0) -> Batcher[str]:
    """``frames`` are named by their shape; a capital letter has a failed attempt behind it."""
    made: Batcher[str] = Batcher(max_batch, WAIT_S)
    for frame in frames:
        made.add(frame, frame[0].lower(), frame[0].isupper(), now)
    made.check()
    return made


def test_a_full_batch_goes_at_once() -> None:
    made = batcher(3, "a1", "a2", "a3", "a4")
    assert made.take(0.0) == ["a1", "a2", "a3"]
    assert made.waiting == 1


def test_a_batch_that_is_not_full_waits_exactly_so_long() -> None:
    made = batcher(3, "a1", now=5.0)
    made.add("a2", "a", False, 5.008)
    assert made.next_deadline() == 5.0 + WAIT_S
    assert made.take(5.0 + WAIT_S - 1e-9) == []
    assert made.take(5.0 + WAIT_S) == ["a1", "a2"], "counted from the first"
    assert made.next_deadline() is None
    assert made.take(99.0) == []


def test_in_a_hurry_nothing_is_waited_for() -> None:
    assert batcher(3, "a1").take(0.0, hurry=True) == ["a1"]


def test_one_size_in_a_batch_and_order_kept() -> None:
    made = batcher(3, "a1", "b1", "a2", "b2")
    assert made.take(0.0) == ["a1", "a2"], "others wait: more of this size may never come"
    assert made.take(0.0) == []
    assert made.take(WAIT_S) == ["b1", "b2"]


def test_a_suspect_runs_alone() -> None:
    made = batcher(3, "a1", "A2", "a3", "A4")
    assert made.take(0.0) == ["a1", "a3"]
    assert made.take(0.0) == ["A2"]
    assert made.take(0.0) == ["A4"]


def test_capacity_is_two_batches() -> None:
    made = batcher(2, "a1", "a2", "a3", "a4")
    assert made.capacity == 4
    with pytest.raises(AssertionError):
        made.add("a5", "a", False, 0.0)


def test_what_was_too_large_comes_again_in_smaller_batches_and_at_once() -> None:
    made = batcher(4, "a1", "a2", "a3", "a4", "a5", "b1", now=5.0)
    jobs = made.take(5.0)
    assert jobs == ["a1", "a2", "a3", "a4"]
    made.put_back(jobs, "a", 5.0)
    made.check()

    def most(shape: str) -> int:
        return {"a": 2, "b": 9}[shape]

    assert made.take(5.0, most=most) == ["a1", "a2"]
    assert made.take(5.0, most=most) == ["a3", "a4"]
    assert made.take(5.0, most=most) == ["a5"], "another size waits"
    assert made.take(5.0, most=most) == []
    assert made.take(5.0 + WAIT_S, most=most) == ["b1"]


def test_what_comes_back_last_is_due_too() -> None:
    made = batcher(2, "a1", "a2", now=5.0)
    jobs = made.take(5.0)
    made.put_back(jobs, "a", 5.0)
    assert made.take(5.0, most=lambda shape: 1) == ["a1"]
    assert made.next_deadline() == 5.0
    assert made.take(5.0, most=lambda shape: 2) == ["a2"]


@settings(deadline=None)
@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.sampled_from("abAB"), st.floats(0, 0.02)), max_size=30),
)
def test_nothing_is_lost_doubled_mixed_or_late(max_batch: int, steps: list[tuple[str, float]]) -> None:
    made: Batcher[tuple[int, str, float]] = Batcher(max_batch, WAIT_S)
    now, batches = 0.0, []

    def take(hurry: bool = False) -> None:
        while batch := made.take(now, hurry):
            batches.append(batch)
            made.check()
        due = made.next_deadline()
        assert due is None or due > now, "a batch is due and was not given"

    for number, (shape, gap) in enumerate(steps):
        now += gap
        take()
        if made.waiting < made.capacity:
            made.add((number, shape, now), shape.lower(), shape.isupper(), now)
        take()
    take(hurry=True)
    assert made.waiting == 0
    taken = [frame for batch in batches for frame in batch]
    assert len(taken) == len(set(taken))
    for batch in batches:
        assert len(batch) <= max_batch
        assert len({shape for _, shape, _ in batch}) == 1
        assert len(batch) == 1 or not batch[0][1].isupper()
        assert batch == sorted(batch)
