"""Whether a live frame would come in time if a worker got it now. Pure: time is an argument.

A frame that a worker holds can no longer give way to another stream's, so live frames wait here, and workers get no
more than their next batch. Its length is bounded by the latency budget, since all of a batch come at its end.
"""

from __future__ import annotations

import math
from enum import Enum

from broker.backlog import Item
from broker.limits import Limits
from broker.roster import Worker
from common.messages import Frame


class Verdict(Enum):
    NOW = "now"
    LATER = "later"  #: this worker has enough
    HOPELESS = "hopeless"  #: it would come too late, and a fresh one would not


class Foresight:
    """Frames without a budget are judged only while live ones share the workers with them."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        #: The smallest budget of live frames that came lately, in seconds, and until when that counts.
        self._budget, self._until = math.inf, 0.0

    def accepted(self, frame: Frame, now: float) -> None:
        if frame.budget is not None and (frame.budget <= self._budget or now >= self._until):
            self._budget, self._until = frame.budget, now + self._limits.live_memory

    def judge(self, worker: Worker, item: Item, now: float) -> Verdict:
        """What is to become of ``item``, if ``worker`` is to have it. An idle worker is not kept idle."""
        own = item.frame.budget
        budget = min(own if own is not None else math.inf, self._budget if now < self._until else math.inf)
        if budget == math.inf:
            return Verdict.NOW
        frames, seconds = worker.foresee(now)
        if frames > 1 and not worker.speed.suits(frames, self._limits.batch_share * budget):
            return Verdict.LATER
        if own is None:
            return Verdict.NOW
        seconds += self._limits.margin * own
        if seconds > own:
            return Verdict.LATER if worker.leases else Verdict.NOW  # not even a fresh one, but it still brings boxes
        return Verdict.HOPELESS if now + seconds > item.deadline else Verdict.NOW
