"""A live stream and its fleet as a discrete-event simulation: the real window, pace and order, workers as numbers.

What lies between the ends is a model of broker and workers: a queue with deadlines, leases to the least busy worker,
batches. Everything takes its time from a list of events, so that a minute passes in a moment.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

from common import messages as m
from common.wire import to_ranges
from producer.pace import Pace
from producer.window import Window
from sink.reorder import Reorder
from tests.builders import EPOCH, STREAM, TICK, ack, expired, frame, notice, result

#: One way over a socket, in seconds, with what the parts' loops add.
HOP_S = 0.003
#: The sink's acknowledgements after progress, the broker's news, a worker's wait for a full batch, in seconds.
ACK_S, NEWS_S, WAIT_S = 0.02, 0.25, 0.01


@dataclass(slots=True)
class Server:
    """One worker: what it holds and has not begun, and the batch in the model."""

    waiting: deque[int] = field(default_factory=deque)
    batch: list[int] = field(default_factory=list)
    gone: bool = False

    @property
    def load(self) -> int:
        return len(self.waiting) + len(self.batch)


@dataclass(slots=True)
class Seen:
    """What came of a run: ages of results in seconds, with the time of their arrival."""

    ages: list[tuple[float, float]] = field(default_factory=list)
    limits: list[tuple[float, int]] = field(default_factory=list)


class Fleet:
    """``service(batch)`` draws the seconds that a batch of so many frames takes."""

    def __init__(
        self, pace: Pace, service: Callable[[int], float], workers: int, *, fps: float = 25, budget: float = 0.5,
        batch: int = 16, news: bool = True,
    ) -> None:  # fmt: skip
        self._service, self._fps, self.budget, self._batch, self._tell_workers = service, fps, budget, batch, news
        self.window = Window(10**6, 2**40, pace)
        self.reorder = Reorder("live", budget, 1.0, Fraction(1, 25 * TICK))
        self.now = 0.0
        self.seen = Seen()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._ties = itertools.count()
        self._servers = [Server() for _ in range(workers)]
        self._queue: deque[tuple[int, float]] = deque()  # at the broker: index and deadline
        self._sent: dict[int, float] = {}
        self._index = 0
        self._news = 0
        self._resolved = -1
        self._progress = False
        for action in (self._tick, self._acknowledge, self._tell):
            self._at(0.0, action)

    def run(self, seconds: float) -> Seen:
        """Go on for so long."""
        end = self.now + seconds
        while self._events[0][0] <= end:
            self.now, _, action = heapq.heappop(self._events)
            action()
        self.now = end
        self.window.check()
        self.reorder.check()
        return self.seen

    def join(self, count: int = 1) -> None:
        """More workers."""
        self._servers += [Server() for _ in range(count)]

    def leave(self, count: int = 1) -> None:
        """Workers die; their leases go back to the front of the queue."""
        for server in self._servers[-count:]:
            server.gone = True
            back = [*server.batch, *server.waiting]
            self._queue.extendleft((index, self._sent[index] + self.budget) for index in reversed(back))
        del self._servers[-count:]
        self._dispatch()

    def _at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._ties), action))

    # -- producer ----------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        index, self._index = self._index, self._index + 1
        fate: m.Fate = "window_full"
        self.window.announce(index)
        if self.window.room_to_send:
            fate = "sent"
            self.window.sent(frame(index), b"", self.now)
            self._at(self.now + HOP_S, lambda: self._arrive(index))
        self.seen.limits.append((self.now, self.window.limit))
        told = notice(index, fate)
        self._at(self.now + HOP_S, lambda: self._announced(told))
        self._at(self._index / self._fps, self._tick)

    # -- broker and workers ------------------------------------------------------------------------------------------

    def _arrive(self, index: int) -> None:
        self._sent[index] = self.now
        self._queue.append((index, self.now + self.budget))
        self._at(self.now + self.budget, self._expire)
        self._dispatch()

    def _expire(self) -> None:
        for index, deadline in list(self._queue):
            if deadline <= self.now:
                self._queue.remove((index, deadline))
                self._answer(expired(index))

    def _dispatch(self) -> None:
        while self._queue and self._servers:
            server = min(self._servers, key=lambda one: one.load)
            if server.load >= 2 * self._batch:
                return
            index, _ = self._queue.popleft()
            server.waiting.append(index)
            if not server.batch:
                if len(server.waiting) >= self._batch:
                    self._begin(server)
                elif len(server.waiting) == 1:
                    self._at(self.now + WAIT_S, lambda server=server: self._begin(server))  # type: ignore[misc]

    def _begin(self, server: Server) -> None:
        if server.batch or not server.waiting or server.gone:
            return
        server.batch = [server.waiting.popleft() for _ in range(min(self._batch, len(server.waiting)))]
        self._at(self.now + self._service(len(server.batch)), lambda: self._finish(server))

    def _finish(self, server: Server) -> None:
        if server.gone:
            return
        done, server.batch = server.batch, []
        for index in done:
            self._answer(result(index))
        self._begin(server)
        self._dispatch()

    def _tell(self) -> None:
        held = sorted([*(i for i, _ in self._queue), *(i for s in self._servers for i in (*s.waiting, *s.batch))])
        self._news += 1
        word = m.News(
            incarnation="a", number=self._news, held={STREAM: (EPOCH, to_ranges(held))},
            workers=len(self._servers) if self._tell_workers else 0,
        )  # fmt: skip
        self._at(self.now + HOP_S, lambda: self._hear(word))
        self._at(self.now + NEWS_S, self._tell)

    def _hear(self, news: m.News) -> None:
        for header, _ in self.window.news(news, STREAM, EPOCH, self.now):
            self._at(self.now + HOP_S, lambda index=header.index: self._arrive(index))  # type: ignore[misc]

    # -- sink --------------------------------------------------------------------------------------------------------

    def _announced(self, told: m.Notice) -> None:
        self.reorder.notice(told, self.now)
        self._decide()

    def _answer(self, answer: m.Result | m.Expired) -> None:
        def arrive() -> None:
            self._decide()
            if isinstance(answer, m.Result):
                self.seen.ages.append((self.now, self.now - self._sent[answer.index]))
            self.reorder.answer(answer, self.now)
            self._progress = True
            self._decide()

        self._at(self.now + HOP_S, arrive)

    def _decide(self) -> None:
        for decision in self.reorder.decide(self.now):
            self._resolved = decision.index
            self._progress = True

    def _acknowledge(self) -> None:
        self._decide()
        if self._progress or self._index % 5 == 0:
            word = ack(self.reorder.received(self._resolved), self._resolved, late=self.reorder.late)
            self._progress = False
            self._at(self.now + HOP_S, lambda: self.window.ack(word, self.now))
        self._at(self.now + ACK_S, self._acknowledge)


def jitter(seconds: Callable[[int], float], spread: float, seed: int) -> Callable[[int], float]:
    """Service times that vary by a lognormal factor of median 1."""
    draw = random.Random(seed)
    return lambda count: seconds(count) * draw.lognormvariate(0.0, spread)
