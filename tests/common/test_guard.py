"""Who may speak, and who may be spoken to, as the list changes. No sockets."""

from __future__ import annotations

import pytest

from common import guard as module
from common.guard import TELL_S, Guard


class FakeGate:
    """A list that a test changes."""

    def __init__(self, *keys: str) -> None:
        self.keys, self.refused, self.number = set(keys), list[tuple[str, str, str]](), 0

    def cuts(self, name: str) -> int:
        return self.number

    def admits(self, public: str, name: str) -> bool:
        return public in self.keys

    def refuse(self, name: str, public: str, address: str) -> None:
        self.refused.append((name, public, address))


def test_a_key_at_each_message() -> None:
    gate = FakeGate("A")
    guard = Guard(gate, "workers")
    assert guard.admits("A")
    assert not guard.admits("B")
    assert not guard.admits("")
    gate.keys.clear()
    assert not guard.admits("A")
    guard.refuse("A", "10.0.0.1")
    assert gate.refused == [("workers", "A", "10.0.0.1")]


def test_nothing_reaches_who_is_not_let_in() -> None:
    gate = FakeGate("A", "B")
    guard = Guard(gate, "workers")
    assert not guard.reaches(b"1"), "nobody has come from there"
    guard.came(b"1", "A")
    guard.came(b"2", "B")
    assert guard.reaches(b"1")
    assert not guard.cut()
    gate.keys.remove("A")
    gate.number += 1
    assert not guard.reaches(b"1")
    assert guard.reaches(b"2")
    assert guard.cut()
    assert not guard.cut()
    assert guard.cut_off() == [b"1"]
    assert guard.tell(b"1", 5.0)
    assert not guard.tell(b"1", 5.0 + TELL_S / 2)
    assert guard.tell(b"1", 5.0 + TELL_S)
    assert guard.cut_off() == []
    guard.check()


def test_a_route_belongs_to_who_came_last() -> None:
    """A peer chooses its route itself where it wants to: it inherits nothing."""
    gate = FakeGate("A", "B")
    guard = Guard(gate, "workers")
    guard.came(b"1", "A")
    guard.came(b"1", "B")
    gate.keys.remove("B")
    assert not guard.reaches(b"1")


def test_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ROUTES", 10)
    guard = Guard(FakeGate("A"), "media")
    for number in range(100):
        guard.came(b"%d" % number, "A")
        guard.tell(b"x%d" % number, 0.0)
        guard.check()
    assert not guard.reaches(b"0")
    assert guard.reaches(b"99")
