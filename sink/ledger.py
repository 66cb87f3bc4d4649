"""The ledger: every announced frame is in exactly one state, counted, with a reason. Pure (DESIGN §2)."""

from __future__ import annotations

from collections import Counter, deque
from enum import StrEnum
from typing import Any

import msgspec

#: Most reasons that are told apart: peers name some of them. Those beyond are counted as "other".
MAX_REASONS = 64


class State(StrEnum):
    """Where a frame ended."""

    PENDING = "pending"
    ANNOTATED = "annotated"  #: shows its own results
    CARRIED = "carried"  #: was not sampled, shows the last boxes
    SKIPPED = "skipped"  #: the window was full
    LATE = "late"  #: its result came after the deadline, or its budget ran out
    FAILED = "failed"  #: model error, poison, corrupt, no picture
    LOST = "lost"  #: shutdown, overload, gap


class Books(msgspec.Struct, frozen=True):
    """The counts of all frames up to one that is durable, as they are written to disk."""

    frames: int = 0
    states: dict[str, int] = {}
    reasons: dict[str, int] = {}


class Ledger:
    """Counts of one stream, over all its epochs. ``books``: of the frames that earlier ones have settled for good."""

    def __init__(self, books: Books | None = None) -> None:
        books = books or Books()
        self.announced = books.frames
        self._pending: set[int] = set()
        self._states: Counter[State] = Counter({State(state): count for state, count in books.states.items()})
        self._reasons: Counter[str] = Counter(books.reasons)
        self._recent: deque[tuple[int, State, str]] = deque()  # settled, not durable; bounded by the encoders' delay
        self._books = books

    def announce(self, index: int, count: int = 1) -> None:
        """``count`` new frames from ``index`` on; indexes are contiguous from 0."""
        assert index == self.announced, f"frame {index} announced, expected {self.announced}"
        self.announced += count
        self._pending.update(range(index, index + count))

    def settle(self, index: int, state: State, reason: str = "") -> None:
        """The frame's final state, once; frames are settled in order."""
        assert state is not State.PENDING
        assert index in self._pending, f"frame {index} settled twice, or never announced"
        if reason not in self._reasons and len(self._reasons) >= MAX_REASONS:
            reason = "other"
        self._pending.remove(index)
        self._states[state] += 1
        if reason:
            self._reasons[reason] += 1
        self._recent.append((index, state, reason))

    def durable(self, index: int) -> Books:
        """All frames up to ``index`` are on disk: the books as they are then."""
        states, reasons = Counter(self._books.states), Counter(self._books.reasons)
        frames = self._books.frames
        while self._recent and self._recent[0][0] <= index:
            _, state, reason = self._recent.popleft()
            frames += 1
            states[str(state)] += 1
            if reason:
                reasons[reason] += 1
        if frames != self._books.frames:
            self._books = Books(frames, dict(states), dict(reasons))
        return self._books

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
        return entry(stream, Books(self.announced, self.states, dict(self._reasons)), repairs, parts)

    def check(self) -> None:
        assert sum(self._states.values()) + self.pending == self.announced, "the counts do not add up"
        assert all(0 <= index < self.announced for index in self._pending)
        assert sum(self._books.states.values()) == self._books.frames
        assert self._books.frames + len(self._recent) + self.pending == self.announced


def entry(stream: str, books: Books, repairs: dict[str, int], parts: list[str]) -> dict[str, Any]:
    """One entry of the ledger file (DESIGN §9)."""
    return {
        "stream": stream,
        "frames": books.frames,
        "states": books.states,
        "reasons": dict(sorted(books.reasons.items())),
        "repairs": repairs,
        "parts": parts,
    }
