"""Many live streams on few workers, simulated: each gets its share, and nothing is inferred too late."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.farm import Farm

#: What is promised: the least annotated share of a stream, against the largest one.
EVEN = 0.9
#: Share of what the workers could do that comes in time.
BUSY = 0.85
SLOW = pytest.mark.slow


def farm(streams: int, seconds: Callable[[int], float], workers: int = 1, *, seed: int = 1, **fields: float) -> Farm:
    chance = random.Random(seed)
    made = Farm(streams, lambda batch: seconds(batch) * chance.lognormvariate(0, 0.15), workers, seed=seed, **fields)  # type: ignore[arg-type]
    made.run(25)
    return made


def even(made: Farm) -> float:
    return min(made.shares) / max(made.shares)


def a_second(made: Farm, fps: float = 12) -> float:
    """Annotated frames a second, of all streams."""
    return made.share("annotated") * fps * len(made.streams)


@pytest.mark.parametrize("each", [0.0075, 0.015, pytest.param(0.0055, marks=SLOW), pytest.param(0.03, marks=SLOW)])
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=SLOW)])
def test_sixteen_streams_on_one_worker_that_is_too_slow(each: float, seed: int) -> None:
    """As a detector on a CPU: a batch takes the longer the more frames it has."""
    made = farm(16, lambda batch: each * batch, seed=seed)
    assert even(made) >= EVEN
    assert a_second(made) >= BUSY / each
    assert made.share("late") <= 0.04


def test_far_too_slow_a_worker() -> None:
    """Not one frame of each stream can be under way in time: those that are too old are left out, not inferred late."""
    made = farm(16, lambda batch: 0.06 * batch)
    assert even(made) >= 0.8, "some twenty frames each"
    assert a_second(made) >= 0.8 / 0.06


@pytest.mark.parametrize("workers", [2, pytest.param(4, marks=SLOW)])
def test_several_workers(workers: int) -> None:
    made = farm(16, lambda batch: 0.03 * batch, workers)
    assert even(made) >= EVEN
    assert a_second(made) >= BUSY * workers / 0.03


@pytest.mark.parametrize("each", [0.1, pytest.param(0.02, marks=SLOW)])
def test_a_batch_in_the_time_of_a_frame(each: float) -> None:
    """As on a GPU: batches grow, although each takes a large part of the budget."""
    made = farm(16, lambda batch: each)
    assert a_second(made) >= BUSY * min(192, 16 / each)


def test_enough_for_all() -> None:
    made = farm(16, lambda batch: 0.004 * batch)
    assert made.share("annotated") >= 0.99


def test_alone() -> None:
    """One stream loses nothing by what is done for many."""
    made = farm(1, lambda batch: 0.1 * batch, fps=25)
    assert a_second(made, 25) >= 0.9 / 0.1
    assert made.share("late") <= 0.02
