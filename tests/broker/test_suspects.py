"""A frame that may have ended its workers has that of its last attempt for itself: no other is taken for the poison."""

from __future__ import annotations

import pytest

from broker.actions import SendWork
from broker.limits import Limits
from common.messages import GaveUp
from tests.broker.test_dispatch import Bench, frames, leases


@pytest.fixture
def bench() -> Bench:
    """One death is enough to make a suspect."""
    return Bench(Limits(max_attempts=2))


def batch_of(held: list[SendWork]) -> list[SendWork]:
    """What the worker infers next: a frame with an attempt behind it alone."""
    return [action for action in held if action.work.attempt > 0][:1] or held


def dies(bench: Bench, held: list[SendWork], life: int, room: int = 4) -> list[SendWork]:
    """The worker's process ends while a batch of ``held`` is in its model; its successor asks for work."""
    bench.started(leases(held))
    return bench.ready(room=room, route=f"life{life}")


@pytest.mark.parametrize("poison", range(4))
@pytest.mark.parametrize("attempts", [2, 3, 5])
def test_a_worker_whose_last_words_are_lost_condemns_only_the_poison(attempts: int, poison: int) -> None:
    """A worker goes from batch to batch, and what it says meanwhile leaves its process only when it comes to rest, but
    for the first Started. When it dies then, that first batch looks as if it had been the last one."""
    bench = Bench(Limits(max_attempts=attempts))
    for index in range(4):
        bench.frame(index)
    done: list[int] = []
    held = bench.ready("w", room=4)
    for life in range(20):
        unsaid: list[list[SendWork]] = []
        while held:
            unsaid.append(batch_of(held))
            if poison in frames(unsaid[-1]):
                held = dies(bench, unsaid[0], life)
                break
            done += frames(unsaid[-1])
            held = [action for action in held if action not in unsaid[-1]]
            while unsaid and not held:
                bench.started(leases(unsaid[0]))
                held = bench.done(leases(unsaid.pop(0)), room=4)
    (message,) = bench.told
    assert isinstance(message, GaveUp)
    assert (message.index, message.reason) == (poison, "poison")
    assert set(done) == set(range(4)) - {poison}
    assert bench.core.idle


def test_it_goes_alone_and_nothing_with_it(bench: Bench) -> None:
    held = [*bench.ready(room=4), *bench.frame(0), *bench.frame(1)]
    held = dies(bench, held, 1)
    assert frames(held) == [0]
    assert bench.frame(2) == []
    assert bench.beat(leases=leases(held), room=3, route="life1") == [], "there is room, but not beside this one"
    bench.started(leases(held))
    held = bench.done(leases(held), room=4)
    assert frames(held) == [1]
    held = bench.done(leases(held), room=4)
    assert frames(held) == [2], "this one was in no dead worker's model"
    assert frames(bench.frame(3)) == [3], "and may have company"


def test_what_has_more_attempts_left_is_sent_as_ever() -> None:
    """A connection that breaks is a death to the broker, too, and as a rule nobody's fault."""
    bench = Bench(Limits(max_attempts=3))
    held = [*bench.ready(room=4), *bench.frame(0), *bench.frame(1)]
    held = dies(bench, held, 1)
    assert frames(held) == [0, 1]
    assert frames(dies(bench, held, 2)) == [0]


def test_a_busy_worker_ends_what_it_has_first(bench: Bench) -> None:
    bad = bench.ready("w", room=1) or bench.frame(0)
    busy = bench.ready("busy", room=4) or bench.frame(1) + bench.frame(2)
    assert dies(bench, bad, 1, room=0) == []
    assert bench.frame(3) == [], "what came first is waited with"
    assert bench.done(leases(busy)[:1], name="busy", room=3) == []
    sent = bench.done(leases(busy)[1:], name="busy", room=4)
    assert frames(sent) == [0]
    assert frames(bench.done(leases(sent), name="busy", room=4)) == [3]


def test_each_worker_takes_one(bench: Bench) -> None:
    bad = bench.ready("w", room=4) or [one for index in range(4) for one in bench.frame(index)]
    dies(bench, bad, 1, room=0)
    sent = bench.ready("x", room=4) + bench.ready("y", room=4)
    assert [(action.route, *frames([action])) for action in sent] == [(b"x", 0), (b"y", 1)]


def test_workers_of_another_model_are_not_held_up(bench: Bench) -> None:
    bad = bench.ready("w", room=1) or bench.frame(0)
    bench.ready("other", room=4, models="n")
    dies(bench, bad, 1, room=0)
    assert frames(bench.frame(0, "b", model="n") + bench.frame(1, "b", model="n")) == [0, 1]


def test_an_error_of_the_model_needs_no_worker_for_itself(bench: Bench) -> None:
    """The worker lives and says so: nothing of what it says is in doubt."""
    held = bench.ready(room=4) or bench.frame(0) + bench.frame(1)
    bench.started(leases(held))
    assert frames(bench.done(leases(held), "failed", room=4)) == [0, 1]
