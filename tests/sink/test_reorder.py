"""Order, deadlines, carried boxes, late results."""

from __future__ import annotations

from fractions import Fraction

import pytest

from common import messages as m
from common.messages import MAX_RANGES, Detection, Mode, Tag
from sink.ledger import State
from sink.reorder import MAX_WAITING, STALE_S, Decision, Reorder
from tests.builders import TICK, expired, gave_up, notice, result

RATE = 25
BASE = Fraction(1, RATE * TICK)


def reorder(mode: Mode = "lossless", latency: float = 0.5, carry: float = 1.0) -> Reorder:
    return Reorder(mode, latency, carry, BASE)


def announce(made: Reorder, *fates: str, now: float = 0.0) -> None:
    for fate in fates:
        made.notice(notice(made.announced, fate), now)  # type: ignore[arg-type]
    made.check()


def decide(made: Reorder, now: float = 0.0) -> list[tuple[int, str, str, list[str]]]:
    """Index, state, reason and labels of what is decided now."""
    decided = made.decide(now)
    made.check()
    return [short(one) for one in decided]


def short(one: Decision) -> tuple[int, str, str, list[str]]:
    return one.index, str(one.state), one.reason, [found.label for found in one.detections]


def test_results_in_any_order_leave_in_frame_order() -> None:
    made = reorder()
    announce(made, *["sent"] * 4)
    for index in (2, 3):
        made.answer(result(index, f"r{index}"), 0.0)
        assert decide(made) == []
    made.answer(result(0, "r0"), 0.0)
    assert decide(made) == [(0, "annotated", "", ["r0"])]
    made.answer(result(1, "r1"), 0.0)
    assert [index for index, *_ in decide(made)] == [1, 2, 3]
    assert made.waiting == 0


def test_a_result_may_come_before_its_notice() -> None:
    made = reorder()
    made.answer(result(0, "early"), 0.0)
    assert decide(made) == []
    announce(made, "sent")
    assert decide(made) == [(0, "annotated", "", ["early"])]


@pytest.mark.parametrize(
    ("fate", "state", "reason"),
    [
        ("not_sampled", "carried", ""),
        ("window_full", "skipped", "window_full"),
        ("corrupt", "failed", "corrupt"),
        ("gap", "lost", "gap"),
    ],
)
def test_fates_that_need_no_answer(fate: str, state: str, reason: str) -> None:
    made = reorder()
    announce(made, fate)
    assert decide(made) == [(0, state, reason, [])]


def test_the_notice_says_why_it_was_skipped() -> None:
    made = reorder("live")
    made.notice(notice(0, "window_full", reason="no_worker"), 0.0)
    assert decide(made) == [(0, "skipped", "no_worker", [])]


def test_answers_that_are_no_results() -> None:
    made = reorder("live")
    announce(made, "sent", "sent")
    made.answer(gave_up(0, "poison"), 0.0)
    made.answer(expired(1), 0.0)
    assert decide(made) == [(0, "failed", "poison", []), (1, "late", "expired", [])]


def test_a_result_beats_what_was_said_before_and_not_the_other_way_round() -> None:
    made = reorder("live")
    announce(made, "sent", "sent")
    made.answer(expired(0), 0.0)
    made.answer(result(0, "box"), 0.0)
    made.answer(result(1, "box"), 0.0)
    made.answer(gave_up(1), 0.0)
    assert [state for _, state, _, _ in decide(made)] == ["annotated", "annotated"]
    assert made.duplicates == 1


def test_the_first_of_two_results_counts() -> None:
    made = reorder()
    announce(made, "sent")
    made.answer(result(0, "first"), 0.0)
    made.answer(result(0, "second"), 0.0)
    assert decide(made) == [(0, "annotated", "", ["first"])]
    made.answer(result(0, "third"), 0.0)
    assert made.duplicates == 2


def test_lossless_waits_for_ever_and_nothing_expires() -> None:
    made = reorder()
    announce(made, "sent", "not_sampled")
    assert made.next_deadline() is None
    made.answer(expired(0), 0.0)
    assert decide(made, now=1e6) == []
    assert made.dropped == 1
    assert made.received(-1) == []
    made.answer(result(0, "box"), 0.0)
    assert [state for _, state, _, _ in decide(made, now=1e6)] == ["annotated", "carried"]


def test_the_live_deadline_is_exact() -> None:
    made = reorder("live", latency=0.25)
    announce(made, "sent", now=10.0)
    announce(made, "sent", now=10.125)
    assert made.next_deadline() == 10.25
    assert decide(made, now=10.25 - 1e-9) == []
    assert decide(made, now=10.25) == [(0, "late", "deadline", [])]
    assert made.next_deadline() == 10.375
    made.answer(result(1, "in time"), 0.0)
    assert decide(made, now=99.0) == [(1, "annotated", "", ["in time"])], "an answer that is here is used"


def carried(fate: str, gap: int, carry: float = 1.0) -> Decision:
    """What a frame shows that comes ``gap`` frames after an annotated one."""
    made = reorder(carry=carry)
    announce(made, "sent")
    made.answer(result(0, "box", tags=[Tag("day", 0.5)]), 0.0)
    made.notice(notice(1, fate, out=gap * TICK), 0.0)  # type: ignore[arg-type]
    return made.decide(0.0)[1]


def test_boxes_are_carried_on_age_and_vanish() -> None:
    fresh = round(STALE_S * RATE)
    for gap in (1, fresh):
        shown = carried("not_sampled", gap)
        assert [found.label for found in shown.detections] == ["box"]
        assert [tag.label for tag in shown.tags] == ["day"]
        assert not shown.stale
    for gap in (fresh + 1, RATE):
        shown = carried("not_sampled", gap)
        assert shown.detections
        assert shown.stale
    shown = carried("not_sampled", RATE + 1)
    assert (shown.detections, shown.tags, shown.stale) == ((), (), False)


@pytest.mark.parametrize("fate", ["sent", "window_full", "not_sampled"])
def test_live_boxes_are_carried_up_to_their_age_and_then_cleared(fate: m.Fate) -> None:
    """A model that answers once and never again: late and skipped frames show its boxes for a second."""
    made = reorder("live", latency=0.2, carry=1.0)
    announce(made, "sent")
    made.answer(result(0, "box"), 0.0)
    for index in range(1, 2 * RATE):
        made.notice(notice(index, fate), index / RATE)
    shown = made.decide(1e3)
    assert {one.state for one in shown[1:]} == {
        {"sent": State.LATE, "window_full": State.SKIPPED, "not_sampled": State.CARRIED}[fate]
    }
    assert [bool(one.detections) for one in shown] == [True] * (RATE + 1) + [False] * (RATE - 1)
    assert [one.stale for one in shown[: RATE + 1]] == [index / RATE > STALE_S for index in range(RATE + 1)]
    made.check()


@pytest.mark.parametrize("fate", ["not_sampled", "window_full", "corrupt"])
def test_every_frame_without_its_own_shows_the_last(fate: str) -> None:
    assert carried(fate, 1).detections


def test_nothing_is_carried_where_carry_is_zero() -> None:
    assert carried("not_sampled", 1, carry=0).detections == ()


def test_an_empty_result_clears_the_picture() -> None:
    made = reorder()
    announce(made, "sent", "sent", "not_sampled")
    made.answer(result(0, "box"), 0.0)
    made.answer(result(1), 0.0)
    assert decide(made)[2] == (2, "carried", "", [])


def test_a_late_result_refreshes_what_is_carried() -> None:
    made = reorder("live", latency=0.1)
    announce(made, "sent", "sent", "not_sampled")
    assert [state for _, state, _, _ in decide(made, now=0.2)] == ["late", "late", "carried"]
    made.answer(result(1, "late"), 0.25)
    announce(made, "not_sampled")
    assert decide(made, now=0.3) == [(3, "carried", "", ["late"])]
    made.answer(result(0, "older"), 0.35)
    announce(made, "not_sampled")
    assert decide(made, now=0.4) == [(4, "carried", "", ["late"])], "an older one does not come back"
    made.answer(result(0, "again"), 0.45)
    assert (made.late_results, made.duplicates) == (2, 1)
    assert made.late == 2


def test_a_late_result_is_as_old_as_its_frame() -> None:
    made = reorder("live", latency=0.1, carry=1.0)
    announce(made, "sent")
    decide(made, now=1.0)
    made.answer(result(0, "late"), 0.0)
    made.notice(notice(1, "not_sampled", out=RATE * TICK + 1), 1.0)
    assert decide(made, now=1.0) == [(1, "carried", "", [])]


def test_giving_up_keeps_what_is_known() -> None:
    made = reorder()
    announce(made, "sent", "sent", "not_sampled", "sent")
    made.answer(result(1, "known"), 0.0)
    assert [short(one) for one in made.give_up("shutdown")] == [
        (0, "lost", "shutdown", []),
        (1, "annotated", "", ["known"]),
        (2, "carried", "", []),
        (3, "lost", "shutdown", []),
    ]
    made.check()
    assert made.waiting == 0


def test_giving_up_asks_for_no_deadline() -> None:
    made = reorder("live", latency=0.0)
    announce(made, "sent")
    assert [short(one) for one in made.give_up("shutdown")] == [(0, "lost", "shutdown", [])]


def test_notices_are_contiguous() -> None:
    made = reorder()
    with pytest.raises(AssertionError):
        made.notice(notice(1), 0.0)


def test_what_is_received() -> None:
    made = reorder()
    announce(made, *["sent"] * 6)
    for index in (0, 1, 3, 4):
        made.answer(result(index), 0.0)
    decide(made)
    assert made.received(-1) == [(0, 1), (3, 4)]
    assert made.received(0) == [(1, 1), (3, 4)]
    assert made.received(1) == [(3, 4)]


def test_an_acknowledgement_never_holds_more_ranges_than_may_be_sent() -> None:
    made = reorder()
    announce(made, *["sent"] * (2 * MAX_RANGES + 10))
    made.answer(result(0), 0.0)
    for index in range(3, 2 * MAX_RANGES + 10, 2):
        made.answer(result(index), 0.0)
    decide(made)
    assert len(made.received(-1)) == MAX_RANGES


def test_answers_for_nobody_are_bounded() -> None:
    made = reorder()
    for index in range(MAX_WAITING + 100):
        made.answer(result(index), 0.0)
    made.check()
    assert made.dropped == 100
    made.answer(result(10**12), 0.0)
    assert made.dropped == 101


def test_a_full_stock_still_takes_what_is_due() -> None:
    """Otherwise the frame that all others wait for could never be answered."""
    made = reorder()
    announce(made, *["sent"] * (MAX_WAITING + 10))
    for index in range(1, MAX_WAITING + 10):
        made.answer(result(index), 0.0)
    assert decide(made) == []
    made.answer(result(0, "due"), 0.0)
    assert len(decide(made)) == MAX_WAITING + 10
    assert made.dropped == 0


def test_decisions_keep_their_detections() -> None:
    made = reorder()
    announce(made, "sent")
    made.answer(result(0, "a", "b"), 0.0)
    (decision,) = made.decide(0.0)
    assert decision.state is State.ANNOTATED
    assert decision.detections[0] == Detection("a", 0.5, (1.0, 2.0, 30.0, 40.0))


def test_large_results_are_bounded_by_weight_but_the_next_one_is_always_taken() -> None:
    """A thousand findings of 64 points are 10 MB; eight thousand such results would fill any memory."""
    made = reorder()
    announce(made, *["sent"] * 200)
    found = Detection("x", 0.5, (0.0, 0.0, 1.0, 1.0), [(1.0, 1.0)] * 64)
    for index in range(199, -1, -1):
        made.answer(result(index, detections=[found] * 1000), 0.0)
    made.check()
    kept = sum(high - low + 1 for low, high in made.received(-1))
    assert 25 < kept < 35
    assert made.dropped == 200 - kept
    assert [one.index for one in made.decide(0.0)] == [0]
    for index in range(1, 200):  # sent again, one after the other: nothing is stuck
        made.answer(result(index, detections=[found] * 1000), 0.0)
        made.decide(0.0)
        made.check()
    assert made.next == 200
