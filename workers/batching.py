"""Frames gather into batches. Pure: time is an argument.

A batch is complete with ``max_batch`` frames, or ``max_wait`` seconds after its first one came. All its pictures have
the same size. A frame with a failed attempt behind it runs alone, so that poison condemns no neighbour.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[T]):
    item: T
    shape: Hashable
    alone: bool
    since: float


class Batcher(Generic[T]):
    """``capacity`` bounds how many frames the worker holds in all: the batch in the model and the next one."""

    def __init__(self, max_batch: int, max_wait: float) -> None:
        self._max_batch, self._max_wait = max_batch, max_wait
        self.capacity = 2 * max_batch
        self._waiting: deque[_Waiting[T]] = deque()

    def add(self, item: T, shape: Hashable, alone: bool, now: float) -> None:
        """A decoded frame; ``shape`` is its picture's size."""
        assert len(self._waiting) < self.capacity, "more frames than credit was given for"
        self._waiting.append(_Waiting(item, shape, alone, now))

    def put_back(self, items: Sequence[T], shape: Hashable, now: float) -> None:
        """A batch that was too large for the model: its frames are the next ones, in order, and wait no more."""
        assert len(self._waiting) + len(items) <= self.capacity, "more frames come back than were taken"
        since = min([now - self._max_wait, *(one.since for one in self._waiting)])
        self._waiting.extendleft(_Waiting(item, shape, False, since) for item in reversed(items))

    def take(self, now: float, hurry: bool = False, most: Callable[[Any], int] | None = None) -> list[T]:
        """The next batch if one is due now, else nothing. ``hurry``: do not wait for more. ``most``: how many frames of
        a size go together, where that is fewer than ``max_batch``."""
        if not self._waiting:
            return []
        first = self._waiting[0]
        if first.alone:
            self._waiting.popleft()
            return [first.item]
        full = self._max_batch if most is None else min(self._max_batch, most(first.shape))
        chosen = [one for one in self._waiting if not one.alone and one.shape == first.shape][:full]
        # Frames that cannot join this batch are a reason not to wait: more of the same may never come.
        mixed = len(chosen) < min(len(self._waiting), full)
        if not (hurry or mixed or len(chosen) == full or now >= first.since + self._max_wait):
            return []
        taken = {id(one) for one in chosen}
        self._waiting = deque(one for one in self._waiting if id(one) not in taken)
        return [one.item for one in chosen]

    def next_deadline(self) -> float | None:
        """When :meth:`take` can next give a batch that it does not give now."""
        return self._waiting[0].since + self._max_wait if self._waiting else None

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def check(self) -> None:
        assert len(self._waiting) <= self.capacity
        assert all(a.since <= b.since for a, b in zip(self._waiting, list(self._waiting)[1:], strict=False))
