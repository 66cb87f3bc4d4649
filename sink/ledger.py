"""The ledger: every announced frame is in exactly one state, counted, with a reason. Pure (DESIGN §2)."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """Where a frame ended."""

    PENDING = "pending"
    ANNOTATED = "annotated"  #: shows its own results
    CARRIED = "carried"  #: was not sampled, shows the last boxes
    SKIPPED = "skipped"  #: the window was full
    LATE = "late"  #: its result came after the deadline, or its budget ran out
    FAILED = "failed"  #: model error, poison, corrupt, no picture
    LOST = "lost"  #: shutdown, overload, gap


class Ledger:
    """Counts of one stream and epoch."""

    def __init__(self) -> None:
        self.announced = 0
        self._pending: set[int] = set()
        self._states: Counter[State] = Counter()
        self._reasons: Counter[str] = Counter()

    def announce(self, index: int) -> None:
        """A new frame; indexes are contiguous from 0."""
        assert index == self.announced, f"frame {index} announced, expected {self.announced}"
        self.announced += 1
        self._pending.add(index)

    def settle(self, index: int, state: State, reason: str = "") -> None:
        """The frame's final state, once."""
        assert state is not State.PENDING
        assert index in self._pending, f"frame {index} settled twice, or never announced"
        self._pending.remove(index)
        self._states[state] += 1
        if reason:
            self._reasons[reason] += 1

    @property
    def pending(self) -> int:
        return len(self._pending)

    @property
    def states(self) -> dict[str, int]:
        """Every state that occurs, in the order of :class:`State`, zero counts left out."""
        counts = {State.PENDING: self.pending, **self._states}
        return {str(state): counts[state] for state in State if counts.get(state)}

    @property
    def incomplete(self) -> int:
        """Frames that failed or were lost."""
        return self._states[State.FAILED] + self._states[State.LOST]

    def report(self, stream: str, repairs: dict[str, int], parts: list[str]) -> dict[str, Any]:
        """One entry of the ledger file (DESIGN §9)."""
        return {
            "stream": stream,
            "frames": self.announced,
            "states": self.states,
            "reasons": dict(sorted(self._reasons.items())),
            "repairs": repairs,
            "parts": parts,
        }

    def check(self) -> None:
        assert sum(self._states.values()) + self.pending == self.announced, "the counts do not add up"
        assert all(0 <= index < self.announced for index in self._pending)
