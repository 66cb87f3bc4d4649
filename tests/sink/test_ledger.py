"""Every announced frame is in exactly one state."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sink.ledger import MAX_REASONS, Books, Ledger, State


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


def test_books_follow_what_is_durable() -> None:
    made = ledger(6)
    for index, state in enumerate([State.ANNOTATED, State.CARRIED, State.FAILED, State.ANNOTATED]):
        made.settle(index, state, "poison" if state is State.FAILED else "")
    assert made.durable(-1) == Books()
    assert made.durable(1) == Books(2, {"annotated": 1, "carried": 1}, {})
    made.check()
    assert made.durable(0) == Books(2, {"annotated": 1, "carried": 1}, {}), "never back"
    assert made.durable(99) == Books(4, {"annotated": 2, "carried": 1, "failed": 1}, {"poison": 1}), (
        "only what is settled"
    )
    made.check()
    assert made.states == {"pending": 2, "annotated": 2, "carried": 1, "failed": 1}, "the counts of now are others"


def test_books_do_not_change_behind_the_back_of_who_has_them() -> None:
    made = ledger(2)
    made.settle(0, State.LATE, "deadline")
    before = made.durable(0)
    made.settle(1, State.LATE, "deadline")
    made.durable(1)
    assert before == Books(1, {"late": 1}, {"deadline": 1})


def test_a_ledger_goes_on_from_books() -> None:
    """Frames that were counted and were not durable are announced and counted again: once in all."""
    first = ledger(8)
    for index in range(6):
        first.settle(index, State.ANNOTATED)
    books = first.durable(3)
    made = Ledger(books)
    made.check()
    assert (made.announced, made.states, made.durable(-1)) == (4, {"annotated": 4}, books)
    with pytest.raises(AssertionError):
        made.announce(8)
    made.announce(4, 3)
    made.check()
    made.settle(4, State.LATE, "deadline")
    assert made.durable(4) == Books(5, {"annotated": 4, "late": 1}, {"deadline": 1})
    made.settle(5, State.ANNOTATED)
    made.settle(6, State.LOST, "gap")
    made.check()
    assert made.report("s", {}, []) == {
        "stream": "s", "frames": 7, "states": {"annotated": 5, "late": 1, "lost": 1},
        "reasons": {"deadline": 1, "gap": 1}, "repairs": {}, "parts": [],
    }  # fmt: skip
    assert made.incomplete == 1


def test_a_run_is_announced_at_once() -> None:
    made = ledger(2)
    made.announce(2, 10_000)
    assert (made.announced, made.pending) == (10_002, 10_002)
    with pytest.raises(AssertionError):
        made.announce(3)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from(["announce", "settle", "durable", "die"]), max_size=80), st.randoms(use_true_random=False)
)
def test_over_any_number_of_deaths_each_frame_is_counted_once(events: list[str], rng: random.Random) -> None:
    made, settled = Ledger(), 0
    books = Books()
    fates: dict[int, State] = {}  # of frames as they were settled last
    for event in events:
        if event == "announce":
            made.announce(made.announced, rng.randint(1, 3))
        elif event == "settle" and settled < made.announced:
            fates[settled] = rng.choice([State.ANNOTATED, State.LATE, State.FAILED])
            made.settle(settled, fates[settled], "why" if fates[settled] is State.LATE else "")
            settled += 1
        elif event == "durable":
            books = made.durable(rng.randint(-1, settled))
        elif event == "die":
            made, settled = Ledger(books), books.frames
        made.check()
        kept = [str(fates[index]) for index in range(books.frames)]
        assert books.states == {state: kept.count(state) for state in set(kept)}
        assert books.reasons.get("why", 0) == kept.count("late")
    assert made.states.get("annotated", 0) == [fates[index] for index in range(settled)].count(State.ANNOTATED)
