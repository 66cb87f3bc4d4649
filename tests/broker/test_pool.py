"""What is told of each worker, and of each stream's queue."""

from __future__ import annotations

import pytest

from broker.actions import Arrived, Heard, SendWork, Tick
from broker.dispatch import Dispatcher
from broker.gauges import Gauges
from broker.pool import MAX_MODELS, MAX_WORKERS, Tally
from common.messages import Beat, Done, Frame, InputSpec, Ready, Started

SPEC = InputSpec(width=8, height=8)


def frame(index: int, stream: str = "s", budget: float | None = None) -> Frame:
    return Frame(
        stream=stream, epoch=1, index=index, model="m", sink="sink", source=(64, 48), size=(64, 48), budget=budget
    )


def sent(actions: object) -> list[int]:
    assert isinstance(actions, list)
    return [action.work.lease for action in actions if isinstance(action, SendWork)]


def ready(core: Dispatcher, name: str, now: float, room: int = 8, models: int = 1) -> list[int]:
    known = {"m": SPEC, **{f"m{number}": SPEC for number in range(1, models)}}
    return sent(core.handle(Heard(name.encode(), Ready(worker=name, models=known, room=room, device="cuda:1")), now))


def test_a_worker_is_told_of_with_what_it_does() -> None:
    core = Dispatcher("inc")
    ready(core, "w", 0.0)
    (told,) = core.pool(0.5)
    assert told == {
        "name": "w", "device": "cuda:1", "models": ["m"], "state": "working", "leased": 0, "room": 8, "beat_age": 0.5,
        "batch": 0.0, "fps": 0.0, "done": 0,
    }  # fmt: skip
    now = 0.5
    for turn in range(60):  # 4 frames each 0.1 s, in one batch
        leases: list[int] = []
        for index in range(4):
            leases += sent(core.handle(Arrived(frame(4 * turn + index), b"x"), now))
        assert len(leases) == 4
        core.handle(Heard(b"w", Started(worker="w", incarnation="inc", leases=leases)), now)
        now += 0.1
        done = Done(worker="w", incarnation="inc", leases=leases, outcome="ok", seconds=0.1, room=8)
        core.handle(Heard(b"w", done), now)
    (told,) = core.pool(now)
    assert (told["batch"], told["done"], told["beat_age"]) == (4.0, 240, 0.0)
    assert told["fps"] == pytest.approx(40, rel=0.15)
    (told,) = core.pool(now + 60)
    assert (told["batch"], told["fps"], told["done"]) == (0.0, 0.0, 240)
    core.handle(Heard(b"w", Beat(worker="w", incarnation="inc", room=0, draining=True)), now)
    assert core.pool(now)[0]["state"] == "draining"
    core.check()


def test_only_what_has_a_result_counts_as_done() -> None:
    core = Dispatcher("inc")
    ready(core, "w", 0.0)
    leases = sent(core.handle(Arrived(frame(0), b"x"), 0.0))
    for outcome in ("no_sink", "refused"):
        done = Done(worker="w", incarnation="inc", leases=leases, outcome=outcome, room=8)  # type: ignore[arg-type]
        core.handle(Heard(b"w", done), 0.1)
        leases = sent(core.handle(Arrived(frame(1), b"x"), 0.1))
    assert core.pool(0.1)[0]["done"] == 0


def test_a_pool_is_bounded() -> None:
    core = Dispatcher("inc")
    for number in range(MAX_WORKERS + 5):
        ready(core, f"w{number}", 0.0, models=MAX_MODELS + 5)
    told = core.pool(0.0)
    assert len(told) == MAX_WORKERS
    assert all(len(one["models"]) == MAX_MODELS for one in told)


def test_an_empty_batch_is_none() -> None:
    tally = Tally()
    tally.started(0, 1.0)
    tally.ended(0, 1.0)
    assert (tally.batch(1.0), tally.rate(1.0), tally.done) == (0.0, 0.0, 0)


def test_queues_are_told_with_the_age_of_what_is_next() -> None:
    core = Dispatcher("inc")
    core.handle(Arrived(frame(0, "a"), b"12345"), 10.0)
    core.handle(Arrived(frame(1, "a"), b"12345"), 12.0)
    core.handle(Arrived(frame(0, "b"), b"1"), 13.0)
    assert core.depths(14.0) == {"a": (2, 10, 4.0), "b": (1, 1, 1.0)}
    leases = ready(core, "w", 14.0, room=3)
    assert len(leases) == 3
    assert core.depths(14.0) == {"a": (0, 0, 0.0), "b": (0, 0, 0.0)}, "they are still known"
    core.handle(Heard(b"w", Beat(worker="w", incarnation="inc", room=0)), 14.5)
    core.handle(Tick(), 15.0)
    core.handle(Heard(b"w", Beat(worker="w", incarnation="inc", room=0)), 15.6)  # it never got them
    depths = core.depths(16.0)
    assert (depths["a"], depths["b"]) == ((2, 10, 6.0), (1, 1, 3.0)), "what came back has waited all the time"


def test_what_is_gone_leaves_no_labels_behind() -> None:
    core, gauges = Dispatcher("inc"), Gauges()
    ready(core, "w", 0.0)
    core.handle(Arrived(frame(0, "a"), b"x"), 0.0)
    gauges.look(core, [{"name": "no_worker", "text": "", "since": 1.0}], 0.5)
    read = gauges.metrics.registry.get_sample_value
    assert read("headrace_worker_info", {"worker": "w", "device": "cuda:1", "models": "m"}) == 1
    assert read("headrace_worker_leased_frames", {"worker": "w"}) == 1
    assert read("headrace_stream_queued_frames", {"stream": "a"}) == 0
    assert read("headrace_troubles", {"kind": "no_worker"}) == 1
    core.handle(Tick(), 1.0)
    core.handle(Tick(), 1.5)
    core.handle(Tick(), 2.0)  # silent for too long
    gauges.look(core, [], 0.6)
    assert read("headrace_workers") == 1, "looked at once a second"
    gauges.look(core, [], 2.0)
    assert read("headrace_workers") == 0
    assert read("headrace_worker_leased_frames", {"worker": "w"}) is None
    assert read("headrace_broker_events_total", {"kind": "worker_silent"}) == 1
    assert read("headrace_troubles", {"kind": "no_worker"}) == 0, "it is over: that is told, too"
    assert (read("headrace_queue_age_seconds") or 0) == pytest.approx(2.0)
