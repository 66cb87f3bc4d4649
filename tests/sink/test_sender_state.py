"""When an address is tried, when a connection is given up, and what is said of it."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sink.outputs.sent_state import CONNECT_S, DROPPED_S, LAUNCH_S, MOST_S, SLOW_S, STEADY_S, STUCK_S, Connection

ADDRESS = "rtmp://server/live/x"


@pytest.fixture
def state() -> Connection:
    return Connection(ADDRESS, Random(1))


def test_it_is_tried_at_once_and_then_after_pauses(state: Connection) -> None:
    now = 100.0
    assert state.due(now)
    for bound in (0.25, 0.5, 1.0, 2.0, 2.0):
        state.started(now)
        assert not state.due(now), "one at a time"
        state.failed(now, "Connection refused")
        assert not state.due(now)
        assert state.due(now + bound)
        assert 0 < state.pause(now) <= bound
        now += bound
    assert (state.failures, state.connections) == (5, 0)


def test_a_refusal_is_named_until_there_is_a_connection(state: Connection) -> None:
    state.started(0.0)
    assert state.trouble(0.1) == ""
    state.failed(0.1, "Connection refused")
    words = f"cannot send to {ADDRESS}: Connection refused; trying again"
    assert state.trouble(0.1) == words
    state.started(1.0)
    assert state.trouble(1.0) == words
    state.made(1.1)
    assert state.trouble(1.1) == ""


def test_no_answer_is_named_and_given_up(state: Connection) -> None:
    state.started(0.0)
    assert state.trouble(LAUNCH_S - 0.1) == "", "the machine is slow, not the other side"
    assert state.overdue(LAUNCH_S - 0.1) == ""
    assert state.overdue(LAUNCH_S + 0.1) == "the sender did not start in 30 s"
    state.calling(20.0)
    assert state.trouble(20.0 + SLOW_S - 0.1) == ""
    assert state.trouble(20.0 + SLOW_S + 0.1) == f"cannot send to {ADDRESS}: no answer yet"
    assert state.overdue(20.0 + CONNECT_S - 0.1) == ""
    assert state.overdue(20.0 + CONNECT_S + 0.1) == "no answer for 10 s"


def test_a_listener_waits_for_ever(state: Connection) -> None:
    state.started(0.0)
    state.listening()
    assert state.overdue(1e6) == ""
    assert state.trouble(1.0) == f"nobody has connected to {ADDRESS} yet"
    state.made(1e6)
    assert state.trouble(1e6) == ""


def test_what_takes_nothing_while_something_waits_is_named_and_given_up(state: Connection) -> None:
    state.started(0.0)
    state.made(0.0)
    for now in (1.0, 50.0, 100.0):  # nothing is there to be taken
        state.looked(now, waiting=False, taken=False)
    assert (state.trouble(100.0), state.overdue(100.0)) == ("", "")
    state.looked(101.0, waiting=True, taken=False)
    state.looked(101.0 + STUCK_S - 0.1, waiting=True, taken=False)
    assert "takes nothing" in state.trouble(101.0 + SLOW_S + 0.1)
    assert state.overdue(101.0 + STUCK_S - 0.1) == ""
    assert state.overdue(101.0 + STUCK_S + 0.1) == "nothing was taken for 5 s"
    state.looked(101.0 + STUCK_S, waiting=True, taken=True)
    assert state.overdue(101.0 + STUCK_S + 0.1) == ""


def test_only_a_connection_that_lasts_has_worked(state: Connection) -> None:
    """One that is accepted and ended at once is not tried faster and faster."""
    now = 0.0
    for _ in range(5):
        state.started(now)
        state.made(now)
        state.looked(now + 0.1, waiting=True, taken=True)
        state.failed(now + 0.2, "the server has closed the connection")
        now += MOST_S + 1
    assert state.pause(now - MOST_S - 1 + 0.2) >= MOST_S / 2
    state.started(now)
    state.made(now)
    state.looked(now + STEADY_S, waiting=True, taken=True)
    assert state.reason == ""
    state.failed(now + STEADY_S, "it is gone")
    assert state.pause(now + STEADY_S) <= 0.25


def test_pictures_left_out_are_told_of_for_a_while(state: Connection) -> None:
    state.started(0.0)
    state.made(0.0)
    state.left_out(1.0)
    assert state.trouble(1.5) == f"{ADDRESS} is too slow; pictures are left out"
    assert state.trouble(1.0 + DROPPED_S) == ""


def test_what_we_end_ourselves_is_no_failure(state: Connection) -> None:
    state.started(0.0)
    state.made(0.0)
    state.ended()
    assert (state.failures, state.connected, state.due(0.0)) == (0, False, True)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(("try", "call", "listen", "made", "fail", "end", "take", "wait", "drop")), st.floats(0, 3)
    ),
    max_size=100,
)


@given(EVENTS)
def test_there_is_always_a_way_on(events: list[tuple[str, float]]) -> None:
    state, now = Connection(ADDRESS, Random(2)), 0.0
    for name, seconds in events:
        now += seconds
        if name == "try" and state.due(now):
            state.started(now)
        elif name == "call" and state.trying:
            state.calling(now)
        elif name == "listen" and state.trying:
            state.listening()
        elif name == "made" and state.trying:
            state.made(now)
        elif name == "fail" and state.begun:
            state.failed(now, "gone")
        elif name == "end" and state.begun:
            state.ended()
        elif name in ("take", "wait"):
            state.looked(now, waiting=name == "wait", taken=name == "take")
        elif name == "drop":
            state.left_out(now)
        state.check()
        assert state.begun or state.due(now + MOST_S)
        if not state.connected and state.reason:
            assert state.trouble(now), "what does not work is named"
