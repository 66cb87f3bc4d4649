"""Dispatch under random events: simulated workers with slow, ordered links to the broker, some of which die."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broker.accepted import ENDS
from broker.actions import Action, Arrived, Gone, Heard, SendWork, Tell, Tick, Unsent
from broker.dispatch import Dispatcher
from broker.limits import Limits
from common.messages import Beat, Done, Expired, Frame, GaveUp, InputSpec, Outcome, Ready, Started, ToBroker, Work

INCARNATION = "now"
SPEC = InputSpec(width=32, height=24)
Key = tuple[str, int, int]


def key(frame: Frame) -> Key:
    return frame.stream, frame.epoch, frame.index


@dataclass
class SimWorker:
    """A worker as it should be: room is its capacity less what it holds; the two links are queues in order."""

    name: str
    life: int
    models: str
    capacity: int = 4
    inbox: deque[Work] = field(default_factory=deque)
    outbox: deque[ToBroker] = field(default_factory=deque)
    held: dict[int, Work] = field(default_factory=dict)
    batch: list[int] = field(default_factory=list)
    #: Most frames that it ever had at once.
    peak: int = 0

    @property
    def route(self) -> bytes:
        return f"{self.name}/{self.life}".encode()

    @property
    def room(self) -> int:
        return max(0, self.capacity - len(self.held))

    def ready(self) -> None:
        self.outbox.append(Ready(worker=self.name, models=dict.fromkeys(self.models, SPEC), room=self.room))

    def beat(self, draining: bool = False) -> None:
        leases = sorted(self.held)
        incarnation = INCARNATION if self.peak else ""
        message = Beat(worker=self.name, incarnation=incarnation, leases=leases, room=self.room, draining=draining)
        self.outbox.append(message)

    def take(self) -> None:
        work = self.inbox.popleft()
        self.held[work.lease] = work
        self.peak = max(self.peak, len(self.held))

    def start(self) -> list[Frame]:
        """Begin a batch: one with an attempt behind it runs alone."""
        alone = [number for number, work in self.held.items() if work.attempt]
        self.batch = alone[:1] or list(self.held)
        self.outbox.append(Started(worker=self.name, incarnation=INCARNATION, leases=self.batch))
        return [self.held[number].frame for number in self.batch]

    def finish(self, outcome: Outcome) -> list[Frame]:
        over = [self.held.pop(number).frame for number in self.batch]
        message = Done(
            worker=self.name,
            incarnation=INCARNATION,
            leases=self.batch,
            outcome=outcome,
            seconds=0.05,
            room=self.room,
        )
        self.outbox.append(message)
        self.batch = []
        return over


class Bench:
    """The dispatcher between producers and simulated workers."""

    def __init__(self, limits: Limits) -> None:
        self.core = Dispatcher(INCARNATION, limits)
        self.now = 10.0
        self.workers: dict[bytes, SimWorker] = {}
        self.told: list[GaveUp | Expired] = []

    def handle(self, event: object) -> None:
        self.perform(self.core.handle(event, self.now))  # type: ignore[arg-type]

    def perform(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, SendWork):
                worker = self.workers.get(action.route)
                if worker is None:
                    self.handle(Gone(action.route))
                elif len(worker.inbox) >= 6:
                    self.handle(Unsent(action.work.lease))
                else:
                    assert action.work.frame.model in worker.models
                    assert action.payload == b"x"
                    worker.inbox.append(action.work)
            elif isinstance(action, Tell):
                self.told.append(action.message)

    def hear(self, worker: SimWorker) -> None:
        self.handle(Heard(worker.route, worker.outbox.popleft()))

    def send(
        self, index: int, stream: str = "a", epoch: int = 1, budget: float | None = None, model: str = "m"
    ) -> None:
        frame = Frame(
            stream=stream,
            epoch=epoch,
            index=index,
            model=model,
            sink="s",
            source=(64, 48),
            size=(32, 24),
            budget=budget,
        )
        self.handle(Arrived(frame, b"x"))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(["frame", "take", "hear", "beat", "start", "finish", "ready"]), max_size=120))
def test_credit_is_never_exceeded_however_messages_cross(steps: list[str]) -> None:
    bench = Bench(Limits())
    worker = SimWorker("w", 0, "m")
    bench.workers[worker.route] = worker
    for index, step in enumerate([*steps, "ready"]):
        if step == "frame":
            bench.send(index)
        elif step == "take" and worker.inbox:
            worker.take()
        elif step == "hear" and worker.outbox:
            bench.hear(worker)
        elif step == "beat":
            worker.beat()
        elif step == "ready" and not worker.peak:
            worker.ready()
        elif step == "start" and worker.held and not worker.batch:
            worker.start()
        elif step == "finish" and worker.batch:
            worker.finish("ok")
        bench.core.check()
        assert len(worker.held) + len(worker.inbox) <= worker.capacity
    settle(bench)
    frames = steps.count("frame")
    assert bench.core.counts["done"] == frames
    assert bench.core.counts["sent"] == frames  # nothing was inferred twice


def settle(bench: Bench) -> None:
    """All links flow and all workers work, until nothing is left to do."""
    for _ in range(400):
        if bench.core.idle:
            return
        bench.now += 0.25
        for worker in bench.workers.values():
            while worker.inbox:
                worker.take()
            if worker.batch:
                worker.finish("ok")
            if worker.held:
                worker.start()
            worker.beat()
            while worker.outbox:
                bench.hear(worker)
            if bench.core._roster.at(worker.route) is None:
                worker.ready()
        bench.handle(Tick())
        bench.core.check()
    raise AssertionError("the broker never comes to rest")


class Chaos(RuleBasedStateMachine):
    """Whatever happens, each frame is in one place, and all ends well once things work again."""

    @initialize(catch_up=st.integers(0, 3))
    def begin(self, catch_up: int) -> None:
        limits = replace(Limits(), queue_frames=6, streams=3, workers=3, catch_up=catch_up, overdue_first=4)
        self.bench = Bench(limits)
        self.lives = 0
        self.next: Counter[str] = Counter()
        self.epochs: Counter[str] = Counter()
        #: Frame → batches with it that were started.
        self.starts: Counter[Key] = Counter()
        #: Frame → batches with it that ended well.
        self.finished: Counter[Key] = Counter()
        for name, models in (("w", "m"), ("x", "mn")):
            self.new_worker(name, models)

    def new_worker(self, name: str, models: str) -> SimWorker:
        self.lives += 1
        worker = SimWorker(name, self.lives, models)
        self.bench.workers[worker.route] = worker
        worker.ready()
        return worker

    def any_worker(self, data: st.DataObject) -> SimWorker:
        return self.bench.workers[data.draw(st.sampled_from(sorted(self.bench.workers)))]

    @rule(stream=st.sampled_from("aab"), many=st.integers(1, 4), live=st.booleans(), model=st.sampled_from("mmn"))
    def frames(self, stream: str, many: int, live: bool, model: str) -> None:
        for _ in range(many):
            budget = 0.7 if stream == "b" and live else None
            self.bench.send(self.next[stream], stream, 1 + self.epochs[stream], budget, model)
            self.next[stream] += 1

    @rule(stream=st.sampled_from("ab"), back=st.integers(1, 10), old=st.booleans())
    def frame_again(self, stream: str, back: int, old: bool) -> None:
        epoch = max(1, 1 + self.epochs[stream] - old)
        self.bench.send(max(0, self.next[stream] - back), stream, epoch)

    @rule(stream=st.sampled_from("ab"))
    def new_epoch(self, stream: str) -> None:
        self.epochs[stream] += 1
        self.next[stream] = 0

    @precondition(lambda self: self.bench.workers)
    @rule(data=st.data(), step=st.sampled_from(["take", "hear", "beat", "drain", "ready", "start", "start", "all"]))
    def worker_step(self, data: st.DataObject, step: str) -> None:
        worker = self.any_worker(data)
        if step in ("take", "all"):
            while worker.inbox and (step == "all" or len(worker.held) < worker.capacity):
                worker.take()
        if step in ("start", "all") and worker.held and not worker.batch:
            self.starts.update(map(key, worker.start()))
        if step in ("beat", "drain", "all"):
            worker.beat(draining=step == "drain")
        if step == "ready":
            worker.ready()
        if step in ("hear", "all"):
            while worker.outbox:
                self.bench.hear(worker)

    @precondition(lambda self: self.bench.workers)
    @rule(data=st.data(), end=st.sampled_from(["ok", "failed", "failed", "no_sink", "refused", "die", "die", "hang"]))
    def whole_batch(self, data: st.DataObject, end: str) -> None:
        """A worker gets all that is on its way to it, infers one batch and comes to an end or other."""
        worker = self.any_worker(data)
        worker.beat()
        while worker.outbox:
            self.bench.hear(worker)
        if self.bench.core._roster.at(worker.route) is None:
            worker.ready()
            self.bench.hear(worker)
        while worker.inbox:
            worker.take()
        if worker.held and not worker.batch:
            self.starts.update(map(key, worker.start()))
        if worker.batch and end in ("ok", "failed", "no_sink", "refused"):
            over = worker.finish(end)  # type: ignore[arg-type]
            if end == "ok":
                self.finished.update(map(key, over))
        while worker.outbox:
            self.bench.hear(worker)
        if end == "die":
            del self.bench.workers[worker.route]
            self.bench.hear(self.new_worker(worker.name, worker.models))

    @precondition(lambda self: any(worker.batch for worker in self.bench.workers.values()))
    @rule(data=st.data(), outcome=st.sampled_from(["ok", "ok", "failed", "failed", "no_sink", "refused"]))
    def finish(self, data: st.DataObject, outcome: Outcome) -> None:
        worker = data.draw(st.sampled_from([w for w in self.bench.workers.values() if w.batch]))
        over = worker.finish(outcome)
        if outcome == "ok":
            self.finished.update(map(key, over))

    @precondition(lambda self: self.bench.workers)
    @rule(data=st.data(), noticed=st.booleans(), returns=st.booleans())
    def die(self, data: st.DataObject, noticed: bool, returns: bool) -> None:
        worker = self.any_worker(data)
        del self.bench.workers[worker.route]
        if noticed:
            self.bench.handle(Gone(worker.route))
        if returns:
            self.new_worker(worker.name, worker.models)

    @precondition(lambda self: self.bench.workers)
    @rule(data=st.data())
    def reconnect(self, data: st.DataObject) -> None:
        """The same process behind another routing id; what was on its way to it is lost."""
        worker = self.any_worker(data)
        del self.bench.workers[worker.route]
        self.lives += 1
        worker.life = self.lives
        worker.inbox.clear()
        self.bench.workers[worker.route] = worker
        worker.beat()

    @precondition(lambda self: any(worker.inbox for worker in self.bench.workers.values()))
    @rule(data=st.data())
    def lose_work(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from([w for w in self.bench.workers.values() if w.inbox])).inbox.popleft()

    @rule(name=st.sampled_from("wxyz"), leases=st.lists(st.integers(0, 40), max_size=5), how=st.integers(0, 3))
    def nonsense(self, name: str, leases: list[int], how: int) -> None:
        """What nobody should say. It may cost work, but never the order of the books."""
        message: ToBroker = Started(worker=name, incarnation="before", leases=leases)
        if how == 1:
            message = Done(worker=name, incarnation="before", leases=leases, outcome="ok", room=3)
        elif how == 2:
            message = Beat(worker=name, incarnation=INCARNATION, leases=leases, room=2)
        elif how == 3:
            message = Ready(worker=name, models={"m": SPEC}, room=1)
        self.bench.handle(Heard(b"stranger", message))

    @rule(seconds=st.sampled_from([0.05, 0.3, 0.3, 0.7, 1.2, 12.0]), beating=st.booleans())
    def time_goes_by(self, seconds: float, beating: bool) -> None:
        end = self.bench.now + seconds
        while self.bench.now < end:
            self.bench.now += 0.25
            for worker in list(self.bench.workers.values()) if beating else []:
                worker.beat()
                while worker.outbox:
                    self.bench.hear(worker)
            self.bench.handle(Tick())

    @rule()
    def broker_is_held_up(self) -> None:
        self.bench.now += 3
        self.bench.handle(Tick())

    @invariant()
    def books_agree(self) -> None:
        bench = self.bench
        bench.core.check()
        held = bench.core.news().held
        assert sum(last - first + 1 for _, ranges in held.values() for first, last in ranges) == (
            bench.core.counts["accepted"] - sum(bench.core.counts[end] for end in ENDS)
        )
        for message in bench.told:
            if isinstance(message, GaveUp) and message.reason != "bad_payload":
                assert self.starts[message.stream, message.epoch, message.index] >= bench.core.limits.max_attempts
        assert bench.core.counts["done"] <= sum(self.finished.values())

    def teardown(self) -> None:
        if not hasattr(self, "bench"):
            return
        for name, models in (("w", "m"), ("x", "mn")):
            if not any(worker.name == name for worker in self.bench.workers.values()):
                self.new_worker(name, models)
        settle(self.bench)


TestChaos = Chaos.TestCase
TestChaos.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
