"""Producer's window, sink's order and ledger together, under random events: nothing is forgotten, counts add up.

A small broker and a lossy road for results stand between them, as plain data. The media link is taken for reliable
here (tests/producer/test_link.py is about that).
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from common import messages as m
from common.messages import Expired, GaveUp, Result
from common.wire import to_ranges
from producer.pace import Pace
from producer.window import Window
from sink.ledger import Books, Ledger, State
from sink.reorder import Reorder
from tests.builders import EPOCH, MODEL, STREAM, TICK, ack, expired, frame, gave_up, notice, result

Answer = Result | GaveUp | Expired
LATENCY_S = 0.5
SPAN, IN_FLIGHT = 12, 6
BASE = Fraction(1, 25 * TICK)


class Chain(RuleBasedStateMachine):
    """The broker holds ``held``; ``road`` are answers under way to the sink, in any order."""

    @initialize(mode=st.sampled_from(("lossless", "live")), first=st.sampled_from((0, 7)))
    def start(self, mode: m.Mode, first: int) -> None:
        """``first`` frames were settled for good in earlier epochs."""
        self.live = mode == "live"
        self.now = 100.0
        self.window = Window(SPAN, 10_000, Pace(IN_FLIGHT, LATENCY_S if self.live else None))
        self.reorder = Reorder(mode, LATENCY_S, 0.2, BASE, first)
        self.ledger = Ledger(Books(first, {"annotated": first} if first else {}))
        self.index = first
        self.resolved = first - 1
        self.incarnation, self.number = 0, 0
        self.held: dict[int, m.Frame] = {}
        self.road: list[Answer] = []
        self.sent: dict[int, float] = {}  # index → when it was announced
        self.poisoned: set[int] = set()

    # -- the producer ------------------------------------------------------------------------------------------------

    @rule(wanted=st.sampled_from(("sent", "sent", "sent", "not_sampled", "corrupt")), arrives=st.booleans())
    def announce(self, wanted: m.Fate, arrives: bool) -> None:
        fate, index = wanted, self.index
        if not self.window.room and not self.live:
            return
        if fate == "sent" and not self.window.room_to_send:
            if not self.live:
                return
            fate = "window_full"
        self.window.announce(index, 100)
        if fate == "sent":
            header = frame(index, budget=LATENCY_S if self.live else None)
            self.window.sent(header, b"jpeg", self.now)
            self.sent[index] = self.now
            if arrives:  # else it went down with a broker's socket
                self.held[index] = header
        self.index += 1
        self.ledger.announce(index)
        self.reorder.notice(notice(index, fate), self.now)

    @precondition(lambda self: self.live)
    @rule(count=st.integers(1, 5))
    def gap(self, count: int) -> None:
        """The link was full: these frames stay at home, told of together."""
        self.ledger.announce(self.index, count)
        self.reorder.notice(notice(self.index, "gap", count=count), self.now)
        self.index += count

    @rule(seconds=st.sampled_from((0.01, 0.1, 0.3, 1.0, 15.0)))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self._resend(self.window.tick(self.now), True)

    # -- broker and workers ------------------------------------------------------------------------------------------

    @precondition(lambda self: self.held)
    @rule(data=st.data(), outcome=st.sampled_from(("result", "result", "dropped", "poison", "expired", "twice")))
    def answer(self, data: st.DataObject, outcome: str) -> None:
        index = data.draw(st.sampled_from(sorted(self.held)))
        del self.held[index]
        if outcome == "poison":
            self.poisoned.add(index)
            self.road.append(gave_up(index))
        elif outcome == "expired":  # in lossless mode a lie, which must not count
            self.road.append(expired(index))
        elif outcome != "dropped":
            self.road += [result(index, str(index))] * (2 if outcome == "twice" else 1)

    @rule()
    def restart_broker(self) -> None:
        self.incarnation += 1
        self.held.clear()

    @rule(arrives=st.booleans())
    def news(self, arrives: bool) -> None:
        self.number += 1
        ranges = to_ranges(sorted(self.held))
        word = m.News(incarnation=str(self.incarnation), number=self.number, held={STREAM: (EPOCH, ranges)})
        resent = self.window.news(word, STREAM, EPOCH, self.now)
        held = [header.index for header, _ in resent if header.index in self.held]
        assert not held, f"frames {held} are sent again though the broker holds them"
        self._resend(resent, arrives)

    def _resend(self, frames: list[tuple[m.Frame, bytes]], arrives: bool) -> None:
        for header, payload in frames:
            assert header.model == MODEL
            assert payload == b"jpeg"
            if arrives:
                self.held.setdefault(header.index, header)

    # -- the road and the sink ---------------------------------------------------------------------------------------

    @precondition(lambda self: self.road)
    @rule(data=st.data(), stays=st.booleans())
    def deliver(self, data: st.DataObject, stays: bool) -> None:
        place = data.draw(st.integers(0, len(self.road) - 1))
        self.reorder.answer(self.road[place] if stays else self.road.pop(place), self.now)

    @precondition(lambda self: self.road)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        del self.road[data.draw(st.integers(0, len(self.road) - 1))]

    @rule(index=st.integers(0, 20_000))
    def nonsense(self, index: int) -> None:
        """A result for a frame that nobody announced (yet)."""
        if index >= self.index:
            self.reorder.answer(expired(index) if not self.live else gave_up(10**9 + index), self.now)

    @rule()
    def decide(self) -> None:
        expected = self.reorder.next
        for decision in self.reorder.decide(self.now):
            assert decision.index == expected, "frames leave in order"
            expected += 1
            self._settle(decision.index, decision.state, decision.reason)
            if decision.state is State.ANNOTATED:
                assert [found.label for found in decision.detections] == [str(decision.index)]
            if decision.reason == "deadline":
                assert self.now >= self.sent[decision.index] + LATENCY_S
        due = self.reorder.next_deadline()
        assert due is None or due > self.now, "a deadline has passed and nothing was decided"
        assert self.live or due is None

    def _settle(self, index: int, state: State, reason: str) -> None:
        self.ledger.settle(index, state, reason)
        self.resolved = index

    @rule()
    def acknowledge(self) -> None:
        word = ack(self.reorder.received(self.resolved), self.resolved, late=self.reorder.late)
        self.window.ack(word, self.now)

    # -- what must hold ----------------------------------------------------------------------------------------------

    @invariant()
    def sound(self) -> None:
        if not hasattr(self, "window"):
            return
        self.window.check()
        self.reorder.check()
        self.ledger.check()
        assert sum(self.ledger.states.values()) == self.ledger.announced == self.index
        if not self.live:
            assert self.window.unresolved <= SPAN
        assert self.window.unanswered <= self.window.with_model <= IN_FLIGHT
        assert self.ledger.states.get("late", 0) <= self.reorder.late <= (len(self.sent) if self.live else 0)
        assert self.reorder.ages()["count"] <= len(self.sent)

    @invariant()
    def nothing_is_forgotten(self) -> None:
        """A frame without an answer is either known to the producer or answered at the sink."""
        if not hasattr(self, "window"):
            return
        answered = {i for low, high in self.reorder.received(-1) for i in range(low, min(high, self.index) + 1)}
        lost = [i for i in self.sent if i not in answered and not self.window.waits(self._header(i))]
        assert not lost, f"frames {lost} are with nobody"

    def _header(self, index: int) -> m.Frame:
        return frame(index, budget=LATENCY_S if self.live else None)

    def teardown(self) -> None:
        """The roads are mended: everything comes to its end without a timer."""
        if not hasattr(self, "window"):
            return
        for _ in range(12):
            self.now += 0.25
            self.acknowledge()
            self.news(arrives=True)
            for index in sorted(self.held):
                self.road.append(gave_up(index) if index in self.poisoned else result(index, str(index)))
            self.held.clear()
            while self.road:
                self.reorder.answer(self.road.pop(), self.now)
            self.decide()
        self.acknowledge()
        self.sound()
        assert (self.window.unresolved, self.window.unanswered) == (0, 0)
        assert self.ledger.pending == 0
        states: dict[str, Any] = self.ledger.states
        assert sum(states.values()) == self.index
        if not self.live:
            assert set(states) <= {"annotated", "failed", "carried"}, "lossless: nothing skipped, late or lost"
            failed = self.ledger.report(STREAM, {}, [])["reasons"]
            assert failed.get("poison", 0) <= len(self.poisoned)


TestChain = Chain.TestCase
TestChain.settings = settings(max_examples=120, stateful_step_count=60, deadline=None)
