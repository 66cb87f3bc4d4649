"""When a part that has died is started again."""

from __future__ import annotations

import pytest

from deploy.deaths import MAX_DEATHS, RESTART_MAX_S, RESTART_S, STEADY_S, Deaths


def pause_after(deaths: Deaths, now: float, name: str = "sink", lived: float = 1.0, reached: int = 0) -> float | None:
    """Seconds until it is started again; None: never."""
    if not deaths.died(name, lived, reached, now):
        assert not deaths.waits(name)
        return None
    assert deaths.waits(name)
    pause = 0.0
    while name not in deaths.due(now + pause):
        pause += 0.05
        assert pause <= RESTART_MAX_S + 0.1
    assert deaths.due(now + 100) == [], "it is started once"
    assert not deaths.waits(name)
    deaths.check()
    return pause


def test_pauses_double_up_to_a_limit_and_then_it_is_over() -> None:
    deaths = Deaths()
    pauses = [pause_after(deaths, 10.0 * turn) for turn in range(MAX_DEATHS + 1)]
    assert pauses[:-1] == [
        pytest.approx(min(RESTART_S * 2**turn, RESTART_MAX_S), abs=0.06) for turn in range(MAX_DEATHS)
    ]
    assert pauses[-1] is None


@pytest.mark.parametrize("how", ["lived", "reached", "worked"])
def test_work_in_between_makes_good(how: str) -> None:
    """Without bound: each death is the first one again."""
    deaths = Deaths()
    for turn in range(5 * MAX_DEATHS):
        lived, reached = STEADY_S + 1 if how == "lived" else 1.0, turn + 1 if how == "reached" else 0
        assert pause_after(deaths, 10.0 * turn, lived=lived, reached=reached) == pytest.approx(RESTART_S, abs=0.06)
        if how == "worked":
            deaths.worked("sink")


def test_going_back_to_where_it_was_is_no_work() -> None:
    deaths = Deaths()
    assert pause_after(deaths, 0.0, reached=50) is not None
    assert [pause_after(deaths, 1.0 + turn, reached=40 + turn % 10) for turn in range(MAX_DEATHS)][-1] is None


def test_each_for_itself_and_forgotten() -> None:
    deaths = Deaths()
    for _ in range(MAX_DEATHS):
        assert pause_after(deaths, 0.0, "a") is not None
    assert pause_after(deaths, 0.0, "b") == pytest.approx(RESTART_S, abs=0.06)
    deaths.forget("a")
    assert pause_after(deaths, 0.0, "a") == pytest.approx(RESTART_S, abs=0.06)
    assert deaths.died("a", 1.0, 0, 0.0)
    deaths.forget("a")
    assert deaths.due(1e9) == []
