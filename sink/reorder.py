"""Notices and results meet here and leave in frame order. Pure: time is an argument.

A frame is decided when its turn has come and its fate is known: by its Notice (not sampled, skipped, corrupt), by a
result, by the broker's word, or in live mode by the deadline. Lossless waits without a deadline. The decision says
what to draw; the picture's part of the story (it may be missing) is told by the renderer afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from common.messages import MAX_RANGES, Detection, Expired, GaveUp, Mode, Notice, Result, Tag
from common.wire import to_ranges
from sink.ledger import State

#: How far ahead of the Notices a result is kept. Those of announced frames are always kept: the window bounds them.
MAX_WAITING = 8192
#: Carried boxes older than this, in seconds, are drawn as stale. Younger ones are drawn in full, or boxes would flicker
#: at every sampled frame.
STALE_S = 0.5


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one frame. ``detections`` are the boxes to draw; ``stale`` where they are old."""

    notice: Notice
    state: State
    reason: str = ""
    detections: tuple[Detection, ...] = ()
    tags: tuple[Tag, ...] = ()
    stale: bool = False

    @property
    def index(self) -> int:
        return self.notice.index


@dataclass(slots=True)
class _Shown:
    """The last boxes that may be carried on, and when they were true."""

    index: int
    pts: int
    detections: tuple[Detection, ...]
    tags: tuple[Tag, ...]


class Reorder:
    """``latency`` (seconds) bounds the wait in live mode, ``carry`` how long boxes are shown on other frames."""

    def __init__(self, mode: Mode, latency: float, carry: float, time_base: Fraction) -> None:
        self._deadline = latency if mode == "live" else None
        self._carry = round(Fraction(carry) / time_base)
        self._stale = round(Fraction(STALE_S) / time_base)
        self._notices: dict[int, tuple[Notice, float]] = {}  # announced, not decided; bounded by the producer's window
        self._answers: dict[int, Result | GaveUp | Expired] = {}
        self._pts: dict[int, int] = {}  # output pts of the last decided frames, for late results
        self._shown: _Shown | None = None
        self.next = 0  #: index of the next frame to decide
        self.announced = 0
        self.duplicates = 0
        self.late_results = 0
        self.dropped = 0

    def notice(self, notice: Notice, now: float) -> None:
        """Frame ``notice.index`` was announced (contiguous: the link keeps order)."""
        assert notice.index == self.announced, f"notice {notice.index}, expected {self.announced}"
        self._notices[notice.index] = (notice, now)
        self.announced += 1

    def answer(self, answer: Result | GaveUp | Expired) -> None:
        """A result or the broker's word. Duplicates and results that come too late are counted."""
        index = answer.index
        if isinstance(answer, Expired) and self._deadline is None:
            self.dropped += 1  # nothing expires in lossless mode: the producer will send the frame again
            return
        if index < self.next:
            if isinstance(answer, Result):
                self._refresh(answer)
            return
        held = self._answers.get(index)
        if held is not None and (isinstance(held, Result) or not isinstance(answer, Result)):
            self.duplicates += 1
        elif index >= self.announced + MAX_WAITING:
            self.dropped += 1
        else:
            self._answers[index] = answer  # a result beats an earlier "expired"

    def decide(self, now: float) -> list[Decision]:
        """All decisions that can be taken now, in order."""
        decided = []
        while (entry := self._notices.get(self.next)) is not None:
            decision = self._decide(*entry, now)
            if decision is None:
                break
            del self._notices[self.next]
            self._answers.pop(self.next, None)
            self._remember(decision)
            self.next += 1
            decided.append(decision)
        return decided

    def next_deadline(self) -> float | None:
        """When :meth:`decide` can next do something by itself."""
        entry = self._notices.get(self.next)
        return None if entry is None or self._deadline is None else entry[1] + self._deadline

    def give_up(self, reason: str) -> list[Decision]:
        """Decide everything that waits: with its answer where that is here, else as lost."""
        decided = []
        while (entry := self._notices.get(self.next)) is not None:
            decision = self._decide(*entry, float("-inf")) or Decision(entry[0], State.LOST, reason)
            del self._notices[self.next]
            self._answers.pop(self.next, None)
            self.next += 1
            decided.append(decision)
        return decided

    def received(self, above: int) -> list[tuple[int, int]]:
        """Ranges of indexes above ``above`` that are answered or decided."""
        decided = [(above + 1, self.next - 1)] if self.next > above + 1 else []
        answered = sorted(index for index in self._answers if index >= self.next)
        return decided + to_ranges(answered, MAX_RANGES - len(decided))

    @property
    def waiting(self) -> int:
        return len(self._notices)

    def _decide(self, notice: Notice, announced: float, now: float) -> Decision | None:
        if notice.fate == "not_sampled":
            return self._carried(notice, State.CARRIED, "")
        if notice.fate == "window_full":
            return self._carried(notice, State.SKIPPED, notice.reason or "window_full")
        if notice.fate == "corrupt":
            return self._carried(notice, State.FAILED, "corrupt")
        if notice.fate == "gap":
            return Decision(notice, State.LOST, "gap")
        answer = self._answers.get(notice.index)
        if isinstance(answer, Result):
            return Decision(notice, State.ANNOTATED, "", tuple(answer.detections), tuple(answer.tags))
        if isinstance(answer, GaveUp):
            return self._carried(notice, State.FAILED, answer.reason)
        if isinstance(answer, Expired):
            return self._carried(notice, State.LATE, answer.reason)
        if self._deadline is not None and now >= announced + self._deadline:
            return self._carried(notice, State.LATE, "deadline")
        return None

    def _carried(self, notice: Notice, state: State, reason: str) -> Decision:
        shown = self._shown
        if shown is None or notice.out - shown.pts > self._carry:
            return Decision(notice, state, reason)
        stale = notice.out - shown.pts > self._stale
        return Decision(notice, state, reason, shown.detections, shown.tags, stale)

    def _remember(self, decision: Decision) -> None:
        notice = decision.notice
        if decision.state is State.ANNOTATED:
            self._shown = _Shown(notice.index, notice.out, decision.detections, decision.tags)
        if self._deadline is not None:
            self._pts[notice.index] = notice.out
            if len(self._pts) > MAX_WAITING:
                del self._pts[next(iter(self._pts))]

    def _refresh(self, result: Result) -> None:
        """A late result still refreshes the boxes that are carried on."""
        pts = self._pts.get(result.index)
        if pts is None or (self._shown is not None and result.index <= self._shown.index):
            self.duplicates += 1
            return
        self.late_results += 1
        self._shown = _Shown(result.index, pts, tuple(result.detections), tuple(result.tags))

    def check(self) -> None:
        assert list(self._notices) == list(range(self.next, self.announced)), "a notice is missing or decided twice"
        assert all(index >= self.next for index in self._answers)
        assert len(self._answers) <= len(self._notices) + MAX_WAITING
