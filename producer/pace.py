"""How many frames may be with the model at a time. Pure: times come in with the events.

Lossless: a fixed number. Live: as many as come back within the latency budget, found by additive increase and
multiplicative decrease (Chiu and Jain, 1989), at least one; so overload costs annotated frames, never lateness.
"""

from __future__ import annotations

#: Share of the budget below which one more frame may be under way, and above which fewer must be.
CALM, TIGHT = 0.5, 0.8
#: What is left of the limit after an answer that came (nearly) too late.
BACK_OFF = 0.6
#: In flight at the start of a live stream.
START = 2.0


class Pace:
    """``most`` is the fixed number or the upper bound; ``budget`` the latency budget in seconds, None for lossless."""

    def __init__(self, most: int, budget: float | None) -> None:
        self._most, self._budget = most, budget
        self._limit = float(most) if budget is None else min(START, most)
        self._backed_off = float("-inf")

    @property
    def limit(self) -> int:
        return max(1, int(self._limit))

    def answered(self, sent: float, now: float) -> None:
        """A frame that was sent at ``sent`` has its result now, or was resolved without one."""
        if self._budget is None:
            return
        took = now - sent
        if took <= CALM * self._budget:
            self._limit = min(self._most, self._limit + 1 / self._limit)
        elif took > TIGHT * self._budget:
            self._back_off(sent, now)

    def _back_off(self, sent: float, now: float) -> None:
        # Once for everything that was under way together: those frames all tell of the same moment.
        if sent >= self._backed_off:
            self._limit = max(1.0, self._limit * BACK_OFF)
            self._backed_off = now

    def check(self) -> None:
        assert 1 <= self.limit <= max(1, self._most)
