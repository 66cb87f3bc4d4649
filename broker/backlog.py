"""Frames that wait: a bounded queue for each stream; whose turn it is decide the :class:`Turns`. No sockets, no clock.

Within a stream, frames that came back from a worker go first, in index order; the others follow as they arrived.
The caller sees to it that a stream has one epoch at a time, and so an index is unique within it.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from broker.limits import Limits
from broker.turns import Turns
from common.messages import Frame


class Place(Enum):
    """Where an accepted frame is."""

    QUEUED = "queued"
    LEASED = "leased"
    GONE = "gone"


@dataclass(slots=True, eq=False)
class Item:
    """One accepted frame."""

    frame: Frame
    payload: bytes
    #: When the budget is spent; infinite in lossless mode.
    deadline: float = math.inf
    #: Broken-off or failed attempts so far.
    attempt: int = 0
    #: Names of the workers at which they were.
    tried: set[str] = field(default_factory=set)
    #: A worker died, or hung, while this was in its model, and it has one attempt left: it gets a worker for itself.
    suspect: bool = False
    place: Place = Place.GONE
    #: Earlier leases of this frame, newest last (bounded by the dispatcher).
    past: list[int] = field(default_factory=list)
    #: When it was accepted, in seconds.
    since: float = 0.0

    @property
    def live(self) -> bool:
        return self.deadline != math.inf


class _Lane:
    """The waiting frames of one stream for one model."""

    __slots__ = ("fresh", "heap", "returned")

    def __init__(self) -> None:
        self.fresh: OrderedDict[int, Item] = OrderedDict()
        self.returned: dict[int, Item] = {}
        #: Indexes in ``returned``, and some that have left it since.
        self.heap: list[int] = []

    def first(self) -> Item:
        while self.heap and self.heap[0] not in self.returned:
            heapq.heappop(self.heap)
        return self.returned[self.heap[0]] if self.heap else next(iter(self.fresh.values()))

    def push_front(self, item: Item) -> None:
        self.returned[item.frame.index] = item
        heapq.heappush(self.heap, item.frame.index)

    def remove(self, index: int) -> None:
        if self.returned.pop(index, None) is None:
            del self.fresh[index]
        if not self.returned:
            self.heap.clear()

    def __len__(self) -> int:
        return len(self.fresh) + len(self.returned)

    def __iter__(self) -> Iterator[Item]:
        return itertools.chain(self.returned.values(), self.fresh.values())


class _Stream:
    __slots__ = ("bytes", "frames", "lanes")

    def __init__(self) -> None:
        self.lanes: dict[str, _Lane] = {}
        self.frames = 0
        self.bytes = 0


class Backlog:
    """All queued frames. Each method leaves the items that it hands out with ``place`` GONE."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._streams: dict[str, _Stream] = {}
        self._turns = Turns(limits.catch_up, 2 * limits.streams)
        #: ``(deadline, tie break, item)`` of live frames, and of some that have left since.
        self._deadlines: list[tuple[float, int, Item]] = []
        self._ties = itertools.count()
        self.frames = 0
        self.bytes = 0

    def offer(self, item: Item) -> tuple[bool, list[Item]]:
        """Queue a new frame at the end → taken?, evicted.

        Over a limit, a live frame pushes out the oldest live ones of its stream; a lossless one is not taken.
        """
        evicted = self._make_room(item) if item.live else []
        if not self._fits(item.frame.stream, item):
            return False, evicted
        lane = self._insert(item)
        lane.fresh[item.frame.index] = item
        return True, evicted

    def give_back(self, item: Item) -> list[Item]:
        """Queue a frame that a worker had, at the front → evicted (live streams over their limit only).

        A lossless stream may so exceed its limit by what was leased: an accepted frame is not dropped.
        """
        self._insert(item).push_front(item)
        evicted = []
        while item.live and not self._fits(item.frame.stream, None):
            oldest = self._oldest(item.frame.stream)
            if oldest is None or not oldest.live:
                break
            self.remove(oldest)
            evicted.append(oldest)
        return evicted

    def take(self, models: Iterable[str]) -> Item | None:
        """The next frame in turn whose model is one of ``models``."""
        item = self.peek(models)
        if item is not None:
            self._turns.served(item.frame.stream, item.frame.model)
            self.remove(item)
        return item

    def peek(self, models: Iterable[str]) -> Item | None:
        """What :meth:`take` would give."""
        found = self._turns.first(models)
        if found is None:
            return None
        stream, model = found
        return self._streams[stream].lanes[model].first()

    def waiting(self) -> dict[str, int]:
        """Model → frames that wait for it; models for which none waits are left out."""
        counts: Counter[str] = Counter()
        for stream in self._streams.values():
            counts.update({model: len(lane) for model, lane in stream.lanes.items()})
        return dict(counts)

    def depths(self) -> Iterator[tuple[str, int, int, float]]:
        """Each stream that has frames here: its name, frames, bytes, and since when the oldest one waits."""
        for name, stream in self._streams.items():
            since = min(lane.first().since for lane in stream.lanes.values())
            yield name, stream.frames, stream.bytes, since

    def remove(self, item: Item) -> None:
        """Take a queued frame out, wherever it stands."""
        stream = self._streams[item.frame.stream]
        lane = stream.lanes[item.frame.model]
        lane.remove(item.frame.index)
        stream.frames -= 1
        stream.bytes -= len(item.payload)
        self.frames -= 1
        self.bytes -= len(item.payload)
        item.place = Place.GONE
        if not lane:
            del stream.lanes[item.frame.model]
            self._turns.leave(item.frame.stream, item.frame.model)
        if not stream.frames:
            del self._streams[item.frame.stream]

    def expire(self, now: float) -> list[Item]:
        """Take out the frames whose budget is spent."""
        expired = []
        while self._deadlines and self._deadlines[0][0] <= now:
            item = heapq.heappop(self._deadlines)[2]
            if item.place is Place.QUEUED:
                self.remove(item)
                expired.append(item)
        return expired

    def models(self) -> set[str]:
        """Models that frames wait for."""
        return self._turns.models

    def check(self) -> None:
        """Assert that all counts are the sums they claim to be."""
        frames = size = 0
        for name, stream in self._streams.items():
            items = [item for lane in stream.lanes.values() for item in lane]
            assert items, name
            assert stream.frames == len(items)
            assert stream.bytes == sum(len(item.payload) for item in items)
            assert len({item.frame.index for item in items}) == len(items), f"{name}: a frame is queued twice"
            assert all(item.place is Place.QUEUED and item.frame.stream == name for item in items)
            if all(item.live for item in items):
                assert stream.frames <= self._limits.queue_frames
                assert stream.bytes <= self._limits.queue_bytes
            for lane in stream.lanes.values():
                assert set(lane.returned) <= set(lane.heap)
            frames += stream.frames
            size += stream.bytes
        assert (self.frames, self.bytes) == (frames, size)
        assert sum(self.waiting().values()) == frames
        self._turns.check()
        assert self._turns.models == {model for stream in self._streams.values() for model in stream.lanes}

    def _insert(self, item: Item) -> _Lane:
        name, model = item.frame.stream, item.frame.model
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = _Stream()
        lane = stream.lanes.get(model)
        if lane is None:
            lane = stream.lanes[model] = _Lane()
            self._turns.enter(name, model)
        stream.frames += 1
        stream.bytes += len(item.payload)
        self.frames += 1
        self.bytes += len(item.payload)
        item.place = Place.QUEUED
        if item.live:
            heapq.heappush(self._deadlines, (item.deadline, next(self._ties), item))
            if len(self._deadlines) > 2 * self.frames + 1024:
                queued = {id(entry[2]): entry for entry in self._deadlines if entry[2].place is Place.QUEUED}
                self._deadlines = list(queued.values())
                heapq.heapify(self._deadlines)
        return lane

    def _fits(self, name: str, item: Item | None) -> bool:
        stream = self._streams.get(name)
        extra, size = (1, len(item.payload)) if item is not None else (0, 0)
        frames, held = (stream.frames, stream.bytes) if stream is not None else (0, 0)
        limits = self._limits
        return (
            frames + extra <= limits.queue_frames
            and held + size <= limits.queue_bytes
            and self.bytes + size <= limits.total_bytes
        )

    def _make_room(self, item: Item) -> list[Item]:
        evicted: list[Item] = []
        if len(item.payload) > self._limits.queue_bytes:
            return evicted  # it never fits: evicting others would be in vain
        while not self._fits(item.frame.stream, item):
            oldest = self._oldest(item.frame.stream)
            if oldest is None or not oldest.live:
                break
            self.remove(oldest)
            evicted.append(oldest)
        return evicted

    def _oldest(self, name: str) -> Item | None:
        stream = self._streams.get(name)
        if stream is None:
            return None
        return min((lane.first() for lane in stream.lanes.values()), key=lambda item: item.frame.index)
