"""The media link: the producer's Link and the sink's Inlet joined over an in-memory wire that loses and repeats."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import chain, repeat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.link import GAP_S, SILENCE_S, Link
from sink.inlet import Arrival, Inlet
from tests.builders import notice

KEEP, DROP, TWICE = "keep", "drop", "twice"
STEP_S = 0.05


def put(link: Link, count: int, now: float = 0.0, payload: bytes = b"") -> None:
    for _ in range(count):
        link.put(lambda number: notice(number - 1, link=number), payload, now)


def transmit(link: Link) -> list[int]:
    """Everything that the link wants to transmit now."""
    numbers = []
    while (message := link.peek()) is not None:
        numbers.append(message.number)
        link.sent()
    link.check()
    return numbers


class Wire:
    """A lossy road: each message is kept, dropped or doubled as the pattern says; afterwards all are kept."""

    def __init__(self, pattern: list[str]) -> None:
        self._fates: Iterator[str] = chain(pattern, repeat(KEEP))

    def __call__(self, count: int) -> int:
        """How often the next ``count`` copies arrive in all; for one message."""
        return sum({KEEP: 1, DROP: 0, TWICE: 2}[next(self._fates)] for _ in range(count))


def run(count: int, there: list[str], back: list[str], burst: int = 7) -> tuple[list[int], Link, Inlet, float]:
    """Send ``count`` messages; returns what was accepted, in order, and when all was acknowledged."""
    link, inlet = Link(), Inlet()
    wire, wire_back = Wire(there), Wire(back)
    accepted: list[int] = []
    now, given = 0.0, 0
    while given < count or not link.empty:
        assert now < 600, "the link never came to its end"
        put(link, min(burst, count - given), now)
        given = min(count, given + burst)
        for number in transmit(link):
            accepted += [number for _ in range(wire(1)) if inlet.arrived(number) is Arrival.NEW]
        if inlet.ack_due(now):
            inlet.acked(now)
            for _ in range(wire_back(1)):
                link.ack(inlet.link, inlet.gap, now)
        link.tick(now)
        link.check()
        inlet.check()
        now += STEP_S
    return accepted, link, inlet, now


def test_numbers_are_contiguous_and_nothing_is_sent_twice_on_a_good_wire() -> None:
    accepted, link, inlet, _ = run(100, [], [])
    assert accepted == list(range(1, 101))
    assert (link.resent, inlet.duplicates) == (0, 0)


@pytest.mark.parametrize(
    "pattern",
    [
        [DROP],
        [KEEP, KEEP, DROP, KEEP],
        [KEEP, DROP] * 20,
        [DROP] * 40,
        [KEEP] * 9 + [DROP],  # the tail: no gap betrays it
        [TWICE] * 30,
        [TWICE, DROP, KEEP] * 10,
    ],
)
def test_all_arrive_once_and_in_order(pattern: list[str]) -> None:
    accepted, link, _, _ = run(10, pattern, [])
    assert accepted == list(range(1, 11))
    assert link.empty


@pytest.mark.parametrize("seed", range(20))
def test_heavy_random_loss_both_ways(seed: int) -> None:
    rng = random.Random(seed)
    loss = rng.random() * 0.6
    there, back = (rng.choices((KEEP, TWICE, DROP), (1 - loss, 0.1, loss), k=3000) for _ in range(2))
    accepted, _, _, _ = run(200, there, back, burst=rng.randint(1, 60))
    assert accepted == list(range(1, 201))


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 60),
    st.lists(st.sampled_from((KEEP, DROP, TWICE)), max_size=120),
    st.lists(st.sampled_from((KEEP, DROP, TWICE)), max_size=60),
    st.integers(1, 20),
)
def test_any_pattern_whatever(count: int, there: list[str], back: list[str], burst: int) -> None:
    accepted, link, inlet, _ = run(count, there, back, burst)
    assert accepted == list(range(1, count + 1))
    assert inlet.link == count
    assert link.empty


def test_a_gap_is_answered_at_once_but_not_again_within_the_pause() -> None:
    link = Link()
    put(link, 5)
    assert transmit(link) == [1, 2, 3, 4, 5]
    link.ack(1, gap=True, now=1.0)
    assert transmit(link) == [2, 3, 4, 5]
    link.ack(1, gap=True, now=1.0 + GAP_S * 0.9)
    assert transmit(link) == []
    link.ack(2, gap=True, now=1.0 + GAP_S * 1.01)
    assert transmit(link) == [3, 4, 5]
    assert link.resent == 4 + 3


def test_silence_sends_again_only_after_the_limit() -> None:
    link = Link()
    put(link, 3, now=10.0)
    transmit(link)
    link.tick(10.0 + SILENCE_S - 0.01)
    assert transmit(link) == []
    link.tick(10.0 + SILENCE_S)
    assert transmit(link) == [1, 2, 3]
    link.tick(10.0 + SILENCE_S + 0.1)
    assert transmit(link) == [], "one resend starts the wait anew"


def test_what_was_never_transmitted_is_not_resent() -> None:
    link = Link()
    put(link, 3)
    link.tick(100.0)
    assert link.resent == 0
    assert transmit(link) == [1, 2, 3]


def test_full_in_messages_and_in_bytes() -> None:
    link = Link(max_messages=4, max_bytes=100)
    put(link, 3)
    assert not link.full(0.0)
    put(link, 1)
    assert link.full(0.0)
    link.ack(4, gap=False, now=0)
    put(link, 1, payload=bytes(100))
    assert link.full(0.0)
    link.ack(5, gap=False, now=0)
    assert link.empty
    assert not link.full(0.0)


def test_an_old_acknowledgement_changes_nothing() -> None:
    link = Link()
    put(link, 5)
    transmit(link)
    link.ack(4, gap=False, now=0)
    link.ack(2, gap=False, now=0)
    link.check()
    assert not link.empty
    put(link, 1)
    assert transmit(link) == [6]


def test_an_acknowledgement_of_what_was_not_transmitted_does_no_harm() -> None:
    link = Link()
    put(link, 3)
    link.ack(10, gap=True, now=0)
    link.check()
    assert link.empty
    put(link, 1)
    assert transmit(link) == [4]


def test_a_live_link_is_full_as_well_when_its_oldest_message_is_old() -> None:
    link = Link(max_behind=3.0)
    put(link, 1, now=10.0)
    put(link, 1, now=12.9)
    assert not link.full(13.0)
    assert link.full(13.01)
    transmit(link)
    assert link.full(13.01), "transmitted is not arrived"
    link.ack(1, gap=False, now=13.01)
    assert not link.full(13.01)
    assert not Link().full(1e9)
    lasting = Link()
    put(lasting, 1, now=0.0)
    assert not lasting.full(1e9), "lossless waits however long it takes"


def test_the_last_message_can_be_changed_until_it_is_transmitted() -> None:
    link = Link()
    put(link, 2)
    assert not link.amend(1, notice(0, link=1)), "only the last one"
    longer = notice(1, "gap", link=2, count=7)
    assert link.amend(2, longer)
    transmit_one = link.peek()
    assert transmit_one is not None
    link.sent()
    assert link.amend(2, longer), "the one before it was transmitted, not this one"
    last = link.peek()
    assert last is not None
    assert last.header == longer
    link.sent()
    assert not link.amend(2, longer)
    link.tick(SILENCE_S + 1)
    assert link.unsent == 2
    assert not link.amend(2, longer), "rewound, but the sink may have it"
    link.ack(2, gap=False, now=9.0)
    assert not link.amend(2, longer), "acknowledged"
    assert not link.amend(3, longer), "not given out yet"
    assert (link.acknowledged, link.next_number) == (2, 3)
    link.check()
