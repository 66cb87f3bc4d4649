"""How many frames may be with the model at a time. Pure: times come in with the events.

Lossless: a fixed number. Live: as many as come back within the latency budget, at least one; so overload costs
annotated frames, never lateness. The number grows while it is used up and one more looks safe. A number at which frames
were late is remembered and tried again seldom (as TCP CUBIC does, RFC 9438): so seldom that what the trial makes late
is few among the others. Less than one answer in ``PRICE`` is late where one frame at a time is in time.
"""

from __future__ import annotations

#: Share of the budget that an answer may be expected to take, for one more frame to look safe.
SAFE = 0.9
#: Answers in time that make good for one late one.
PRICE = 25
#: The number is taken back when so many late answers have not been made good.
PATIENCE = 2
#: The number is halved when so many answers of one round are late: of rounds of up to ``FEW`` answers, of longer ones.
BURST_OF_FEW, BURST = 2, 3
FEW = 10
#: After a failed trial of the same number the next one waits twice as long, up to so many times.
MAX_CAUTION = 8
#: If answers took at most so many times longer with one more under way, it did not have to wait for the others.
FLAT = 1.05


class Pace:
    """``most`` is the fixed number or the upper bound; ``budget`` the latency budget in seconds, None for lossless."""

    def __init__(self, most: int, budget: float | None) -> None:
        self._most, self._budget = most, budget
        #: Most frames that may be with the model now.
        self.limit = most if budget is None else 1
        self._since = float("-inf")  # frames sent earlier were sent under another limit and say nothing of this one
        self._round = 0  # answers in the present round, which lasts as many as the limit, a trial twice as many
        self._late = 0  # late ones among them
        self._slowest = 0.0  # of the answers of this round in time, in seconds
        self._before = 0.0  # the same of the round before a trial
        self._used = False  # the limit was reached in this round
        self._trial = False  # the limit has just grown: one late answer takes it back
        self._ceiling: int | None = None  # a limit that has proved too high
        self._caution = 1
        self._calm = 0.0  # answers in time since the last trial of the ceiling, less the price of late ones
        self._debt = 0.0  # late answers that have not been made good
        self._workers = 0

    def sent(self, with_model: int) -> None:
        """A frame was sent; so many are with the model now."""
        self._used = self._used or with_model >= self.limit

    def workers(self, count: int, now: float) -> None:
        """So many workers live. Up to that number, frames need not wait for each other."""
        if self._budget is None or count == self._workers:
            return
        known, self._workers = self._workers, count
        if 0 < count < known:
            self._set(self.limit * count // known, now)
        self._ceiling, self._caution = None, 1

    def answered(self, sent: float, now: float, late: bool) -> None:
        """A frame that was sent at ``sent`` has its answer now, or has missed its deadline."""
        if self._budget is None:
            return
        if late:
            self._debt = min(self._debt + 1, 2 * PATIENCE)
            self._calm = max(self._calm - PRICE, -PRICE * PATIENCE)
        else:
            self._debt = max(self._debt - 1 / PRICE, 0.0)
            self._calm += 1
        if sent < self._since:
            return
        self._round += 1
        if late:
            self._late += 1
            self._back_off(now)
        else:
            self._slowest = max(self._slowest, now - sent)
            if self._round >= self.limit * (2 if self._trial else 1):
                self._end_round(self._budget, now)

    def _back_off(self, now: float) -> None:
        limit = self.limit
        if self._trial:
            self._caution = min(2 * self._caution, MAX_CAUTION) if limit == self._ceiling else 1
            fewer = limit - 1
        elif self._late >= (BURST_OF_FEW if limit <= FEW else BURST):
            fewer = limit // 2
        elif self._debt > PATIENCE:
            fewer = min(limit - 1, limit * 4 // 5)
        else:
            return
        if limit > 1:
            self._ceiling = limit
        self._calm = min(self._calm, 0.0)
        self._debt = 0.0
        self._set(fewer, now)

    def _end_round(self, budget: float, now: float) -> None:
        """All answers of a round are here, and not too many were late."""
        more, flat = self.limit + 1, False
        if self._trial:
            flat = self._slowest <= FLAT * self._before
            if self.limit == self._ceiling:
                self._ceiling, self._caution = None, 1
        if self._used and not self._late and more <= self._most and self._may_try(more, flat, budget):
            self._before = self._slowest
            self._set(more, now)
            self._trial = True
        else:
            self._begin_round()

    def _may_try(self, more: int, flat: bool, budget: float) -> bool:
        if more != self._ceiling:
            # Frames that share workers: n of them take n / (n - 1) times as long as n - 1 did, at most.
            expected = self._slowest if flat else self._slowest * more / self.limit
            if more <= self._workers or expected <= SAFE * budget:
                return True
        # If the trial fails, all that is under way will be late; with a worker for each frame, only the new one.
        stake = 1 if more <= self._workers else more
        if self._calm < PRICE * stake * self._caution:
            return False
        self._calm = 0.0
        return True

    def _set(self, limit: int, now: float) -> None:
        self.limit, self._since = max(1, limit), now
        self._begin_round()

    def _begin_round(self) -> None:
        self._round = self._late = 0
        self._slowest = 0.0
        self._used = self._trial = False

    def check(self) -> None:
        assert 1 <= self.limit <= max(1, self._most)
        assert self._budget is not None or self.limit == self._most
        assert 0 <= self._late <= self._round
        assert 0 <= self._debt <= 2 * PATIENCE
        assert 1 <= self._caution <= MAX_CAUTION
