"""What was lately: rates and medians of the last seconds, for status lines. Pure: time is an argument, in seconds.

Both keep a bounded amount of memory, whatever they are told of.
"""

from __future__ import annotations

from collections import deque

#: Over how many seconds a rate goes, and in how many steps it moves on.
SPAN_S, STEPS = 5.0, 10
#: Most durations that :class:`Durations` keeps, and for how long, in seconds.
MAX_KEPT, KEPT_S = 100, 10.0


class Rate:
    """How many a second, over the last ``span`` seconds, or since the first one where that is less."""

    def __init__(self, span: float = SPAN_S) -> None:
        self._span, self._step = span, span / STEPS
        self._steps: deque[tuple[float, float]] = deque(maxlen=STEPS + 1)  # (when it began, how many)
        self._first: float | None = None

    def add(self, count: float, now: float) -> None:
        """``count`` more."""
        if self._first is None:
            self._first = now
        if self._steps and now - self._steps[-1][0] < self._step:
            began, before = self._steps[-1]
            self._steps[-1] = began, before + count
        else:
            self._steps.append((now, count))

    def per_second(self, now: float) -> float:
        """0.0 where nothing was added lately."""
        while self._steps and now - self._steps[0][0] > self._span:
            self._steps.popleft()
        if not self._steps:
            self._first = None  # after a pause it begins anew
            return 0.0
        assert self._first is not None
        # The first of a few tells nothing of a rate yet: a step's time is assumed at least.
        since = min(self._span, max(now - self._first, self._step))
        return sum(count for _, count in self._steps) / since


class Mean:
    """The mean of what was added in the last ``span`` seconds."""

    def __init__(self, span: float = SPAN_S) -> None:
        self._sum, self._count = Rate(span), Rate(span)

    def add(self, value: float, now: float) -> None:
        self._sum.add(value, now)
        self._count.add(1, now)

    def value(self, now: float) -> float | None:
        """None where nothing was added lately."""
        count = self._count.per_second(now)
        return self._sum.per_second(now) / count if count else None


class Durations:
    """Medians of the newest durations: at most ``most`` of them, none older than ``kept`` seconds."""

    def __init__(self, most: int = MAX_KEPT, kept: float = KEPT_S) -> None:
        self._kept = kept
        self._known: deque[tuple[float, float]] = deque(maxlen=most)  # (when, how long)

    def add(self, seconds: float, now: float) -> None:
        self._known.append((now, seconds))

    def quantiles(self, now: float, *shares: float) -> list[float] | None:
        """The durations that each of ``shares`` (0…1) of them do not exceed; None without any."""
        while self._known and now - self._known[0][0] > self._kept:
            self._known.popleft()
        if not self._known:
            return None
        ordered = sorted(seconds for _, seconds in self._known)
        return [ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in shares]
