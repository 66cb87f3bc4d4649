"""The frames that the broker answers for, by identity, until each ends for one counted reason. No sockets, no clock.

A stream has one epoch at a time: a newer one ends the older one's frames. A frame is accepted once, whatever the
number of times it is sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from broker.backlog import Backlog, Item, Place
from broker.limits import Limits
from common.messages import Frame, Range
from common.wire import to_ranges

#: Earlier leases remembered for one frame, to recognise a result that comes after all.
PAST_LEASES = 8
#: Most index ranges in one News, all streams together: up to 19 bytes each, of a header's 256 KiB.
NEWS_RANGES = 8192
#: Most of them for one stream, which is what the message allows.
STREAM_RANGES = 4096
#: How an accepted frame may end; the counter of each has the same name.
ENDS = ("done", "gave_up", "expired", "no_sink", "superseded")


@dataclass(slots=True)
class _Stream:
    epoch: int
    #: When its last frame arrived.
    seen: float
    #: Index → frame of this epoch, queued or leased.
    items: dict[int, Item] = field(default_factory=dict)


class Accepted:
    """All queued and leased frames, and what is remembered of them."""

    def __init__(self, limits: Limits, backlog: Backlog, counts: Counter[str]) -> None:
        self._limits = limits
        self._backlog = backlog
        self._counts = counts
        self._streams: dict[str, _Stream] = {}
        #: Earlier lease → its frame, while that is queued or leased again.
        self._past: dict[int, Item] = {}

    def is_new(self, frame: Frame, now: float) -> bool:
        """Whether this frame is to be accepted, where there is room; if not, the reason is counted."""
        stream = self._streams.get(frame.stream)
        if stream is None:
            if len(self._streams) >= self._limits.streams:
                self._counts["too_many_streams"] += 1
                return False
            stream = self._streams[frame.stream] = _Stream(frame.epoch, now)
        if frame.epoch < stream.epoch:
            # Not a sign of life: should the newer epoch have been a stranger's word, it is forgotten in the end.
            self._counts["stale_epoch"] += 1
            return False
        stream.seen = now
        if frame.epoch > stream.epoch:
            for old in list(stream.items.values()):
                self.end(old, "superseded")
            stream.epoch = frame.epoch
        held = stream.items.get(frame.index)
        if held is None:
            return True
        if held.place is Place.QUEUED and held.frame.model != frame.model:
            self.end(held, "superseded")  # it may wait for a model that nobody has: the name was damaged on its way
            return True
        self._counts["duplicate"] += 1
        return False

    def enter(self, item: Item) -> None:
        """The frame, which is new, has been queued."""
        self._streams[item.frame.stream].items[item.frame.index] = item
        self._counts["accepted"] += 1

    def end(self, item: Item, how: str) -> None:
        """The frame is over here. Where it is leased, the lease stays with the worker, for its credit."""
        if item.place is Place.QUEUED:
            self._backlog.remove(item)
        item.place = Place.GONE
        item.payload = b""
        for number in item.past:
            del self._past[number]
        item.past.clear()
        del self._streams[item.frame.stream].items[item.frame.index]
        self._counts[how] += 1

    def remember(self, lease: int, item: Item) -> None:
        """This lease of the frame has come to nothing."""
        item.past.append(lease)
        self._past[lease] = item
        if len(item.past) > PAST_LEASES:
            del self._past[item.past.pop(0)]

    def formerly(self, lease: int) -> Item | None:
        """The frame of a lease that came to nothing, if it is still here."""
        return self._past.get(lease)

    def held(self) -> dict[str, tuple[int, list[Range]]]:
        """Stream → epoch and the indexes that are here."""
        streams = [(name, stream) for name, stream in self._streams.items() if stream.items]
        share = min(STREAM_RANGES, NEWS_RANGES // max(1, len(streams)))
        return {name: (stream.epoch, to_ranges(sorted(stream.items), share)) for name, stream in streams}

    def forget(self, now: float) -> None:
        """Forget the streams that have been quiet for long."""
        horizon = now - self._limits.forget_stream
        for name in [name for name, s in self._streams.items() if not s.items and s.seen < horizon]:
            del self._streams[name]

    @property
    def streams(self) -> int:
        """How many are known, with frames or without."""
        return len(self._streams)

    @property
    def names(self) -> list[str]:
        """Of the streams that are known."""
        return list(self._streams)

    def __iter__(self) -> Iterator[Item]:
        return (item for stream in self._streams.values() for item in stream.items.values())

    def check(self) -> None:
        """Assert that identities, memories and counts agree."""
        for name, stream in self._streams.items():
            for index, item in stream.items.items():
                assert (item.frame.stream, item.frame.epoch, item.frame.index) == (name, stream.epoch, index)
                assert item.place is not Place.GONE
                assert item.attempt < self._limits.max_attempts
                assert len(item.past) <= PAST_LEASES
        assert len(self._streams) <= self._limits.streams
        assert self._past == {number: item for item in self for number in item.past}
        assert self._counts["accepted"] == sum(1 for _ in self) + sum(self._counts[end] for end in ENDS)
