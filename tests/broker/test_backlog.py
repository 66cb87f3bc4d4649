"""Queues: order, fairness, limits."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broker.backlog import Backlog, Item, Place
from broker.limits import Limits
from common.messages import Frame


def item(index: int, stream: str = "a", model: str = "m", size: int = 10, deadline: float | None = None) -> Item:
    frame = Frame(stream=stream, epoch=1, index=index, model=model, sink="s", source=(64, 48), size=(32, 24))
    made = Item(frame, bytes(size))
    if deadline is not None:
        made.deadline = deadline
    return made


def take_all(backlog: Backlog, *models: str) -> list[tuple[str, int]]:
    taken = []
    while (one := backlog.take(models or ("m",))) is not None:
        taken.append((one.frame.stream, one.frame.index))
        backlog.check()
    return taken


def test_first_in_first_out() -> None:
    backlog = Backlog(Limits())
    for index in (3, 1, 2):
        assert backlog.offer(item(index)) == (True, [])
    assert (backlog.frames, backlog.bytes) == (3, 30)
    backlog.check()
    assert take_all(backlog) == [("a", 3), ("a", 1), ("a", 2)]
    assert (backlog.frames, backlog.bytes) == (0, 0)
    assert backlog.take(["m"]) is None


def test_returned_frames_go_first_in_index_order() -> None:
    backlog = Backlog(Limits())
    for index in range(6):
        backlog.offer(item(index))
    held = [backlog.take(["m"]) for _ in range(3)]
    for one in (held[1], held[2], held[0]):
        assert one is not None
        assert one.place is Place.GONE
        assert backlog.give_back(one) == []
        backlog.check()
    assert take_all(backlog) == [("a", index) for index in range(6)]


def test_streams_take_turns_whatever_their_load() -> None:
    backlog = Backlog(Limits())
    for index in range(100):
        backlog.offer(item(index, "greedy"))
    for index in range(5):
        backlog.offer(item(index, "modest"))
        backlog.offer(item(index, "third"))
    first = take_all(backlog)[:15]
    assert Counter(stream for stream, _ in first) == {"greedy": 5, "modest": 5, "third": 5}


@pytest.mark.parametrize("models", [("m", "n"), ("n", "m")])
@pytest.mark.parametrize("trickle", ["m", "n"])
def test_a_stream_that_trickles_starves_nobody_and_is_not_starved(models: tuple[str, str], trickle: str) -> None:
    """It has one frame whenever it is looked at: after each one it comes back at the end of the round, not in front."""
    backlog = Backlog(Limits())
    for index in range(60):
        backlog.offer(item(index, "x"))
        backlog.offer(item(index, "y"))
    counts: Counter[str] = Counter()
    backlog.offer(item(0, "trickle", trickle))
    for index in range(1, 91):
        one = backlog.take(models)
        assert one is not None
        counts[one.frame.stream] += 1
        if one.frame.stream == "trickle":
            backlog.offer(item(index, "trickle", trickle))
    assert max(counts.values()) - min(counts.values()) <= 2, counts


def test_fair_between_streams_of_different_models() -> None:
    """Three streams of one model and one of another: a worker that serves both gives each a quarter."""
    backlog = Backlog(Limits())
    for index in range(40):
        for stream in "abc":
            backlog.offer(item(index, stream, "m"))
        backlog.offer(item(index, "d", "n"))
    counts = Counter(stream for stream, _ in take_all(backlog, "m", "n")[:80])
    assert all(abs(count - 20) <= 1 for count in counts.values()), counts


def test_time_without_a_worker_earns_no_burst() -> None:
    backlog = Backlog(Limits())
    for index in range(100):
        backlog.offer(item(index, "a", "m"))
        backlog.offer(item(index, "b", "n"))
    for _ in range(50):
        backlog.take(["m"])
    streams = [stream for stream, _ in take_all(backlog, "m", "n")[:20]]
    assert abs(streams.count("a") - streams.count("b")) <= 2


def test_a_stream_that_had_nothing_makes_up_for_some_turns() -> None:
    """It has sent before, waits for answers, and has a frame here now and then."""
    backlog = Backlog(replace(Limits(), catch_up=3))
    for index in range(100):
        backlog.offer(item(index, "busy"))
    backlog.offer(item(0, "slow"))
    first = [one.frame.stream for one in (backlog.take(["m"]) for _ in range(20)) if one is not None]
    assert first.count("slow") == 1
    for index in range(1, 9):
        backlog.offer(item(index, "slow"))
    then = "".join(stream[0] for stream, _ in take_all(backlog)[:16])
    assert then.startswith("sss"), "those that it missed, and no more"
    assert "bsbsbs" in then
    backlog.check()


def test_looking_changes_nothing() -> None:
    backlog = Backlog(Limits())
    for stream in "ab":
        for index in range(3):
            backlog.offer(item(index, stream))
    for _ in range(6):
        seen = [backlog.peek(["m"]) for _ in range(3)]
        assert backlog.take(["m"]) is seen[0] is seen[1] is seen[2]
    assert backlog.peek(["m"]) is None


def test_models_are_kept_apart() -> None:
    backlog = Backlog(Limits())
    backlog.offer(item(0, "a", "m"))
    backlog.offer(item(1, "a", "n"))
    assert take_all(backlog, "other") == []
    assert take_all(backlog, "n") == [("a", 1)]
    assert take_all(backlog, "m") == [("a", 0)]


def test_a_live_stream_over_its_limit_loses_its_oldest() -> None:
    backlog = Backlog(replace(Limits(), queue_frames=3))
    live = [item(index, deadline=9) for index in range(5)]
    evicted = [old for one in live for old in backlog.offer(one)[1]]
    assert evicted == live[:2]
    backlog.check()
    held = backlog.take(["m"])
    assert held is live[2]
    assert backlog.offer(item(5, deadline=9)) == (True, [])
    assert backlog.give_back(held) == [held]  # the oldest is the one that came back
    backlog.check()


def test_a_lossless_stream_over_its_limit_refuses_the_newest() -> None:
    backlog = Backlog(replace(Limits(), queue_frames=2))
    assert [backlog.offer(item(index))[0] for index in range(4)] == [True, True, False, False]
    assert backlog.offer(item(0, "another")) == (True, [])
    held = backlog.take(["m"])
    assert held is not None
    assert backlog.offer(item(9)) == (True, [])
    assert backlog.give_back(held) == []  # accepted once, kept for good
    assert backlog.frames == 4
    backlog.check()


@pytest.mark.parametrize("deadline", [None, 5.0])
def test_limits_count_bytes_too(deadline: float | None) -> None:
    limits = replace(Limits(), queue_bytes=100, total_bytes=150)
    backlog = Backlog(limits)
    assert backlog.offer(item(0, size=101, deadline=deadline)) == (False, [])
    first = item(1, size=60, deadline=deadline)
    assert backlog.offer(first) == (True, [])
    taken, evicted = backlog.offer(item(2, size=60, deadline=deadline))
    assert (taken, evicted) == ((False, []) if deadline is None else (True, [first]))
    assert backlog.offer(item(0, "b", size=90, deadline=deadline))[0]
    assert not backlog.offer(item(0, "c", size=1, deadline=deadline))[0]  # all streams together are full
    assert backlog.bytes == 150
    backlog.check()


def test_expiry_is_per_frame_and_exact() -> None:
    backlog = Backlog(Limits())
    late, soon, never = item(0, deadline=2.0), item(1, deadline=1.0), item(2)
    for one in (late, soon, never):
        backlog.offer(one)
    assert backlog.expire(0.99) == []
    assert backlog.expire(1.0) == [soon]
    assert backlog.take(["m"]) is late
    assert backlog.expire(5.0) == []  # a worker has it
    backlog.give_back(late)
    assert backlog.expire(5.0) == [late]
    assert backlog.expire(1e9) == []
    assert take_all(backlog) == [("a", 2)]


def test_memory_of_deadlines_is_bounded() -> None:
    backlog = Backlog(Limits())
    for index in range(10_000):
        backlog.offer(item(index, deadline=1e6))
        backlog.take(["m"])
    assert len(backlog._deadlines) <= 1025


class Queues(RuleBasedStateMachine):
    """Against the plainest model there is: a list for each stream and model."""

    def __init__(self) -> None:
        super().__init__()
        self.backlog = Backlog(replace(Limits(), queue_frames=4, catch_up=2))
        self.queues: dict[tuple[str, str], list[Item]] = {}
        self.held: list[Item] = []
        self.returned: set[Item] = set()
        self.next = 0

    def queued(self) -> list[Item]:
        return [one for queue in self.queues.values() for one in queue]

    def drop(self, gone: list[Item]) -> None:
        for one in gone:
            self.queues[one.frame.stream, one.frame.model].remove(one)

    @rule(stream=st.sampled_from("abc"), model=st.sampled_from("mn"), live=st.booleans())
    def offer(self, stream: str, model: str, live: bool) -> None:
        # "a" is live, "c" lossless, and "b" a stream that cannot make up its mind.
        deadline = self.next + 20.0 if stream == "a" or (live and stream == "b") else None
        one = item(self.next, stream, model, deadline=deadline)
        self.next += 1
        taken, evicted = self.backlog.offer(one)
        self.drop(evicted)
        if taken:
            self.queues.setdefault((stream, model), []).append(one)

    @rule(models=st.sets(st.sampled_from("mn"), min_size=1))
    def take(self, models: set[str]) -> None:
        one = self.backlog.take(sorted(models))
        heads = [queue[0] for (_, model), queue in self.queues.items() if queue and model in models]
        assert (one is None) == (not heads)
        if one is not None:
            assert one in heads
            self.drop([one])
            self.held.append(one)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        one = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        queue = self.queues[one.frame.stream, one.frame.model]
        place = sum(1 for other in queue if other in self.returned and other.frame.index < one.frame.index)
        queue.insert(place, one)
        self.returned.add(one)
        self.drop(self.backlog.give_back(one))

    @precondition(lambda self: self.queued())
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.queued()))
        self.backlog.remove(one)
        self.drop([one])

    @rule()
    def expire(self) -> None:
        gone = self.backlog.expire(self.next)
        assert {id(one) for one in gone} == {id(one) for one in self.queued() if one.deadline <= self.next}
        self.drop(gone)

    @invariant()
    def holds(self) -> None:
        self.backlog.check()
        assert self.backlog.frames == len(self.queued())


TestQueues = Queues.TestCase
TestQueues.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
