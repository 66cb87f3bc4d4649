"""Whose turn it is."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broker.turns import Turns


def serve(turns: Turns, count: int, *models: str) -> str:
    """Names of the streams that are served."""
    served = ""
    for _ in range(count):
        found = turns.first(models or ("m",))
        if found is None:
            break
        turns.served(*found)
        turns.check()
        served += found[0]
    return served


def test_round_and_round() -> None:
    turns = Turns(3, 10)
    for stream in "abc":
        turns.enter(stream, "m")
    assert serve(turns, 9) == "abcabcabc"
    turns.leave("b", "m")
    assert serve(turns, 4) == "acac"
    assert turns.first(["n"]) is None
    assert turns.models == {"m"}


def test_a_new_one_comes_into_the_present_round() -> None:
    turns = Turns(3, 10)
    turns.enter("a", "m")
    assert serve(turns, 50) == "a" * 50
    turns.enter("b", "m")
    assert serve(turns, 6) in ("bababa", "bbabab", "ababab"), "what was before it came is not its own"


@pytest.mark.parametrize("missed", range(10))
def test_missed_turns_are_made_up_for_up_to_a_limit(missed: int) -> None:
    turns = Turns(4, 10)
    turns.enter("a", "m")
    turns.enter("b", "m")
    serve(turns, 2)
    turns.leave("b", "m")
    serve(turns, missed)
    turns.enter("b", "m")
    served = serve(turns, 20)
    assert abs(served.count("b") - served.count("a") - min(4, missed)) <= 1
    assert served.endswith(("ababab", "bababa")), "then they take turns again"


def test_a_model_that_nobody_served_earns_nothing() -> None:
    turns = Turns(4, 10)
    turns.enter("a", "m")
    turns.enter("b", "n")
    serve(turns, 50, "m")
    served = serve(turns, 20, "m", "n")
    assert abs(served.count("a") - served.count("b")) <= 1


def test_streams_of_a_model_that_nobody_served_keep_their_order() -> None:
    turns = Turns(2, 8)
    for stream in "xyz":
        turns.enter(stream, "m")
    serve(turns, 2)
    turns.enter("a", "n")
    serve(turns, 4, "n")
    turns.enter("w", "m")
    served = serve(turns, 40)
    assert {served.count(stream) for stream in "wxyz"} <= {9, 10, 11}
    for at in range(0, 36, 4):
        assert len(set(served[at + 1 : at + 5])) == 4


def test_memory_is_bounded() -> None:
    turns = Turns(4, 20)
    for number in range(1000):
        turns.enter(str(number), "m")
        serve(turns, number % 3)
        turns.leave(str(number), "m")
        turns.check()
    assert turns.models == set()
    for _ in range(1000):  # nobody serves it, and its frames expire
        turns.enter("x", "m")
        turns.leave("x", "m")
    turns.enter("y", "m")
    for _ in range(1000):
        turns.enter("x", "m")
        turns.leave("x", "m")
    turns.check()


class Rounds(RuleBasedStateMachine):
    """Streams that always have frames are never more than one turn apart, whatever the others do."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = Turns(2, 8)
        self.inside: set[tuple[str, str]] = set()
        self.counts: Counter[str] = Counter()
        for stream in "xyz":
            self.turns.enter(stream, "m")

    @rule(stream=st.sampled_from("abcd"), model=st.sampled_from("mn"))
    def enter(self, stream: str, model: str) -> None:
        if (stream, model) not in self.inside:
            self.inside.add((stream, model))
            self.turns.enter(stream, model)

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        who = data.draw(st.sampled_from(sorted(self.inside)))
        self.inside.remove(who)
        self.turns.leave(*who)

    @rule(models=st.sets(st.sampled_from("mn"), min_size=1))
    def serve(self, models: set[str]) -> None:
        found = self.turns.first(sorted(models))
        waiting = {model for _, model in self.inside} | {"m"}
        assert (found is None) == (not waiting & models)
        if found is not None:
            assert found in self.inside or found[0] in "xyz"
            assert found[1] in models
            self.turns.served(*found)
            self.counts[found[0]] += 1

    @invariant()
    def holds(self) -> None:
        self.turns.check()
        steady = [self.counts[stream] for stream in "xyz"]
        assert max(steady) - min(steady) <= 1


TestRounds = Rounds.TestCase
TestRounds.settings = settings(max_examples=50, stateful_step_count=50, deadline=None)
