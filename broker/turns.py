"""Whose turn it is among streams that have frames waiting. No sockets, no clock.

Turns are numbered. A stream that is served takes the number after its last one, and the lowest number is served first:
so streams with frames share the workers evenly, whatever their load. The number of a stream that has no frames is
kept, and it may make up for some turns that it missed: a live stream waits for its answers before it sends more, has a
frame here only now and then, and would else be served the less the slower its answers come.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable


class Turns:
    """Streams are told apart by model: each waits for workers that serve it. ``catch_up``: most turns that one can make
    up for; ``memory``: most absent ones that are remembered."""

    def __init__(self, catch_up: int, memory: int) -> None:
        self._catch_up, self._memory = catch_up, memory
        #: The turn that was served last.
        self._now = 0
        #: Model → stream → its next turn, of those that have frames.
        self._next: dict[str, dict[str, int]] = {}
        #: Stream and model → next turn, of those that had frames lately.
        self._absent: dict[tuple[str, str], int] = {}
        #: Model → ``(turn, tie break, stream)`` of each that has frames, and some that are outdated.
        self._order: dict[str, list[tuple[int, int, str]]] = {}
        self._ties = itertools.count()

    def enter(self, stream: str, model: str) -> None:
        """The stream has a frame again."""
        turn = self._absent.pop((stream, model), self._now)
        self._put(stream, model, max(turn, self._now - self._catch_up))

    def leave(self, stream: str, model: str) -> None:
        """The stream has no more frames."""
        streams = self._next[model]
        self._absent[stream, model] = streams.pop(stream)
        if not streams:
            del self._next[model], self._order[model]
        if len(self._absent) > self._memory:
            # The others would get nothing for it.
            self._absent = {who: turn for who, turn in self._absent.items() if turn > self._now - self._catch_up}
            while len(self._absent) > self._memory:
                del self._absent[next(iter(self._absent))]

    def first(self, models: Iterable[str]) -> tuple[str, str] | None:
        """The stream whose turn it is, and the model; None where none waits for one of ``models``."""
        heads = [(self._head(model), model) for model in models if model in self._next]
        if not heads:
            return None
        (_, _, stream), model = min(heads, key=lambda head: head[0][0])
        return stream, model

    def served(self, stream: str, model: str) -> None:
        """A frame of the stream was given to a worker."""
        turn = self._next[model][stream]
        if turn < self._now - self._catch_up:  # nobody served its model for long: that earns it no burst
            self._raise(model, self._now - turn)
            turn = self._now
        self._now = max(self._now, turn)
        self._put(stream, model, turn + 1)

    @property
    def models(self) -> set[str]:
        """Models that streams wait for."""
        return set(self._next)

    def _raise(self, model: str, by: int) -> None:
        """Move the turns of a model up to the present round, all alike, so that its streams keep their order."""
        streams = self._next[model]
        for stream, turn in streams.items():
            streams[stream] = max(turn, min(turn + by, self._now + 1))
        self._order[model] = self._sorted(streams)

    def _sorted(self, streams: dict[str, int]) -> list[tuple[int, int, str]]:
        order = [(turn, next(self._ties), stream) for stream, turn in streams.items()]
        heapq.heapify(order)
        return order

    def _put(self, stream: str, model: str, turn: int) -> None:
        streams = self._next.setdefault(model, {})
        streams[stream] = turn
        order = self._order.setdefault(model, [])
        heapq.heappush(order, (turn, next(self._ties), stream))
        if len(order) > 2 * len(streams) + 64:
            self._order[model] = self._sorted(streams)

    def _head(self, model: str) -> tuple[int, int, str]:
        streams, order = self._next[model], self._order[model]
        while streams.get(order[0][2]) != order[0][0]:
            heapq.heappop(order)
        return order[0]

    def check(self) -> None:
        """Assert that each stream that waits can be found, and that memory is bounded."""
        assert self._next.keys() == self._order.keys()
        for model, streams in self._next.items():
            found = {(stream, turn) for turn, _, stream in self._order[model]}
            assert streams, model
            assert set(streams.items()) <= found
            assert len(self._order[model]) <= 2 * len(streams) + 64
            assert not any((stream, model) in self._absent for stream in streams)
        assert len(self._absent) <= self._memory
