"""Every announced frame is in exactly one state."""

from __future__ import annotations

import pytest

from sink.ledger import MAX_REASONS, Ledger, State


def ledger(count: int) -> Ledger:
    made = Ledger()
    for index in range(count):
        made.announce(index)
    made.check()
    return made


def test_states_add_up_at_every_moment() -> None:
    made = ledger(7)
    assert made.states == {"pending": 7}
    settled = [state for state in State if state is not State.PENDING]
    for index, state in enumerate(settled):
        made.settle(index, state)
        made.check()
        assert sum(made.states.values()) == 7
    assert made.states == {"pending": 1, **{str(state): 1 for state in settled}}
    assert list(made.states) == [str(state) for state in State], "in the order of the enum"
    assert (made.pending, made.incomplete) == (1, 2)


def test_zero_counts_are_left_out() -> None:
    made = ledger(1)
    made.settle(0, State.ANNOTATED)
    assert made.states == {"annotated": 1}
    assert ledger(0).states == {}


def test_a_frame_is_settled_once() -> None:
    made = ledger(2)
    made.settle(1, State.LATE, "deadline")
    with pytest.raises(AssertionError):
        made.settle(1, State.LATE, "deadline")
    assert made.states == {"pending": 1, "late": 1}


@pytest.mark.parametrize("index", [-1, 2, 99])
def test_what_was_not_announced_cannot_be_settled(index: int) -> None:
    with pytest.raises(AssertionError):
        ledger(2).settle(index, State.LOST)


def test_pending_is_no_end() -> None:
    with pytest.raises(AssertionError):
        ledger(1).settle(0, State.PENDING)


@pytest.mark.parametrize("index", [0, 2])
def test_indexes_are_contiguous(index: int) -> None:
    with pytest.raises(AssertionError):
        ledger(1).announce(index)


def test_report() -> None:
    made = ledger(3)
    made.settle(0, State.FAILED, "poison")
    made.settle(1, State.FAILED, "corrupt")
    made.settle(2, State.FAILED, "corrupt")
    assert made.report("s", {"missing_pts": 4}, ["a.mp4"]) == {
        "stream": "s",
        "frames": 3,
        "states": {"failed": 3},
        "reasons": {"corrupt": 2, "poison": 1},
        "repairs": {"missing_pts": 4},
        "parts": ["a.mp4"],
    }


def test_check_sees_a_lost_frame() -> None:
    made = ledger(3)
    made._pending.discard(1)  # what a bug might do
    with pytest.raises(AssertionError):
        made.check()


def test_reasons_that_peers_make_up_are_bounded() -> None:
    made = ledger(200)
    for index in range(200):
        made.settle(index, State.FAILED, f"reason {index}")
    made.check()
    reasons = made.report("s", {}, [])["reasons"]
    assert len(reasons) == MAX_REASONS + 1
    assert reasons["other"] == 200 - MAX_REASONS
    assert made.durable(199).reasons == reasons
