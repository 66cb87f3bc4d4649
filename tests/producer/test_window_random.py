"""The window under any words of a sink and a broker, lies as well: its books stay in order, and nothing is made up.

With an honest sink and broker it is joined in tests/sink/test_chain_random.py.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from common import messages as m
from producer.pace import Pace
from producer.window import Window
from tests.builders import EPOCH, STREAM, ack, frame, news

NUMBERS = st.integers(-1, 30) | st.just(2**62)
RANGES = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30) | st.just(2**62)), max_size=4)
BUDGET_S = 0.3


class Liars(RuleBasedStateMachine):
    """The feed's part is honest: it announces in order, and sends what it has announced."""

    @initialize(live=st.booleans())
    def start(self, live: bool) -> None:
        self.now = 10.0
        self.window = Window(8, 500, Pace(4, BUDGET_S if live else None))
        self.index = 0
        self.sent: set[int] = set()
        self.number = 0

    @rule(size=st.integers(0, 200), sends=st.booleans())
    def announce(self, size: int, sends: bool) -> None:
        if not self.window.room or self.index <= self.window.resolved:
            return  # (what a lying sink has resolved ahead is never announced)
        self.window.announce(self.index, size)
        if sends and self.window.room_to_send:
            self.window.sent(frame(self.index), b"jpeg", self.now)
            self.sent.add(self.index)
        self.index += 1

    @rule(received=RANGES, resolved=NUMBERS, durable=NUMBERS)
    def acknowledge(self, received: list[tuple[int, int]], resolved: int, durable: int) -> None:
        before = self.window.resolved, self.window.durable
        self.window.ack(ack(received, min(resolved, self.index - 1), durable=durable), self.now)
        assert (self.window.resolved, self.window.durable) >= before

    @rule(held=RANGES, incarnation=st.sampled_from("ab"), epoch=st.sampled_from((EPOCH, EPOCH + 1)))
    def hear(self, held: list[tuple[int, int]], incarnation: str, epoch: int) -> None:
        self.number += 1
        word = news(*held, incarnation=incarnation, number=self.number, epoch=epoch)
        self._resent(self.window.news(word, STREAM, EPOCH, self.now))

    @rule(seconds=st.floats(0, 100))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self._resent(self.window.tick(self.now))

    def _resent(self, frames: list[tuple[m.Frame, bytes]]) -> None:
        indexes = [header.index for header, _ in frames]
        assert len(indexes) == len(set(indexes))
        for header, payload in frames:
            assert header.index in self.sent, "only what was sent is sent again"
            assert payload == b"jpeg"
            assert self.window.waits(header)

    @invariant()
    def sound(self) -> None:
        if hasattr(self, "window"):
            self.window.check()
            assert self.window.unresolved <= 8
            assert self.window.unanswered <= self.window.unresolved


TestLiars = Liars.TestCase
TestLiars.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
