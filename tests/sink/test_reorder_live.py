"""What is late and how old results are; runs of gaps; epochs that begin later."""

from __future__ import annotations

import pytest

from common.messages import MAX_RUN
from sink.reorder import MAX_LATE, MAX_OF_RUNS, Reorder
from tests.builders import expired, gave_up, notice, result
from tests.sink.test_reorder import BASE, announce, decide, reorder, short

# -- lateness and ages -------------------------------------------------------------------------------------------------


def test_a_frame_is_late_once_whatever_is_said_of_it() -> None:
    made = reorder("live", latency=0.1)
    announce(made, *["sent"] * 5)
    made.answer(expired(0), 0.05)
    assert made.late == 1, "told at once: the producer shall slow down now"
    made.answer(expired(0), 0.06)
    made.answer(result(1, "in time"), 0.07)
    made.answer(expired(2), 0.08)
    made.answer(result(2, "after all"), 0.09)
    made.answer(gave_up(3), 0.09)
    states = [state for _, state, _, _ in decide(made, now=0.2)]
    assert states == ["late", "annotated", "annotated", "failed", "late"]
    assert made.late == 3
    for index in (0, 2, 4):
        made.answer(expired(index), 0.3)
        made.answer(result(index, "late"), 0.4)
    assert (made.late, made.late_results, made.duplicates) == (3, 2, 2)


def test_nothing_is_late_without_a_deadline() -> None:
    made = reorder()
    announce(made, "sent", "sent")
    made.answer(expired(0), 1.0)
    made.answer(result(0), 100.0)
    decide(made, now=200.0)
    made.give_up("shutdown")
    assert made.late == 0
    assert "within" not in made.ages()
    assert made.ages()["p50"] == pytest.approx(100, rel=0.02)


def test_ages_of_results_in_time_and_late_ones() -> None:
    made = reorder("live", latency=0.5)
    made.answer(result(0), 9.0)  # before its notice: as fresh as can be
    announce(made, *["sent"] * 4, now=10.0)
    made.answer(result(1), 10.25)
    made.answer(result(1), 10.3)
    decide(made, now=11.0)
    made.answer(result(2), 12.0)
    made.answer(result(2), 13.0)
    made.answer(result(77), 13.0)
    ages = made.ages()
    assert ages["count"] == 3
    assert ages["within"] == pytest.approx(2 / 3, abs=1e-3)
    assert ages["p50"] == pytest.approx(0.25, rel=0.02)
    assert ages["p99"] == 2.0


def test_how_long_a_late_result_is_waited_for_is_bounded() -> None:
    made = reorder("live", latency=0.1)
    announce(made, *["sent"] * (MAX_LATE + 2))
    assert len(decide(made, now=1.0)) == MAX_LATE + 2
    made.answer(result(1), 2.0)
    made.answer(result(2), 2.0)
    assert (made.late_results, made.duplicates, made.ages()["count"]) == (1, 1, 1)
    made.check()


# -- runs and later beginnings -----------------------------------------------------------------------------------------


def test_a_run_is_decided_frame_by_frame_at_its_place() -> None:
    made = reorder("live")
    announce(made, "sent")
    made.notice(notice(1, "gap", count=3, out=1000, duration=500, pts=7, packet=8), 0.0)
    assert made.announced == 4
    announce(made, "not_sampled")
    assert made.waiting == 5
    assert decide(made) == [], "the frame before it comes first"
    made.answer(result(0, "box"), 0.0)
    decided = made.decide(0.1)
    made.check()
    assert [short(one) for one in decided] == [
        (0, "annotated", "", ["box"]),
        *((index, "lost", "gap", []) for index in (1, 2, 3)),
        (4, "carried", "", ["box"]),
    ]
    assert [one.notice.out for one in decided[1:4]] == [1000, 1500, 2000]
    assert [(one.notice.pts, one.notice.packet) for one in decided[1:4]] == [(7, 8), (None, None), (None, None)]
    assert all(one.notice.count == 1 for one in decided)
    assert made.waiting == 0


def test_a_long_run_holds_nobody_up() -> None:
    made = reorder("live")
    made.notice(notice(0, "gap", count=MAX_RUN), 5.0)
    announce(made, "not_sampled", now=5.0)
    seen = 0
    while decided := made.decide(5.0):
        made.check()
        assert len(decided) <= MAX_OF_RUNS + 1
        seen += len(decided)
        due = made.next_deadline()
        assert due is None or due <= 5.0, "it says that it can go on"
    assert seen == MAX_RUN + 1
    assert made.next_deadline() is None


def test_a_run_half_decided_is_given_up_whole() -> None:
    made = reorder("live")
    made.notice(notice(0, "gap", count=MAX_OF_RUNS + 5), 0.0)
    made.decide(0.0)
    announce(made, "sent")
    assert made.received(-1) == [(0, MAX_OF_RUNS - 1)]
    assert [(one.index, one.reason) for one in made.give_up("shutdown")] == [
        *((index, "gap") for index in range(MAX_OF_RUNS, MAX_OF_RUNS + 5)),
        (MAX_OF_RUNS + 5, "shutdown"),
    ]
    made.check()


def test_an_epoch_may_begin_later() -> None:
    made = Reorder("live", 0.5, 1.0, BASE, first=100)
    assert (made.next, made.announced, made.waiting) == (100, 100, 0)
    with pytest.raises(AssertionError):
        made.notice(notice(0), 0.0)
    made.answer(result(99, "of the epoch before"), 0.0)
    made.answer(result(101, "early"), 0.0)
    announce(made, "sent", "sent")
    made.answer(result(100, "box"), 0.1)
    assert [index for index, *_ in decide(made)] == [100, 101]
    assert made.received(99) == [(100, 101)]
    assert (made.duplicates, made.late_results) == (1, 0)
