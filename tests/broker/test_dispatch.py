"""The rules of dispatch, one by one, with the time passed in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from broker.actions import Action, Arrived, Gone, Heard, Log, SendWho, SendWork, Tell, Tick, Unsent
from broker.dispatch import Dispatcher
from broker.limits import Limits
from common.messages import (
    MAX_TABLE,
    Beat,
    Done,
    Expired,
    Frame,
    GaveUp,
    InputSpec,
    News,
    Outcome,
    Ready,
    Started,
)
from common.wire import MAX_HEADER, Reader, encode

INCARNATION = "now"
SPEC = InputSpec(width=32, height=24)


class Bench:
    """A dispatcher, a clock that the test moves, and short words for what workers and producers say."""

    def __init__(self, limits: Limits) -> None:
        self.core = Dispatcher(INCARNATION, limits)
        self.now = 100.0
        self.told: list[GaveUp | Expired] = []
        self.logs: list[Log] = []

    def __call__(self, event: object) -> list[Action]:
        actions = self.core.handle(event, self.now)  # type: ignore[arg-type]
        self.core.check()
        self.told += [action.message for action in actions if isinstance(action, Tell)]
        self.logs += [action for action in actions if isinstance(action, Log)]
        return actions

    def frame(
        self,
        index: int,
        stream: str = "a",
        epoch: int = 1,
        budget: float | None = None,
        model: str = "m",
        size: int = 10,
    ) -> list[SendWork]:
        frame = Frame(
            stream=stream,
            epoch=epoch,
            index=index,
            model=model,
            sink="sink",
            source=(64, 48),
            size=(32, 24),
            budget=budget,
        )
        return works(self(Arrived(frame, bytes(size))))

    def ready(self, name: str = "w", room: int = 4, route: str = "", models: str = "m") -> list[SendWork]:
        message = Ready(worker=name, models={model: SPEC for model in models}, room=room)
        return works(self(Heard((route or name).encode(), message)))

    def beat(
        self, name: str = "w", leases: list[int] | None = None, room: int = 0, route: str = "", draining: bool = False
    ) -> list[SendWork]:
        message = Beat(worker=name, incarnation=INCARNATION, leases=leases or [], room=room, draining=draining)
        return works(self(Heard((route or name).encode(), message)))

    def started(self, leases: list[int], name: str = "w") -> None:
        self(Heard(name.encode(), Started(worker=name, incarnation=INCARNATION, leases=leases)))

    def done(
        self,
        leases: list[int],
        outcome: Outcome = "ok",
        name: str = "w",
        room: int = 0,
        reason: str = "",
        seconds: float = 0.1,
    ) -> list[SendWork]:
        message = Done(
            worker=name,
            incarnation=INCARNATION,
            leases=leases,
            outcome=outcome,
            room=room,
            reason=reason,
            seconds=seconds,
        )
        return works(self(Heard(name.encode(), message)))

    def wait(self, seconds: float, beating: tuple[str, ...] = (), hung: list[int] | None = None) -> list[SendWork]:
        """Time goes by with ticks; workers in ``beating`` list all that they hold (``hung``: that) and have no room."""
        sent = []
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.now = min(end, self.now + 0.25)
            for name in beating:
                worker = self.core._roster.workers.get(name)
                leases = sorted(worker.leases) if worker is not None else []
                sent += self.beat(name, leases if hung is None else hung)
            sent += works(self(Tick()))
        return sent

    @property
    def counts(self) -> Counter[str]:
        return self.core.counts


def works(actions: list[Action]) -> list[SendWork]:
    return [action for action in actions if isinstance(action, SendWork)]


def leases(sent: list[SendWork]) -> list[int]:
    return [action.work.lease for action in sent]


def frames(sent: list[SendWork]) -> list[int]:
    return [action.work.frame.index for action in sent]


@pytest.fixture
def make() -> Iterator[Callable[..., Bench]]:
    benches = []

    def build(**limits: float) -> Bench:
        benches.append(Bench(replace(Limits(), **limits)))  # type: ignore[arg-type]
        return benches[-1]

    yield build
    for bench in benches:
        bench.core.check()


@pytest.fixture
def bench(make: Callable[..., Bench]) -> Bench:
    return make()


# -- credit ----------------------------------------------------------------------------------------------------------


def test_no_work_without_credit(bench: Bench) -> None:
    assert bench.frame(0) == []
    assert frames(bench.ready(room=2)) == [0]
    assert frames(bench.frame(1)) == [1]
    assert bench.frame(2) == []  # the room is used up
    assert bench.core.queued == (1, 10)


def test_work_carries_the_frame_and_its_payload(bench: Bench) -> None:
    bench.ready(route="route")
    (action,) = bench.frame(7, size=3)
    assert (action.route, action.payload) == (b"route", bytes(3))
    assert action.work.frame.index == 7
    assert (action.work.incarnation, action.work.attempt) == (INCARNATION, 0)


def test_a_beat_that_crosses_work_does_not_double_the_credit(bench: Bench) -> None:
    """The worker counted its room before the work arrived: what it does not list is subtracted."""
    for index in range(10):
        bench.frame(index)
    sent = bench.ready(room=4)
    assert len(sent) == 4
    assert bench.beat(leases=[], room=4) == []  # all four are still on their way
    assert bench.beat(leases=leases(sent)[:2], room=2) == []  # two have arrived, two are on their way
    assert len(bench.beat(leases=leases(sent), room=3)) == 3  # all counted: this room is free


def test_room_in_done_counts_only_what_is_older(bench: Bench) -> None:
    for index in range(10):
        bench.frame(index)
    first = bench.ready(room=2)
    bench.beat(leases=leases(first), room=2)  # two more leave
    # The batch ends; the worker said room 2 before the second two arrived.
    assert bench.done(leases(first), room=2) == []
    bench.beat(leases=[3, 4], room=0)
    assert len(bench.done([3], room=1)) == 1


def test_repeated_ready_is_no_new_credit(bench: Bench) -> None:
    for index in range(10):
        bench.frame(index)
    assert len(bench.ready(room=4)) == 4
    bench.now += 0.5
    assert bench.ready(room=4) == []
    assert bench.counts["returned"] == 0


def test_room_may_shrink(bench: Bench) -> None:
    bench.ready(room=8)
    bench.beat(room=1)
    assert len(bench.frame(0) + bench.frame(1)) == 1


def test_nothing_for_a_draining_worker(bench: Bench) -> None:
    bench.ready(room=4)
    bench.beat(room=4, draining=True)
    assert bench.frame(0) == []
    assert frames(bench.ready("other")) == [0]


def test_only_models_that_the_worker_serves(bench: Bench) -> None:
    bench.ready("w", models="m")
    assert bench.frame(0, model="n") == []
    assert frames(bench.frame(1, model="m")) == [1]
    assert frames(bench.ready("x", models="nm")) == [0]


def test_the_least_busy_worker_is_next(bench: Bench) -> None:
    bench.ready("w")
    bench.ready("x")
    routes = [action.route for index in range(6) for action in bench.frame(index)]
    assert Counter(routes) == {b"w": 3, b"x": 3}


def test_claimed_room_is_bounded(make: Callable[..., Bench]) -> None:
    bench = make(leases=3)
    for index in range(9):
        bench.frame(index)
    assert len(bench.ready(room=2**60)) == 3


def test_a_full_queue_to_the_worker_costs_no_attempt(bench: Bench) -> None:
    (sent,) = bench.ready(room=2) + bench.frame(0)
    assert works(bench(Unsent(sent.work.lease))) == []  # not to the same worker, until its next word
    bench.now += 0.25
    (again,) = bench.beat(room=2)
    assert (again.work.frame.index, again.work.attempt) == (0, 0)
    assert bench(Unsent(99)) == []


# -- workers come and go ---------------------------------------------------------------------------------------------


def test_an_unknown_worker_is_asked_who_it_is(bench: Bench) -> None:
    actions = bench(Heard(b"r", Beat(worker="w", incarnation="before", leases=[1, 2], room=4)))
    assert [type(action) for action in actions] == [SendWho]
    bench.frame(0)
    assert frames(bench.ready("w", route="r")) == [0]
    # It goes on naming the leases of an earlier broker, which mean nothing here.
    bench(Heard(b"r", Beat(worker="w", incarnation="before", leases=[1, 2], room=4)))
    assert bench.counts["lost_on_the_way"] == 0
    bench(Heard(b"r", Done(worker="w", incarnation="before", leases=[1], outcome="ok")))
    assert bench.counts["unknown_lease"] == 1
    assert bench.core.leased == 1


def test_silence_returns_leases_in_index_order(bench: Bench) -> None:
    for index in range(6):
        bench.frame(index)
    sent = bench.ready(room=4)
    bench.started(leases(sent)[:2])
    bench.wait(1.4)
    assert bench.core.leased == 4
    bench.wait(0.5)
    assert (bench.core.workers, bench.core.leased) == (0, 0)
    again = bench.ready("other", room=6)
    assert frames(again) == [0, 1, 2, 3, 4, 5]
    assert [action.work.attempt for action in again] == [1, 1, 0, 0, 0, 0]  # only what had been started


def test_a_beating_worker_is_kept(bench: Bench) -> None:
    bench.ready()
    bench.wait(20, beating=("w",))
    assert bench.core.workers == 1


def test_our_own_pause_is_not_their_silence(bench: Bench) -> None:
    bench.ready()
    bench(Tick())
    bench.now += 30
    bench(Tick())
    assert bench.core.workers == 1
    bench.wait(2)
    assert bench.core.workers == 0


def test_a_quiet_worker_is_probed(bench: Bench) -> None:
    """Sending to it shows whether its process is still there; a Ready in answer costs it nothing."""
    bench.ready("w", room=2)
    sent = bench.frame(0)
    bench.ready("x", room=0)
    bench(Tick())
    bench.now += 0.3
    bench.beat("x")
    bench.now += 0.2
    actions = bench(Tick())
    assert [action.route for action in actions if isinstance(action, SendWho)] == [b"w"]
    bench.now += 1
    assert bench.ready("w", room=1) == []
    assert bench.beat("w", leases(sent), room=1) == []
    assert bench.counts["returned"] == 0
    assert len(bench.frame(1)) == 1


def test_disconnected_worker(bench: Bench) -> None:
    bench.ready(room=1)
    bench.frame(0)
    bench.ready("other")
    assert frames(works(bench(Gone(b"w")))) == [0]
    assert bench(Gone(b"w")) == []
    assert bench.counts["worker_disconnected"] == 1


def test_restarted_worker_loses_what_its_predecessor_held(bench: Bench) -> None:
    sent = bench.ready("w", route="old") + bench.frame(0)
    bench.started(leases(sent))
    (again,) = bench.ready("w", route="new")
    assert (again.route, again.work.frame.index, again.work.attempt) == (b"new", 0, 1)
    assert (bench.core.workers, bench.counts["worker_restarted"]) == (1, 1)
    assert bench(Gone(b"old")) == []


def test_reconnected_worker_keeps_its_leases(bench: Bench) -> None:
    """Another routing id, but it lists what only this process can know."""
    sent = bench.ready("w", route="old", room=3) + bench.frame(0)
    assert bench.beat("w", leases(sent), room=1, route="new") == []
    (action,) = bench.frame(1)
    assert action.route == b"new"
    assert bench.counts["returned"] == 0
    # One that lists nothing of ours could be anyone.
    (who,) = bench(Heard(b"third", Beat(worker="w", incarnation=INCARNATION, leases=[77], room=4)))
    assert isinstance(who, SendWho)


def test_work_lost_on_the_way_is_sent_again(bench: Bench) -> None:
    sent = bench.ready(room=2) + bench.frame(0) + bench.frame(1)
    bench.now += 0.9
    assert bench.beat(leases=leases(sent)[1:], room=1) == []  # perhaps it is still on its way
    bench.now += 0.2
    (again,) = bench.beat(leases=leases(sent)[1:], room=1)
    assert (again.work.frame.index, again.work.attempt) == (0, 0)
    assert bench.counts["lost_on_the_way"] == 1


def test_too_many_workers(make: Callable[..., Bench]) -> None:
    bench = make(workers=2)
    for name in "wxyz":
        bench.ready(name)
    assert (bench.core.workers, bench.counts["worker_refused"]) == (2, 2)


# -- failures --------------------------------------------------------------------------------------------------------


def test_failed_batch_is_tried_again_alone_then_given_up(bench: Bench) -> None:
    bench.frame(0)
    bench.frame(1)
    sent = bench.ready(room=2)
    for attempt in (1, 2):
        bench.started(leases(sent))
        sent = bench.done(leases(sent), "failed", room=2, reason="CUDA out of memory")
        assert frames(sent) == [0, 1]
        assert {action.work.attempt for action in sent} == {attempt}
    assert bench.done(leases(sent)[:1], "ok", room=1) == []
    bench.done(leases(sent)[1:], "failed", room=2, reason="no")
    (message,) = bench.told
    assert isinstance(message, GaveUp)
    assert (message.index, message.reason, message.detail) == (1, "model_error", "no")
    assert bench.core.idle


def test_poison_is_given_up_and_its_neighbours_are_done(bench: Bench) -> None:
    """Frame 2 kills every worker that infers it. Workers infer what had an attempt alone."""
    for index in range(8):
        bench.frame(index)
    done: list[int] = []
    attempts: dict[int, int] = {}
    for life in range(4):
        held = bench.ready("w", room=8, route=f"life{life}")
        while held:
            alone = [action for action in held if action.work.attempt > 0]
            batch = alone[:1] or held
            bench.started(leases(batch))
            if 2 in frames(batch):
                break  # the process is dead
            done += frames(batch)
            attempts |= {action.work.frame.index: action.work.attempt for action in batch}
            held = [action for action in held if action not in batch]
            held += bench.done(leases(batch), room=8 - len(held))
    (message,) = bench.told
    assert isinstance(message, GaveUp)
    assert (message.index, message.reason) == (2, "poison")
    assert sorted(done) == [0, 1, 3, 4, 5, 6, 7]
    assert max(attempts.values()) == 1
    assert bench.counts["worker_restarted"] == 3
    assert bench.core.idle


def test_refused_payload_is_given_up_at_once(bench: Bench) -> None:
    sent = bench.ready() + bench.frame(0)
    bench.done(leases(sent), "refused", room=4, reason="not a JPEG")
    (message,) = bench.told
    assert isinstance(message, GaveUp)
    assert (message.reason, message.detail) == ("bad_payload", "not a JPEG")


def test_no_sink_is_left_to_the_ends(bench: Bench) -> None:
    sent = bench.ready() + bench.frame(0)
    bench.done(leases(sent), "no_sink", room=4)
    assert bench.told == []
    assert (bench.counts["no_sink"], bench.core.idle) == (1, True)
    assert len(bench.frame(0)) == 1  # the producer may send it again


def test_overdue_by_its_own_measure(bench: Bench) -> None:
    bench.ready(room=1)
    for index in range(3):
        sent = bench.frame(index)
        bench.started(leases(sent))
        bench.done(leases(sent), room=1, seconds=0.5)
    sent = bench.frame(3)
    bench.started(leases(sent))
    bench.wait(3.9, beating=("w",))
    assert bench.core.leased == 1
    bench.wait(0.3, beating=("w",), hung=leases(sent))
    assert (bench.core.leased, bench.core.queued[0]) == (0, 1)
    assert bench.beat(leases=leases(sent), room=1) == []  # hung: nothing more for it
    (again,) = bench.ready("other", room=1)
    assert (again.work.frame.index, again.work.attempt) == (3, 1)


def test_a_fast_worker_gets_two_seconds_and_a_new_one_a_minute(bench: Bench) -> None:
    bench.ready(room=1)
    sent = bench.frame(0)
    bench.started(leases(sent))
    bench.wait(59, beating=("w",))  # it compiles its model
    assert bench.core.leased == 1
    bench.done(leases(sent), room=1, seconds=0.01)
    bench.started(leases(bench.frame(1)))
    bench.wait(1.9, beating=("w",))
    assert bench.core.leased == 1
    bench.wait(0.3, beating=("w",))
    assert bench.core.leased == 0


def test_a_large_batch_after_small_ones_gets_its_time(bench: Bench) -> None:
    bench.ready(room=20)
    sent = bench.frame(0)
    bench.started(leases(sent))
    bench.done(leases(sent), room=20, seconds=0.4)
    sent = [action for index in range(1, 17) for action in bench.frame(index)]
    bench.started(leases(sent))
    bench.wait(8 * 0.4 * 16 - 0.5, beating=("w",))
    assert bench.core.leased == 16
    bench.wait(1, beating=("w",))
    assert bench.core.leased == 0


def test_a_hung_worker_loses_what_it_has_not_started_too(bench: Bench) -> None:
    sent = [*bench.ready(room=4), *bench.frame(0)]
    bench.started(leases(sent))
    bench.done(leases(sent), room=4)
    sent = bench.frame(1) + bench.frame(2)
    bench.started(leases(sent)[:1])
    bench.wait(2.5, beating=("w",), hung=leases(sent))
    again = bench.ready("other", room=4)
    assert [(action.work.frame.index, action.work.attempt) for action in again] == [(1, 1), (2, 0)]
    # When it comes back to life, it is fed again.
    bench.done(leases(sent), room=4)
    assert bench.counts["late_done"] == 2
    assert {action.route for index in range(3, 9) for action in bench.frame(index)} == {b"w", b"other"}


def test_leases_that_are_never_started(bench: Bench) -> None:
    bench.ready(room=1)
    bench.frame(0)
    bench.wait(9.9, beating=("w",))
    assert bench.core.leased == 1
    bench.wait(0.5, beating=("w",))
    (again,) = bench.ready("other")
    assert (again.work.frame.index, again.work.attempt) == (0, 0)


# -- late and unknown words ------------------------------------------------------------------------------------------


def test_result_of_a_lease_that_was_taken_back(bench: Bench) -> None:
    """The frame waits again, but its result exists: it need not be inferred twice."""
    sent = bench.ready(room=1) + bench.frame(0)
    bench.wait(2)
    assert bench.core.queued[0] == 1
    bench.done(leases(sent), "failed")  # a late failure says nothing new
    assert bench.core.queued[0] == 1
    bench.done(leases(sent), "ok")
    assert bench.core.idle
    assert (bench.counts["done"], bench.counts["late_done"]) == (1, 2)


def test_result_of_a_lease_that_another_worker_has_now(bench: Bench) -> None:
    sent = bench.ready(room=1) + bench.frame(0)
    bench.wait(2)
    again = bench.ready("other", room=1)
    bench.done(leases(sent), "ok")
    assert (bench.core.leased, bench.counts["done"]) == (1, 0)
    bench.done(leases(again), "ok", name="other")
    assert (bench.counts["done"], bench.core.idle) == (1, True)


def test_nobody_can_end_anothers_lease(bench: Bench) -> None:
    sent = bench.ready("w", room=1) + bench.frame(0)
    bench.ready("other", room=0)
    bench.done(leases(sent), "ok", name="other")
    bench.started(leases(sent), name="other")
    bench.done([999], "ok", name="nobody")
    assert bench.core.leased == 1
    assert bench.counts["unknown_lease"] == 3
    bench.done(leases(sent) * 3, "ok")
    assert bench.counts["done"] == 1


# -- frames ----------------------------------------------------------------------------------------------------------


def test_duplicates_are_dropped_while_queued_and_while_leased(bench: Bench) -> None:
    bench.frame(0)
    bench.frame(0)
    assert len(bench.ready(room=2)) == 1
    assert bench.frame(0) == []
    assert bench.counts["duplicate"] == 2


def test_a_newer_epoch_ends_the_older_one(bench: Bench) -> None:
    sent = bench.ready(room=1) + bench.frame(0) + bench.frame(1)
    bench.frame(0, epoch=2)
    assert bench.counts["superseded"] == 2
    bench.frame(1, epoch=1)
    assert bench.counts["stale_epoch"] == 1
    # The old lease still takes room at the worker, and its end is the end of nothing.
    assert bench.core.leased == 1
    (new,) = bench.done(leases(sent), "failed", room=1)
    assert new.work.frame.epoch == 2
    assert bench.told == []
    assert bench.counts["returned"] == 0


def test_live_frames_expire_in_the_queue_but_not_at_a_worker(bench: Bench) -> None:
    bench.ready(room=1)
    for index in range(2):
        bench.frame(index, budget=0.3)
    bench.frame(0, stream="lossless")
    bench.wait(0.35, beating=("w",))
    (message,) = bench.told
    assert isinstance(message, Expired)
    assert (message.index, message.reason) == (1, "expired")
    assert bench.core.leased == 1
    bench(Gone(b"w"))  # frame 0 comes back too late
    assert [one.index for one in bench.told] == [1, 0]
    assert bench.core.queued[0] == 1


def test_an_expired_frame_is_never_sent(bench: Bench) -> None:
    bench.frame(0, budget=0.3)
    bench.now += 0.3
    assert bench.ready() == []
    assert bench.counts["expired"] == 1


def test_full_queues(make: Callable[..., Bench]) -> None:
    bench = make(queue_frames=2)
    for index in range(4):
        bench.frame(index, "live", budget=9)
        bench.frame(index, "lossless")
    assert [(one.stream, one.index, one.reason) for one in bench.told] == [
        ("live", 0, "queue_full"),
        ("live", 1, "queue_full"),
    ]
    assert (bench.counts["expired"], bench.counts["refused"]) == (2, 2)
    assert frames(bench.ready(room=9)) == [2], "while live frames are about, a worker of unknown speed gets one"
    assert bench.core.queued[0] == 3


def test_live_frame_larger_than_the_queue(make: Callable[..., Bench]) -> None:
    bench = make(queue_bytes=100)
    bench.frame(0, budget=9, size=101)
    (message,) = bench.told
    assert message.reason == "queue_full"
    assert (bench.counts["accepted"], bench.counts["refused_live"]) == (0, 1)


def test_streams_are_bounded_and_forgotten(make: Callable[..., Bench]) -> None:
    bench = make(streams=2)
    for stream in "abc":
        bench.frame(0, stream, budget=5)
    assert bench.counts["too_many_streams"] == 1
    bench.wait(66)
    bench.frame(1, "c")
    assert bench.core.queued[0] == 1


def test_one_greedy_stream_does_not_starve_another(bench: Bench) -> None:
    for index in range(500):
        bench.frame(index, "greedy")
    bench.ready(room=4)
    order = []
    for index in range(40):
        bench.frame(index, "modest")
        worker = bench.core._roster.workers["w"]
        order += bench.done(sorted(worker.leases)[:4], room=4)
    counts = Counter(action.work.frame.stream for action in order)
    assert counts["modest"] == 40


# -- news ------------------------------------------------------------------------------------------------------------


def test_news_names_what_is_held(bench: Bench) -> None:
    bench.ready(room=2, models="mn")
    for index in (0, 1, 2, 5, 6):
        bench.frame(index, epoch=3)
    bench.frame(9, "b")
    news = bench.core.news()
    assert (news.incarnation, news.number, news.workers) == (INCARNATION, 1, 1)
    assert news.held == {"a": (3, [(0, 2), (5, 6)]), "b": (1, [(9, 9)])}
    assert news.models == {"m": SPEC, "n": SPEC}
    bench.done([1, 2])
    assert bench.core.news().held["a"] == (3, [(2, 2), (5, 6)])
    bench(Gone(b"w"))
    assert bench.core.news().models == {}


def test_what_waits_for_nobody_is_known(bench: Bench) -> None:
    for index in range(3):
        bench.frame(index)
    bench.frame(0, stream="b", model="n")
    assert bench.core.unserved() == {"m": 3, "n": 1}
    (work, *_) = bench.ready(room=1)
    assert bench.core.unserved() == {"n": 1}, "a busy worker serves its model all the same"
    bench.beat(leases=[work.work.lease], draining=True)
    assert bench.core.unserved() == {"m": 2, "n": 1}
    bench(Gone(b"w"))
    assert bench.core.unserved() == {"m": 3, "n": 1}
    bench.ready(room=4, models="mn")
    assert bench.core.unserved() == {}


def test_a_worker_that_hangs_is_known_until_it_goes_on(make: Callable[..., Bench]) -> None:
    bench = make(overdue_first=1.0)
    bench.ready(room=1)
    (work,) = bench.frame(0)
    bench.started([work.work.lease])
    assert bench.core.stuck() == []
    bench.wait(1.5, beating=("w",), hung=[work.work.lease])
    assert bench.core.stuck() == ["w"]
    bench.done([work.work.lease], room=1)
    assert bench.core.stuck() == []


def test_news_names_no_more_models_than_a_message_may(bench: Bench) -> None:
    for number in range(4):
        models = {f"{number}-{n}": SPEC for n in range(MAX_TABLE // 2)}
        bench(Heard(f"r{number}".encode(), Ready(worker=f"w{number}", models=models, room=1)))
    news = bench.core.news()
    assert len(news.models) == MAX_TABLE
    assert Reader[News](News).decode([encode(news)])[0] == news


def test_news_fits_into_a_header(make: Callable[..., Bench]) -> None:
    limits = replace(Limits(), streams=40)
    core = Dispatcher(INCARNATION, limits)
    for stream in range(40):
        for index in range(0, 2048, 2):
            frame = Frame(
                stream=f"stream {stream}",
                epoch=1,
                index=2**32 + index,
                model="m",
                sink="s",
                source=(64, 48),
                size=(32, 24),
            )
            core.handle(Arrived(frame, b"x"), 1.0)
    assert core.queued[0] == 40 * 1024
    assert len(encode(core.news())) < MAX_HEADER
