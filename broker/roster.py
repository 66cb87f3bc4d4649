"""Workers: who is alive, how much each may be sent, who holds which lease. No sockets, no clock.

Credit is absolute: each Ready, Beat and Done says how much room there is *now*, and only work that this word cannot
have counted is subtracted. A lost message so corrects itself with the next word.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from broker.backlog import Item
from broker.limits import Limits
from broker.pool import Tally
from broker.speed import Speed
from common.messages import MAX_TABLE, Beat, Done, InputSpec, Ready, Started


@dataclass(slots=True, eq=False)
class Lease:
    """One frame that one worker has, or that is on its way there."""

    number: int
    item: Item
    worker: Worker
    sent: float
    #: The batch with this frame went into the model.
    started: float | None = None
    #: When a started batch counts as hung.
    due: float = 0.0


@dataclass(slots=True, eq=False)
class Worker:
    """One worker process."""

    name: str
    #: Its present routing id: a worker that reconnects gets another one.
    route: bytes
    models: dict[str, InputSpec]
    seen: float
    #: Last batch start or end, or the arrival of work where there was none.
    progress: float
    #: Room that it last claimed, in frames.
    room: int = 0
    draining: bool = False
    #: A batch hung, or nothing was started: no new work until it finishes something.
    stuck: bool = False
    leases: dict[int, Lease] = field(default_factory=dict)
    #: Leases that the last word about room did not count.
    uncounted: set[int] = field(default_factory=set)
    speed: Speed = field(default_factory=Speed)
    #: Leases whose batch is in the model, and when that began.
    running: int = 0
    began: float = 0.0
    #: What it runs on, in its own words.
    device: str = ""
    tally: Tally = field(default_factory=Tally)

    @property
    def credit(self) -> int:
        """Frames that may be sent now."""
        return self.room - len(self.uncounted)

    @property
    def isolated(self) -> bool:
        """Whether what it holds must stay the only thing that it holds."""
        only = next(iter(self.leases.values()), None)
        return only is not None and only.item.suspect

    def foresee(self, now: float) -> tuple[int, float]:
        """What would become of one more frame: the frames of its batch, and in how many seconds that would be done."""
        frames = len(self.leases) - self.running + 1
        rest = self.began + self.speed.expect(self.running) - now if self.running else 0.0
        return frames, max(0.0, rest) + self.speed.expect(frames)

    def patience(self, frames: int, limits: Limits) -> float:
        """How long a batch of ``frames`` may take, in seconds."""
        if self.speed.batch_s is None:
            return limits.overdue_first
        # A large batch after small ones takes longer than the average batch did.
        expected = max(self.speed.batch_s, self.speed.frame_s * frames)
        return max(limits.overdue_least, limits.overdue_factor * expected)


class Roster:
    """All workers and all leases. Leases that are lost are handed back to the caller, once each."""

    def __init__(self, limits: Limits, incarnation: str) -> None:
        self._limits = limits
        self._incarnation = incarnation
        self._routes: dict[bytes, Worker] = {}
        self._numbers = itertools.count(1)
        self.workers: dict[str, Worker] = {}
        self.leases: dict[int, Lease] = {}
        #: Workers that may be sent something now.
        self.hungry: dict[str, Worker] = {}

    def another(self, item: Item) -> bool:
        """Whether a worker is there that could infer this frame and has not tried to."""
        return any(
            item.frame.model in one.models and one.name not in item.tried and not one.stuck and not one.draining
            for one in self.workers.values()
        )

    # -- what workers say ----------------------------------------------------------------------------------------

    def ready(self, route: bytes, ready: Ready, now: float) -> list[Lease] | None:
        """A worker is here → leases lost with its predecessor; None: there are too many workers."""
        lost: list[Lease] = []
        worker = self.workers.get(ready.worker)
        if (other := self._routes.get(route)) is not None and other is not worker:
            lost += self.remove(other)  # the process took another name
        if worker is not None and worker.route != route:
            lost += self.remove(worker)  # the process under this name is a new one
            worker = None
        if worker is None:
            if len(self.workers) >= self._limits.workers:
                return None
            worker = Worker(ready.worker, route, {}, now, now)
            self.workers[ready.worker] = self._routes[route] = worker
        worker.models, worker.device = dict(ready.models), ready.device
        worker.draining = False
        worker.seen, worker.room = now, ready.room
        # A Ready does not say what it holds, so all that was sent may still be on its way; the next Beat tells.
        worker.uncounted = set(worker.leases)
        self._sort(worker)
        return lost

    def beat(self, route: bytes, beat: Beat, now: float) -> list[Lease] | None:
        """A worker lives → leases lost on the way to it; None: it must say Ready."""
        worker = self.workers.get(beat.worker)
        if worker is None:
            return None
        ours = beat.incarnation == self._incarnation
        held = beat.leases if ours else ()
        if worker.route != route:
            # The same process after a reconnection proves itself by what it holds; another one has to say Ready.
            if route in self._routes or not any(number in worker.leases for number in held):
                return None
            del self._routes[worker.route]
            worker.route, self._routes[route] = route, worker
        worker.draining = beat.draining
        if not beat.leases:
            worker.stuck = False  # what hung is over, one way or the other
        listed = set(held)
        unconfirmed = [lease for number, lease in worker.leases.items() if number not in listed]
        lost = [lease for lease in unconfirmed if now - lease.sent > self._limits.lost_after]
        worker.seen, worker.room = now, beat.room
        # What it does not list was still on its way when it counted its room.
        worker.uncounted = {lease.number for lease in unconfirmed}
        for lease in lost:
            self.release(lease)
        self._sort(worker)
        return lost

    def started(self, started: Started, now: float) -> int:
        """A batch begins → how many of its leases are not (or no longer) this worker's."""
        worker = self.workers.get(started.worker)
        if worker is None or started.incarnation != self._incarnation:
            return len(started.leases)
        worker.seen = worker.progress = now
        due = now + worker.patience(len(started.leases), self._limits)
        ours = [worker.leases[number] for number in started.leases if number in worker.leases]
        for lease in ours:
            worker.running += lease.started is None
            lease.started, lease.due = now, due
        worker.began = now
        worker.tally.started(len(ours), now)
        return len(started.leases) - len(ours)

    def done(self, done: Done, now: float) -> list[Lease]:
        """A batch ended → its leases, released. Those that are not this worker's are left out."""
        worker = self.workers.get(done.worker)
        if worker is None or done.incarnation != self._incarnation:
            return []
        worker.seen = worker.progress = now
        worker.stuck = False
        ended = [worker.leases[number] for number in set(done.leases) if number in worker.leases]
        ended.sort(key=lambda lease: lease.number)
        for lease in ended:
            self.release(lease)
        if done.outcome == "ok":
            worker.tally.ended(len(ended), now)
        if done.leases:
            if done.outcome == "ok" and done.seconds > 0:
                worker.speed.measure(done.seconds, len(done.leases), now)
            # Work arrives in the order in which it was sent: what is older than this batch was counted.
            newest = max(done.leases)
            worker.uncounted = {number for number in worker.uncounted if number > newest}
            worker.room = done.room
        self._sort(worker)
        return ended

    # -- what the dispatcher does --------------------------------------------------------------------------------

    def lease(self, worker: Worker, item: Item, now: float) -> Lease:
        """``worker`` gets ``item``; its credit shrinks by one."""
        lease = Lease(next(self._numbers), item, worker, now)
        if not worker.leases:
            worker.progress = now
        self.leases[lease.number] = worker.leases[lease.number] = lease
        worker.uncounted.add(lease.number)
        self._sort(worker)
        return lease

    def release(self, lease: Lease) -> None:
        """The lease is over, whatever came of it."""
        del self.leases[lease.number], lease.worker.leases[lease.number]
        lease.worker.uncounted.discard(lease.number)
        lease.worker.running -= lease.started is not None
        self._sort(lease.worker)

    def unsent(self, lease: Lease) -> None:
        """The work could not be handed to the transport: nothing more for this worker until its next word."""
        self.release(lease)
        lease.worker.room = 0
        self._sort(lease.worker)

    def remove(self, worker: Worker) -> list[Lease]:
        """The worker is gone → its leases, released."""
        lost = list(worker.leases.values())
        for lease in lost:
            self.release(lease)
        del self.workers[worker.name], self._routes[worker.route]
        self.hungry.pop(worker.name, None)
        return lost

    def at(self, route: bytes) -> Worker | None:
        return self._routes.get(route)

    def silent(self, now: float) -> list[Worker]:
        """Workers whose heartbeats have stopped."""
        return [w for w in self.workers.values() if now - w.seen > self._limits.heartbeat_timeout]

    def quiet(self, now: float) -> list[Worker]:
        """Workers that have missed a heartbeat."""
        return [w for w in self.workers.values() if now - w.seen > self._limits.probe_after]

    def hung(self, now: float) -> list[Worker]:
        """Workers with an overdue batch, or with leases of which none is started."""
        return [worker for worker in self.workers.values() if worker.leases and self._hangs(worker, now)]

    def _hangs(self, worker: Worker, now: float) -> bool:
        dues = [lease.due for lease in worker.leases.values() if lease.started is not None]
        return min(dues) < now if dues else now - worker.progress > self._limits.unstarted

    def strip(self, worker: Worker) -> list[Lease]:
        """Take all leases from a hung worker → released; it gets no more until it finishes something."""
        worker.stuck = True
        lost = list(worker.leases.values())
        for lease in lost:
            self.release(lease)
        self._sort(worker)
        return lost

    def models(self) -> dict[str, InputSpec]:
        """Models that live workers serve; of more than a message may name, some."""
        served = {model: spec for worker in self.workers.values() for model, spec in worker.models.items()}
        return dict(itertools.islice(served.items(), MAX_TABLE))

    def serves(self, model: str) -> bool:
        """Whether a live worker takes, or will take, frames for ``model``."""
        return any(model in worker.models and not worker.draining for worker in self.workers.values())

    def check(self) -> None:
        """Assert that leases, workers and credit agree."""
        for name, worker in self.workers.items():
            assert worker.name == name
            assert self._routes[worker.route] is worker
            assert len(worker.leases) <= self._limits.leases
            assert worker.uncounted <= set(worker.leases)
            assert worker.room >= 0
            assert worker.running == sum(lease.started is not None for lease in worker.leases.values())
            assert (name in self.hungry) == self._is_hungry(worker)
            assert len(worker.leases) == 1 or not any(lease.item.suspect for lease in worker.leases.values())
            for number, lease in worker.leases.items():
                assert lease.number == number
                assert lease.worker is worker
                assert self.leases[number] is lease
        assert len(self._routes) == len(self.workers)
        assert set(self.hungry) <= set(self.workers)
        assert len(self.leases) == sum(len(worker.leases) for worker in self.workers.values())

    def _is_hungry(self, worker: Worker) -> bool:
        return (
            not (worker.draining or worker.stuck or worker.isolated)
            and len(worker.leases) < self._limits.leases
            and worker.room > len(worker.uncounted)
        )

    def _sort(self, worker: Worker) -> None:
        if self._is_hungry(worker):
            self.hungry[worker.name] = worker
        else:
            self.hungry.pop(worker.name, None)
