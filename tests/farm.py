"""Many live streams on one fleet as a discrete-event simulation: the real windows, paces, orders, dispatcher and
batchers; what lies between them takes its time from a list of events, so that a minute passes in seconds.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from fractions import Fraction

from broker.actions import Arrived, Event, Heard, SendWork, Tell, Tick
from broker.dispatch import Dispatcher
from broker.limits import Limits
from common import messages as m
from producer.pace import Pace
from producer.window import Window
from sink.reorder import Reorder
from tests.builders import EPOCH, MODEL, TICK
from workers.batching import Batcher

#: One way over a socket, in seconds, with what the parts' loops add.
HOP_S = 0.003
#: As the parts have it, in seconds: acknowledgements after progress and without, news, beats, the broker's ticks.
ACK_S, QUIET_ACK_S, NEWS_S, BEAT_S, TICK_S = 0.02, 0.1, 0.25, 0.25, 0.1
#: Most frames of a batch, and how long one waits to fill, in seconds.
BATCH, WAIT_S = 16, 0.01
INCARNATION = "x"


class Stream:
    """One producer, and the sink's view of its stream. ``states`` counts frames once the farm is warm."""

    def __init__(self, farm: Farm, name: str, fps: float, budget: float, start: float) -> None:
        self._farm, self._name, self._fps, self._budget, self._start = farm, name, fps, budget, start
        self.window = Window(10**6, 2**40, Pace(4 * BATCH, budget))
        self.reorder = Reorder("live", budget, 1.0, Fraction(1, round(fps * TICK)))
        self.states: Counter[str] = Counter()
        self._index = 0
        self._resolved, self._progress, self._acked = -1, False, -1.0
        farm.at(start, self._picture)
        farm.at(start, self._acknowledge)

    def _picture(self) -> None:
        farm, index = self._farm, self._index
        self._index += 1
        farm.at(self._start + self._index / self._fps + farm.chance.gauss(0, 0.005), self._picture)
        fate: m.Fate = "window_full"
        self.window.announce(index)
        if farm.served and self.window.room_to_send:
            fate = "sent"
            frame = m.Frame(
                stream=self._name, epoch=EPOCH, index=index, model=MODEL, sink="sink", source=(64, 48), size=(64, 48),
                budget=self._budget,
            )  # fmt: skip
            self.window.sent(frame, b"", farm.now)
            farm.at(farm.now + HOP_S, lambda: farm.tell_broker(Arrived(frame, b"")))
        notice = m.Notice(
            stream=self._name, epoch=EPOCH, link=index + 1, index=index, out=index * TICK, duration=TICK, fate=fate
        )
        farm.at(farm.now + HOP_S, lambda: self.reorder.notice(notice, farm.now))

    def answer(self, answer: m.Result | m.Expired | m.GaveUp) -> None:
        self._decide()
        self.reorder.answer(answer, self._farm.now)
        self._progress = True

    def _decide(self) -> None:
        for decision in self.reorder.decide(self._farm.now):
            if self._farm.now > self._farm.warm:
                self.states[decision.state] += 1
            self._resolved, self._progress = decision.index, True

    def _acknowledge(self) -> None:
        farm = self._farm
        self._decide()
        if self._progress or farm.now > self._acked + QUIET_ACK_S:
            self._acked, self._progress = farm.now, False
            received = self.reorder.received(self._resolved)
            word = m.Ack(
                stream=self._name, epoch=EPOCH, link=0, received=received, resolved=self._resolved,
                late=self.reorder.late,
            )  # fmt: skip
            farm.at(farm.now + HOP_S, lambda: self.window.ack(word, farm.now))
        farm.at(farm.now + ACK_S, self._acknowledge)

    def hear(self, news: m.News) -> None:
        for header, payload in self.window.news(news, self._name, EPOCH, self._farm.now):
            self._farm.tell_broker(Arrived(header, payload))


class Worker:
    """One worker: its batcher, and a model that takes the farm's ``service`` time for a batch."""

    def __init__(self, farm: Farm, name: str) -> None:
        self._farm, self._name, self.route = farm, name, name.encode()
        self._batcher: Batcher[m.Work] = Batcher(BATCH, WAIT_S)
        self._held: set[int] = set()
        self._busy = False
        models = {MODEL: m.InputSpec(64, 48)}
        self._say(m.Ready(worker=name, models=models, room=self._room))
        farm.at(BEAT_S, self._beat)

    @property
    def _room(self) -> int:
        return max(0, self._batcher.capacity - len(self._held))

    def _say(self, message: m.ToBroker) -> None:
        self._farm.at(self._farm.now + HOP_S, lambda: self._farm.tell_broker(Heard(self.route, message)))

    def _beat(self) -> None:
        self._say(m.Beat(worker=self._name, incarnation=INCARNATION, leases=sorted(self._held), room=self._room))
        self._farm.at(self._farm.now + BEAT_S, self._beat)

    def take(self, work: m.Work) -> None:
        self._held.add(work.lease)
        self._batcher.add(work, None, False, self._farm.now)
        self._start()

    def _start(self) -> None:
        farm = self._farm
        if self._busy:
            return
        batch = self._batcher.take(farm.now)
        if not batch:
            if (at := self._batcher.next_deadline()) is not None:
                farm.at(at, self._start)
            return
        self._busy = True
        seconds = farm.service(len(batch))
        self._say(m.Started(worker=self._name, incarnation=INCARNATION, leases=[work.lease for work in batch]))
        farm.at(farm.now + seconds, lambda: self._finish(batch, seconds))

    def _finish(self, batch: list[m.Work], seconds: float) -> None:
        for work in batch:
            self._held.discard(work.lease)
            frame = work.frame
            self._farm.tell_sink(m.Result(stream=frame.stream, epoch=EPOCH, index=frame.index, worker=self._name))
        leases = [work.lease for work in batch]
        self._say(
            m.Done(
                worker=self._name, incarnation=INCARNATION, leases=leases, outcome="ok", seconds=seconds,
                room=self._room,
            )
        )  # fmt: skip
        self._busy = False
        self._start()


class Farm:
    """``service(batch)``: seconds that a batch of so many frames takes; ``stagger``: between two streams' starts."""

    def __init__(
        self, streams: int, service: Callable[[int], float], workers: int = 1, *, fps: float = 12.0,
        budget: float = 0.5, seed: int = 1, warm: float = 5.0, stagger: float = 0.1,
    ) -> None:  # fmt: skip
        self.service, self.warm = service, warm
        self.chance = random.Random(seed)
        self.now = 0.0
        self.served = False  # the news say that a worker serves the model
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._ties = itertools.count()
        self._core = Dispatcher(INCARNATION, Limits())
        self._workers = {one.route: one for one in (Worker(self, f"w{number}") for number in range(workers))}
        starts = [number * stagger + self.chance.random() / fps for number in range(streams)]
        self.streams = {f"s{at}": Stream(self, f"s{at}", fps, budget, start) for at, start in enumerate(starts)}
        self.at(0.0, self._tick)
        self.at(0.0, self._news)

    def run(self, seconds: float) -> None:
        """Go on for so long."""
        end = self.now + seconds
        while self._events[0][0] <= end:
            self.now, _, action = heapq.heappop(self._events)
            action()
        self.now = end
        self._core.check()
        for stream in self.streams.values():
            stream.window.check()
            stream.reorder.check()

    @property
    def shares(self) -> list[float]:
        """Of each stream's frames, those that show their own results."""
        return [stream.states["annotated"] / stream.states.total() for stream in self.streams.values()]

    def share(self, state: str) -> float:
        """Of all frames."""
        every = sum((stream.states for stream in self.streams.values()), Counter[str]())
        return every[state] / every.total()

    def at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (max(when, self.now), next(self._ties), action))

    def tell_broker(self, event: Event) -> None:
        for action in self._core.handle(event, self.now):
            if isinstance(action, SendWork):
                worker, work = self._workers[action.route], action.work
                self.at(self.now + HOP_S, lambda worker=worker, work=work: worker.take(work))  # type: ignore[misc]
            elif isinstance(action, Tell):
                self.tell_sink(action.message)

    def tell_sink(self, answer: m.Result | m.Expired | m.GaveUp) -> None:
        self.at(self.now + HOP_S, lambda: self.streams[answer.stream].answer(answer))

    def _tick(self) -> None:
        self.tell_broker(Tick())
        self.at(self.now + TICK_S, self._tick)

    def _news(self) -> None:
        news = self._core.news()
        self.at(self.now + HOP_S, lambda: self._hear(news))
        self.at(self.now + NEWS_S, self._news)

    def _hear(self, news: m.News) -> None:
        self.served = MODEL in news.models
        for stream in self.streams.values():
            stream.hear(news)
