"""How long a worker's batches take."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from broker.speed import MEMORY_S, Speed


def grown(seconds: Callable[[int], float], most: float, frames: int = 64) -> int:
    """The batch that a worker comes to which is never short of frames, one step at a time."""
    speed, now = Speed(), 0.0
    for _ in range(60):
        size = 1
        while size < frames and speed.suits(size + 1, most):
            size += 1
        now += seconds(size)
        speed.measure(seconds(size), size, now)
    return size


def test_nothing_known() -> None:
    speed = Speed()
    assert speed.expect(5) == 0.0
    assert [speed.suits(frames, 0.1) for frames in (1, 2, 3, 16)] == [True, False, False, False]


def test_the_average_of_a_size_and_the_nearest_below() -> None:
    speed = Speed()
    speed.measure(0.1, 4, 0.0)
    assert [speed.expect(frames) for frames in (1, 3, 4, 5, 99)] == [pytest.approx(0.1)] * 5
    speed.measure(0.2, 3, 1.0)
    assert speed.expect(4) == pytest.approx(0.12)
    speed.measure(0.5, 9, 2.0)
    assert [speed.expect(frames) for frames in (1, 8, 16, 17)] == pytest.approx([0.12, 0.12, 0.5, 0.5])
    assert speed.batch_s is not None
    assert 0.1 < speed.batch_s < 0.5


def test_sizes_are_tried_one_after_the_other() -> None:
    speed = Speed()
    for frames in (1, 2, 3, 5, 9):
        assert speed.suits(frames, 0.1)
        assert not speed.suits(2 * frames + 1, 0.1)
        speed.measure(0.05, frames, 0.0)


@pytest.mark.parametrize(
    ("seconds", "sizes"),
    [
        (lambda frames: 0.0075 * frames, range(8, 17)),  # a CPU: short batches serve as well
        (lambda frames: 0.05 * frames, range(1, 3)),
        (lambda frames: 0.4 * frames, range(1, 2)),
        (lambda frames: 0.02, range(64, 65)),  # a GPU: many frames in the time of one
        (lambda frames: 0.3, range(64, 65)),
        (lambda frames: 0.2 + 0.002 * frames, range(64, 65)),
    ],
)
def test_which_batch_it_comes_to(seconds: Callable[[int], float], sizes: range) -> None:
    assert grown(seconds, most=0.1) in sizes


def test_what_is_old_is_forgotten_and_tried_again() -> None:
    speed = Speed()
    speed.measure(5.0, 2, 0.0)  # the first batch of this size was tuned
    speed.measure(0.05, 1, 0.1)
    assert not speed.suits(2, 0.1)
    speed.measure(0.05, 1, MEMORY_S + 0.1)
    assert speed.suits(2, 0.1)
    assert not speed.suits(3, 0.1)
