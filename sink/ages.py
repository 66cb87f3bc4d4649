"""How old results are when they arrive: quantiles of any number of durations in bounded memory. Pure."""

from __future__ import annotations

import math
from collections import Counter

#: Durations are counted in bins whose upper edge is so much more than the lower one: quantiles are off by less.
STEP = 1.02
#: Bounds of the bins, in seconds. They make 930 bins at most.
LEAST_S, MOST_S = 1e-4, 1e4


class Ages:
    """Durations in seconds; ``bound`` is the one that they are held against, None: there is none."""

    def __init__(self, bound: float | None) -> None:
        self._bound = bound
        self._bins: Counter[int] = Counter()
        self._within = 0
        self._most = 0.0
        self.count = 0

    def add(self, seconds: float) -> None:
        """One more duration."""
        clipped = min(max(seconds, LEAST_S), MOST_S)
        self._bins[math.ceil(math.log(clipped / LEAST_S, STEP))] += 1
        self._most = max(self._most, seconds)
        self._within += self._bound is None or seconds <= self._bound
        self.count += 1

    def quantile(self, share: float) -> float:
        """The duration that ``share`` (0…1) of all do not exceed, rounded up to its bin's edge; 0.0 without any."""
        seen = 0
        for number in sorted(self._bins):
            seen += self._bins[number]
            if seen >= share * self.count:
                return min(LEAST_S * STEP**number, self._most)
        return 0.0

    def summary(self) -> dict[str, float]:
        """``p50``, ``p95``, ``p99`` in seconds, ``count``, and with a bound ``within``: the share up to it, 0…1."""
        told: dict[str, float] = {f"p{share}": round(self.quantile(share / 100), 4) for share in (50, 95, 99)}
        told["count"] = self.count
        if self._bound is not None:
            told["within"] = round(self._within / self.count, 4) if self.count else 1.0
        return told

    def check(self) -> None:
        assert sum(self._bins.values()) == self.count
        assert 0 <= self._within <= self.count
        assert len(self._bins) <= math.ceil(math.log(MOST_S / LEAST_S, STEP)) + 1
