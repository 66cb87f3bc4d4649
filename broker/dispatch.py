"""Which frame goes to which worker, and what becomes of it when that fails. No sockets, no clock.

``handle(event, now)`` is the only way in; it returns what the shell has to do. Each accepted frame is queued once, or
leased once, until it ends for one counted reason; ``check()`` proves it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

from broker.accepted import Accepted
from broker.actions import Action, Arrived, Event, Gone, Heard, Log, SendWho, SendWork, Tell, Unsent
from broker.backlog import Backlog, Item, Place
from broker.foresight import Foresight, Verdict
from broker.limits import Limits
from broker.pool import pool, shown
from broker.roster import Lease, Roster, Worker
from common.messages import Beat, Done, Expired, Frame, GaveUp, News, Ready, Started, Who, Work


class Dispatcher:
    """The state of the broker.

    ``counts`` says how often each thing happened: ``accepted``; how accepted frames ended (``accepted.ENDS``); frames
    that were not accepted (``duplicate``, ``stale_epoch``, ``refused``, ``refused_live``, ``too_many_streams``); and
    ``sent``, ``unsent``, ``returned``, ``lost_on_the_way``, ``late_done``, ``unknown_lease``, ``probed``,
    ``paused``, ``worker_*``.
    """

    def __init__(self, incarnation: str, limits: Limits | None = None) -> None:
        self.incarnation = incarnation
        self.limits = limits or Limits()
        self.counts: Counter[str] = Counter()
        self._backlog = Backlog(self.limits)
        self._roster = Roster(self.limits, incarnation)
        self._foresight = Foresight(self.limits)
        self._accepted = Accepted(self.limits, self._backlog, self.counts)
        self._ticked: float | None = None
        self._news = 0
        self._out: list[Action] = []

    @property
    def idle(self) -> bool:
        """Nothing is queued or leased."""
        return not (self._backlog.frames or self._roster.leases)

    @property
    def workers(self) -> int:
        return len(self._roster.workers)

    @property
    def models(self) -> list[str]:
        """Models that live workers serve."""
        return list(self._roster.models())

    @property
    def queued(self) -> tuple[int, int]:
        """Frames and payload bytes that wait."""
        return self._backlog.frames, self._backlog.bytes

    @property
    def streams(self) -> int:
        """Streams that are known: those that sent something lately."""
        return self._accepted.streams

    @property
    def leased(self) -> int:
        return len(self._roster.leases)

    def depths(self, now: float) -> dict[str, tuple[int, int, float]]:
        """Each known stream → frames and bytes that wait, and for how long the first of them has, in seconds."""
        queued = {name: (count, size, now - since) for name, count, size, since in self._backlog.depths()}
        return {name: (0, 0, 0.0) for name in self._accepted.names} | queued

    def roster(self) -> list[Worker]:
        """Workers to be told of one by one."""
        return shown(self._roster.workers.values())

    def pool(self, now: float) -> list[dict[str, Any]]:
        """Each worker in a few words, for the status line: :func:`broker.pool.pool`."""
        return pool(self._roster.workers.values(), now)

    def unserved(self) -> dict[str, int]:
        """Model → frames that wait for it, where no live worker serves it."""
        return {model: count for model, count in self._backlog.waiting().items() if not self._roster.serves(model)}

    def stuck(self) -> list[str]:
        """Names of the workers that hang: they beat, but their batch is overdue, or they start none."""
        return sorted(worker.name for worker in self._roster.workers.values() if worker.stuck)

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take in one event → actions, in order."""
        if isinstance(event, Arrived):
            self._on_frame(event.frame, event.payload, now)
        elif isinstance(event, Heard):
            self._on_worker(event, now)
        elif isinstance(event, Gone):
            if (worker := self._roster.at(event.route)) is not None:
                self._lose(worker, "disconnected")
        elif isinstance(event, Unsent):
            self._on_unsent(event.lease)
        else:
            self._on_tick(now)
        for item in self._backlog.expire(now):
            self._expired(item, "expired")
        self._send(now)
        out, self._out = self._out, []
        return out

    def news(self) -> News:
        """What producers need to know, for publishing."""
        self._news += 1
        return News(
            incarnation=self.incarnation,
            number=self._news,
            held=self._accepted.held(),
            models=self._roster.models(),
            workers=len(self._roster.workers),
        )

    # -- frames --------------------------------------------------------------------------------------------------

    def _on_frame(self, frame: Frame, payload: bytes, now: float) -> None:
        if not self._accepted.is_new(frame, now):
            return
        item = Item(frame, payload, math.inf if frame.budget is None else now + frame.budget, since=now)
        self._foresight.accepted(frame, now)
        taken, evicted = self._backlog.offer(item)
        for old in evicted:
            self._expired(old, "queue_full")
        if taken:
            self._accepted.enter(item)
        elif item.live:
            self.counts["refused_live"] += 1
            self._tell_expired(frame, "queue_full")
        else:
            self.counts["refused"] += 1  # its producer sees in the News that we do not have it

    def _expired(self, item: Item, reason: str) -> None:
        self._accepted.end(item, "expired")
        self._tell_expired(item.frame, reason)

    def _tell_expired(self, frame: Frame, reason: str) -> None:
        self._out.append(
            Tell(frame.sink, Expired(stream=frame.stream, epoch=frame.epoch, index=frame.index, reason=reason))
        )

    def _give_up(self, item: Item, reason: str, detail: str) -> None:
        frame = item.frame
        self._accepted.end(item, "gave_up")
        message = GaveUp(stream=frame.stream, epoch=frame.epoch, index=frame.index, reason=reason, detail=detail[:2000])
        self._out.append(Tell(frame.sink, message))
        text = f"frame {frame.index} given up: {reason} {detail}".strip()
        self._out.append(Log(text, stream=frame.stream, epoch=frame.epoch, index=frame.index))

    def _back(self, lease: Lease, attempted: bool, reason: str, detail: str = "") -> None:
        """A lease ended without a result: queue its frame again, in front, or give it up for ``reason``."""
        item = lease.item
        if item.place is not Place.LEASED:
            return  # superseded meanwhile
        if attempted:
            item.attempt += 1
            item.tried.add(lease.worker.name)
            item.suspect = reason == "poison" and item.attempt + 1 >= self.limits.max_attempts
        if item.attempt >= self.limits.max_attempts:
            self._give_up(item, reason, detail)
            return
        self._accepted.remember(lease.number, item)
        self.counts["returned"] += 1
        for old in self._backlog.give_back(item):
            self._expired(old, "queue_full")

    # -- workers -------------------------------------------------------------------------------------------------

    def _on_worker(self, event: Heard, now: float) -> None:
        message = event.message
        if isinstance(message, Beat):
            self._on_beat(event.route, message, now)
        elif isinstance(message, Ready):
            self._on_ready(event.route, message, now)
        elif isinstance(message, Started):
            self.counts["unknown_lease"] += self._roster.started(message, now)
        else:
            self._on_done(message, now)

    def _on_ready(self, route: bytes, ready: Ready, now: float) -> None:
        known = self._roster.at(route)
        successor = known is None and ready.worker in self._roster.workers
        lost = self._roster.ready(route, ready, now)
        if lost is None:
            self.counts["worker_refused"] += 1
            self._out.append(Log("too many workers, this one is ignored", worker=ready.worker, warning=True))
            return
        if successor:
            self.counts["worker_restarted"] += 1
        if known is None:
            self.counts["worker_ready"] += 1
            self._out.append(Log(f"worker ready for {', '.join(ready.models)} on {ready.device}", ready.worker))
        self._all_back(lost, "its worker has been restarted")

    def _on_beat(self, route: bytes, beat: Beat, now: float) -> None:
        lost = self._roster.beat(route, beat, now)
        if lost is None:
            self._who(route)
            return
        self.counts["lost_on_the_way"] += len(lost)
        self._all_back(lost, "its worker no longer has it")

    def _who(self, route: bytes) -> None:
        self._out.append(SendWho(route, Who(incarnation=self.incarnation)))

    def _on_done(self, done: Done, now: float) -> None:
        leases = self._roster.done(done, now)
        if len(leases) < len(done.leases):
            self._on_late(done, set(done.leases).difference(lease.number for lease in leases))
        for lease in leases:
            if lease.item.place is not Place.LEASED:
                continue  # superseded meanwhile
            if done.outcome == "ok":
                self._accepted.end(lease.item, "done")
            elif done.outcome == "failed":
                self._back(lease, True, "model_error", done.reason)
            elif done.outcome == "refused":
                self._give_up(lease.item, "bad_payload", done.reason)
            else:
                self._accepted.end(lease.item, "no_sink")

    def _on_late(self, done: Done, numbers: Iterable[int]) -> None:
        """Leases that the worker no longer had: a frame that waits again has its result after all."""
        for number in numbers:
            item = self._accepted.formerly(number) if done.incarnation == self.incarnation else None
            self.counts["unknown_lease" if item is None else "late_done"] += 1
            if item is not None and done.outcome == "ok" and item.place is Place.QUEUED:
                self._accepted.end(item, "done")

    def _on_unsent(self, number: int) -> None:
        lease = self._roster.leases.get(number)
        if lease is not None:
            self.counts["unsent"] += 1
            self._roster.unsent(lease)
            self._back(lease, False, "poison")

    def _lose(self, worker: Worker, why: str) -> None:
        self.counts[f"worker_{why}"] += 1
        self._out.append(Log(f"worker {why} with {len(worker.leases)} leases", worker.name, warning=True))
        self._all_back(self._roster.remove(worker), f"worker {worker.name} {why}")

    def _all_back(self, leases: Iterable[Lease], detail: str) -> None:
        for lease in leases:
            self._back(lease, lease.started is not None, "poison", detail)

    # -- time ----------------------------------------------------------------------------------------------------

    def _on_tick(self, now: float) -> None:
        paused = self._ticked is not None and now - self._ticked > self.limits.heartbeat_timeout / 2
        self._ticked = now
        if paused:
            self.counts["paused"] += 1  # we were held up: what workers said meanwhile is perhaps still unread
            return
        for worker in self._roster.silent(now):
            self._lose(worker, "silent")
        for worker in self._roster.quiet(now):
            self.counts["probed"] += 1
            self._who(worker.route)
        for worker in self._roster.hung(now):
            self.counts["worker_hung"] += 1
            self._out.append(Log(f"worker hangs with {len(worker.leases)} leases", worker.name, warning=True))
            self._all_back(self._roster.strip(worker), f"worker {worker.name} hung")
        self._accepted.forget(now)

    def _send(self, now: float) -> None:
        """Give waiting frames to workers with credit, the least busy first."""
        candidates = list(self._roster.hungry.values()) if self._backlog.frames else []
        passed: list[Worker] = []  # over, for a frame that another one is to have
        while candidates and self._backlog.frames:
            worker = min(candidates, key=_load)
            item = self._backlog.peek(worker.models)
            verdict = self._foresight.judge(worker, item, now) if item is not None else Verdict.LATER
            if item is None or verdict is Verdict.LATER:
                candidates.remove(worker)
                continue
            if verdict is Verdict.HOPELESS:
                self._expired(item, "expired")
                continue
            if item.suspect and worker.leases:
                # Were it to die, its last words might be lost, and with them that one of these others is done. It gets
                # nothing more until they are, and then this frame alone: only the poison itself is given up for it.
                candidates.remove(worker)
                continue
            if worker.name in item.tried and self._roster.another(item):
                candidates.remove(worker)  # it may be the worker's fault
                passed.append(worker)
                continue
            self._backlog.take(worker.models)
            candidates += passed
            passed.clear()
            item.place = Place.LEASED
            lease = self._roster.lease(worker, item, now)
            if worker.name not in self._roster.hungry:
                candidates.remove(worker)
            self.counts["sent"] += 1
            work = Work(incarnation=self.incarnation, lease=lease.number, frame=item.frame, attempt=item.attempt)
            self._out.append(SendWork(worker.route, work, item.payload))

    def check(self) -> None:
        """Assert that each accepted frame is in one place and that all counts add up."""
        self._backlog.check()
        self._roster.check()
        self._accepted.check()
        queued = sum(item.place is Place.QUEUED for item in self._accepted)
        leased = {id(item) for item in self._accepted if item.place is Place.LEASED}
        held = [lease.item for lease in self._roster.leases.values() if lease.item.place is not Place.GONE]
        assert queued == self._backlog.frames
        assert len(held) == len(leased), "a frame is leased twice"
        assert {id(item) for item in held} == leased
        assert not self._out


def _load(worker: Worker) -> int:
    return len(worker.leases)
