"""What is known of slots when they cannot be asked: how often each has begun, why it ended last, how long it is
to wait before it begins again. An actor too, but nothing depends on it: a lost notebook is an empty one.

No Ray here. Time is an argument, by way of ``clock``.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from common.backoff import Backoff
from deploy.cluster.order import Order

#: Pauses before a worker that died is started again, in seconds: the first one and the longest.
FIRST_S, MOST_S = 0.4, 30.0
#: A worker that served for so long, in seconds, is well: its next death is the first one again.
WELL_S = 60.0


@dataclass(frozen=True, slots=True)
class Past:
    """What a slot is told when it begins: how often it began before, why it ended, and the seconds it is to wait."""

    restarts: int
    error: str
    pause: float


@dataclass(frozen=True, slots=True)
class Page:
    """What is known of one slot. ``node``, ``host``: where it was last; ``here``: it has begun and not ended since."""

    node: str
    host: str
    here: bool
    restarts: int
    error: str


@dataclass(slots=True)
class _Slot:
    host: str = ""
    node: str = ""
    here: bool = False
    begun: int = 0
    error: str = ""
    backoff: Backoff = field(default_factory=lambda: Backoff(FIRST_S, MOST_S))


class Notebook:
    """``order`` is what the fleet's slots are made of, kept here for those that are added later."""

    def __init__(self, order: Order, clock: Callable[[], float] = time.monotonic) -> None:
        self._order = order
        self._clock = clock
        self._slots: dict[str, _Slot] = {}
        self._random = random.Random()

    def order(self) -> Order:
        return self._order

    def begun(self, name: str, node: str, host: str) -> Past:
        """The slot ``name`` begins on ``node``."""
        slot = self._slots.setdefault(name, _Slot())
        if slot.here:  # it could not say why it ended
            same = slot.node == node
            slot.error = "its actor was killed" if same else f"its node {slot.host} was lost"
        slot.begun += 1
        slot.node, slot.host, slot.here = node, host, True
        return Past(slot.begun - 1, slot.error, slot.backoff.pause(self._clock()))

    def ended(self, name: str, why: str, lived: float) -> None:
        """Its worker ended by itself after ``lived`` seconds; the slot will begin again."""
        slot = self._slots.setdefault(name, _Slot())
        slot.here, slot.error = False, why
        if lived >= WELL_S:
            slot.backoff.worked()
        slot.backoff.failed(self._clock(), self._random)

    def forget(self, name: str) -> None:
        """The slot is there no more."""
        self._slots.pop(name, None)

    def pages(self) -> dict[str, Page]:
        return {
            name: Page(slot.node, slot.host, slot.here, max(0, slot.begun - 1), slot.error)
            for name, slot in self._slots.items()
        }
