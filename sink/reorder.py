"""Notices and results meet here and leave in frame order. Pure: time is an argument.

A frame is decided when its turn has come and its fate is known: by its Notice (not sampled, skipped, corrupt), by a
result, by the broker's word, or in live mode by the deadline. Lossless waits without a deadline. The decision says
what to draw; the picture's part of the story (it may be missing) is told by the renderer afterwards. A Notice may stand
for a run of frames (a gap): it is kept as one and decided frame by frame.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from fractions import Fraction

from msgspec.structs import replace

from common.messages import MAX_RANGES, Detection, Expired, GaveUp, Mode, Notice, Result, Tag
from common.wire import to_ranges
from sink.ages import Ages
from sink.ledger import State

#: How far ahead of the Notices a result is kept. Those of announced frames are always kept: the window bounds them.
MAX_WAITING = 8192
#: Most that the results kept here may hold, in points; each is 130 bytes, and other things are weighed in them. What is
#: beyond is dropped, but for that of the next frame: its producer will send the frame again.
MAX_WEIGHT = 2_000_000
#: Frames that were decided without a result and may still get one, late: so many are remembered, the newest.
MAX_LATE = 1024
#: Frames of runs that are decided at a time, so that a long run holds nobody up.
MAX_OF_RUNS = 1000
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


@dataclass(frozen=True, slots=True)
class _Missed:
    """A frame that was decided without a result: its time in the output, and when it was announced."""

    pts: int
    announced: float


@dataclass(slots=True)
class _Shown:
    """The last boxes that may be carried on, and when they were true."""

    index: int
    pts: int
    detections: tuple[Detection, ...]
    tags: tuple[Tag, ...]


class Reorder:
    """``latency`` (seconds) bounds the wait in live mode, ``carry`` how long boxes are shown on other frames.

    ``first`` is the index of the first frame that will be announced.
    """

    def __init__(self, mode: Mode, latency: float, carry: float, time_base: Fraction, first: int = 0) -> None:
        self._deadline = latency if mode == "live" else None
        self._carry = round(Fraction(carry) / time_base)
        self._stale = round(Fraction(STALE_S) / time_base)
        # Announced and not decided, in order, with the time; bounded by the producer's window and the deadline.
        self._notices: deque[tuple[Notice, float]] = deque()
        self._times: dict[int, float] = {}  # index → when it was announced; of those in _notices that wait for answers
        self._answers: dict[int, Result | GaveUp | Expired] = {}
        self._weight = 0  # of the answers
        self._missed: dict[int, _Missed] = {}
        self._shown: _Shown | None = None
        self._changes: deque[int] = deque()  # frames not yet decided with which other pictures begin
        self._origin = first  # boxes of frames before are not of these pictures
        self._ages = Ages(self._deadline)
        self.next = first  #: index of the next frame to decide
        self.announced = first  #: index of the next frame to be announced
        self.late = 0  #: frames whose answer missed the deadline, or whose budget ran out; each counts once
        self.late_results = 0  #: results that came after their frame was decided
        self.duplicates = 0
        self.dropped = 0

    def notice(self, notice: Notice, now: float) -> None:
        """Frame ``notice.index``, or a run that begins there, was announced (contiguous: the link keeps order)."""
        assert notice.index == self.announced, f"notice {notice.index}, expected {self.announced}"
        assert notice.count == 1 or notice.fate == "gap", "only gaps come in runs"
        self._notices.append((notice, now))
        if notice.fate == "sent":
            self._times[notice.index] = now
            if isinstance(self._answers.get(notice.index), Result):
                self._ages.add(0.0)  # it was here first: the roads differ
        self.announced += notice.count

    def change(self) -> None:
        """The frames that follow are of other pictures: boxes are not carried on over this."""
        if not self._changes or self._changes[-1] != self.announced:
            self._changes.append(self.announced)

    def answer(self, answer: Result | GaveUp | Expired, now: float) -> None:
        """A result or the broker's word. Duplicates and results that come too late are counted."""
        index = answer.index
        if isinstance(answer, Expired) and self._deadline is None:
            self.dropped += 1  # nothing expires in lossless mode: the producer will send the frame again
            return
        if index < self.next:
            if isinstance(answer, Result):
                self._refresh(answer, now)
            return
        held = self._answers.get(index)
        if held is not None and (isinstance(held, Result) or not isinstance(answer, Result)):
            self.duplicates += 1
            return
        weight = _weight(answer)
        if index >= self.announced + MAX_WAITING or (self._weight + weight > MAX_WEIGHT and index != self.next):
            self.dropped += 1
            return
        self._weight += weight - (_weight(held) if held is not None else 0)
        self._answers[index] = answer  # a result beats an earlier "expired"
        self.late += isinstance(answer, Expired)
        if isinstance(answer, Result) and (announced := self._times.get(index)) is not None:
            self._ages.add(now - announced)

    def decide(self, now: float) -> list[Decision]:
        """All decisions that can be taken now, in order. Of runs at most :data:`MAX_OF_RUNS`; more are due at once."""
        decided: list[Decision] = []
        of_runs = 0
        while self._notices:
            notice, announced = self._notices[0]
            of_runs += notice.count > 1
            decision = self._decide(self._one_of(notice), announced, now) if of_runs <= MAX_OF_RUNS else None
            if decision is None:
                break
            self._forget(decision)
            self._remember(decision, announced)
            decided.append(decision)
        return decided

    def next_deadline(self) -> float | None:
        """When :meth:`decide` can next do something by itself."""
        if not self._notices:
            return None
        notice, announced = self._notices[0]
        if notice.count > 1:  # the rest of a run
            return announced
        return None if self._deadline is None else announced + self._deadline

    def give_up(self, reason: str) -> list[Decision]:
        """Decide everything that waits: with its answer where that is here, else as lost."""
        decided: list[Decision] = []
        while self._notices:
            notice, announced = self._notices[0]
            own = self._one_of(notice)
            decision = self._decide(own, announced, float("-inf")) or Decision(own, State.LOST, reason)
            self._forget(decision)
            decided.append(decision)
        return decided

    def ages(self) -> dict[str, float]:
        """Time from a frame's Notice to its Result, late ones too: see :meth:`Ages.summary`. Live: ``within`` is the
        share that came within the latency."""
        return self._ages.summary()

    def received(self, above: int) -> list[tuple[int, int]]:
        """Ranges of indexes above ``above`` that are answered or decided."""
        decided = [(above + 1, self.next - 1)] if self.next > above + 1 else []
        answered = sorted(index for index in self._answers if index >= self.next)
        return decided + to_ranges(answered, MAX_RANGES - len(decided))

    @property
    def waiting(self) -> int:
        """Frames that are announced and not decided."""
        return self.announced - self.next

    def _one_of(self, run: Notice) -> Notice:
        """The notice of frame ``next`` alone, which ``run`` stands for among others."""
        if run.count == 1:
            return run
        place = self.next - run.index
        own = replace(run, index=self.next, count=1, out=run.out + place * run.duration)
        return replace(own, pts=None, packet=None) if place else own

    def _forget(self, decision: Decision) -> None:
        """Frame ``next`` is decided."""
        index = decision.index
        assert index == self.next
        self._times.pop(index, None)
        while self._changes and self._changes[0] <= index:
            self._origin = self._changes.popleft()
        if (answer := self._answers.pop(index, None)) is not None:
            self._weight -= _weight(answer)
        self.next += 1
        run = self._notices[0][0]
        if self.next == run.index + run.count:
            self._notices.popleft()

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
            self.late += 1
            return self._carried(notice, State.LATE, "deadline")
        return None

    def _carried(self, notice: Notice, state: State, reason: str) -> Decision:
        shown = self._shown
        origin = self._changes[0] if self._changes and self._changes[0] <= notice.index else self._origin
        if shown is None or shown.index < origin or notice.out - shown.pts > self._carry:
            return Decision(notice, state, reason)
        stale = notice.out - shown.pts > self._stale
        return Decision(notice, state, reason, shown.detections, shown.tags, stale)

    def _remember(self, decision: Decision, announced: float) -> None:
        notice = decision.notice
        if decision.state is State.ANNOTATED:
            self._shown = _Shown(notice.index, notice.out, decision.detections, decision.tags)
        elif notice.fate == "sent" and self._deadline is not None:
            self._missed[notice.index] = _Missed(notice.out, announced)
            if len(self._missed) > MAX_LATE:
                del self._missed[next(iter(self._missed))]

    def _refresh(self, result: Result, now: float) -> None:
        """A late result still refreshes the boxes that are carried on."""
        missed = self._missed.pop(result.index, None)
        if missed is None:
            self.duplicates += 1
            return
        self.late_results += 1
        self._ages.add(now - missed.announced)
        if self._shown is None or result.index > self._shown.index:
            self._shown = _Shown(result.index, missed.pts, tuple(result.detections), tuple(result.tags))

    def check(self) -> None:
        expected = self._notices[0][0].index if self._notices else self.next
        assert expected <= self.next, "a notice is missing"
        for notice, _ in self._notices:
            assert notice.index == expected, "a notice is missing or decided twice"
            expected += notice.count
        assert expected == self.announced
        assert all(index >= self.next for index in self._times)
        assert all(index >= self.next for index in self._answers)
        assert all(index < self.next for index in self._missed)
        assert len(self._answers) <= self.waiting + MAX_WAITING
        weights = {index: _weight(answer) for index, answer in self._answers.items()}
        assert self._weight == sum(weights.values()) <= MAX_WEIGHT + weights.get(self.next, 0)
        assert len(self._missed) <= MAX_LATE
        assert all(self._origin <= self.next <= first <= self.announced for first in self._changes)
        self._ages.check()


def _weight(answer: Result | GaveUp | Expired) -> int:
    if not isinstance(answer, Result):
        return 1
    return 1 + len(answer.tags) + sum(3 + len(found.points) for found in answer.detections)
