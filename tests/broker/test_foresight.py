"""Whether a worker is to have a live frame now."""

from __future__ import annotations

import math

import pytest

from broker.backlog import Item
from broker.foresight import Foresight, Verdict
from broker.limits import Limits
from broker.roster import Roster, Worker
from common import messages as m
from tests.builders import frame

NOW = 100.0
LIMITS = Limits(batch_share=0.2, margin=0.1, live_memory=2.0)


class Bench:
    """One worker that takes 20 ms a frame, with as many leases as a test gives it."""

    def __init__(self) -> None:
        self.roster = Roster(LIMITS, "x")
        self.roster.ready(b"w", m.Ready(worker="w", models={"echo": m.InputSpec(64, 48)}, room=99), NOW)
        self.foresight = Foresight(LIMITS)
        for frames in (1, 2, 4, 8, 16):
            self.worker.speed.measure(0.02 * frames, frames, NOW)

    @property
    def worker(self) -> Worker:
        return self.roster.workers["w"]

    def hold(self, running: int = 0, waiting: int = 0) -> Bench:
        leases = [self.roster.lease(self.worker, item(None), NOW).number for _ in range(running + waiting)]
        self.roster.started(m.Started(worker="w", incarnation="x", leases=leases[:running]), NOW)
        self.roster.check()
        return self

    def judge(self, budget: float | None = 0.5, age: float = 0.0, now: float = NOW) -> Verdict:
        return self.foresight.judge(self.worker, item(budget, age, now), now)


def item(budget: float | None, age: float = 0.0, now: float = NOW) -> Item:
    deadline = math.inf if budget is None else now - age + budget
    return Item(frame(0, budget=budget), b"", deadline)


@pytest.mark.parametrize(
    ("running", "waiting", "verdict"),
    [
        (0, 0, Verdict.NOW),
        (0, 3, Verdict.NOW),  # four take 80 ms, up to 100 suit the budget
        (0, 4, Verdict.LATER),  # batches of five to eight took 160
        (4, 0, Verdict.NOW),
        (4, 4, Verdict.LATER),
        (16, 0, Verdict.NOW),  # 320 ms, 20 and the margin of 50
        (16, 3, Verdict.NOW),
    ],
)
def test_a_fresh_frame(running: int, waiting: int, verdict: Verdict) -> None:
    assert Bench().hold(running, waiting).judge() is verdict


@pytest.mark.parametrize(
    ("running", "age", "verdict"),
    [
        (0, 0.42, Verdict.NOW),
        (0, 0.44, Verdict.HOPELESS),  # 20 ms and the margin
        (8, 0.26, Verdict.NOW),
        (8, 0.28, Verdict.HOPELESS),
    ],
)
def test_one_that_would_be_late_makes_room_for_a_fresh_one(running: int, age: float, verdict: Verdict) -> None:
    assert Bench().hold(running).judge(age=age) is verdict


def test_what_can_never_be_in_time_is_inferred_by_an_idle_worker() -> None:
    """Its late result still brings boxes, and tells how long it takes."""
    bench = Bench()
    assert bench.judge(budget=0.01, age=0.009) is Verdict.NOW
    assert bench.hold(1).judge(budget=0.01) is Verdict.LATER


def test_a_batch_in_the_model_gets_shorter_with_time() -> None:
    bench = Bench().hold(16)
    assert bench.judge(budget=0.3) is Verdict.LATER
    assert bench.judge(budget=0.3, now=NOW + 0.1) is Verdict.NOW
    bench.roster.done(m.Done(worker="w", incarnation="x", leases=[1, 2, 3, 4], outcome="no_sink"), NOW)
    bench.roster.check()
    assert bench.worker.running == 12


def test_lossless_frames_yield_while_live_ones_are_about() -> None:
    bench = Bench().hold(0, 8)
    assert bench.judge(budget=None) is Verdict.NOW
    bench.foresight.accepted(frame(0, budget=0.5), NOW)
    assert bench.judge(budget=None) is Verdict.LATER
    assert Bench().judge(budget=None) is Verdict.NOW
    assert bench.judge(budget=None, now=NOW + 2) is Verdict.NOW


def test_the_smallest_budget_counts_as_long_as_it_is_heard() -> None:
    bench = Bench().hold(0, 1)  # two frames: 40 ms
    for at, budget in [(0.0, 1.0), (0.1, 0.1), (0.2, 1.0)]:
        bench.foresight.accepted(frame(0, budget=budget), NOW + at)
    assert bench.judge(budget=1.0, now=NOW + 2.0) is Verdict.LATER, "20 ms suit the smallest"
    bench.foresight.accepted(frame(0, budget=1.0), NOW + 2.1)
    assert bench.judge(budget=1.0, now=NOW + 2.1) is Verdict.NOW
