"""An attempt that broke off or failed is made again at another worker, where there is one: it may be its fault."""

from __future__ import annotations

import pytest

from broker.actions import SendWork
from broker.limits import Limits
from common.messages import GaveUp
from tests.broker.test_dispatch import Bench, frames, leases


@pytest.fixture
def bench() -> Bench:
    return Bench(Limits())


def routes(sent: list[SendWork]) -> list[bytes]:
    return [action.route for action in sent]


def dies(bench: Bench, sent: list[SendWork], life: int) -> list[SendWork]:
    """The worker ``bad`` dies of what it was sent and is back at once, with nothing to do."""
    bench.started(leases(sent), "bad")
    return bench.ready("bad", room=1, route=f"bad{life}")


def test_a_worker_that_is_back_does_not_get_what_it_died_of(bench: Bench) -> None:
    sent = bench.ready("bad", room=1) or bench.frame(0)
    bench.ready("good", room=1)
    other = bench.frame(1)
    assert (frames(other), routes(other)) == ([1], [b"good"])
    assert dies(bench, sent, 1) == [], "the other one is busy, and will have room"
    sent = bench.frame(2)
    assert sent == [], "what came first is waited with"
    sent = bench.done(leases(other), name="good", room=1)
    assert sorted(zip(frames(sent), routes(sent), strict=True)) == [(0, b"good"), (2, b"bad1")]


def test_where_nobody_else_is_it_is_given_again(bench: Bench) -> None:
    sent = bench.ready("bad", room=1) or bench.frame(0)
    bench.ready("other", room=1, models="another")
    for life in range(2):
        sent = dies(bench, sent, life)
        assert frames(sent) == [0]
    assert dies(bench, sent, 3) == []
    (message,) = bench.told
    assert isinstance(message, GaveUp)


def test_one_that_takes_nothing_any_more_is_not_waited_for(bench: Bench) -> None:
    sent = bench.ready("bad", room=1) or bench.frame(0)
    bench.ready("good", room=1)
    held = leases(bench.frame(1))
    assert dies(bench, sent, 1) == []
    sent = bench.beat("good", held, draining=True)
    assert (frames(sent), routes(sent)) == ([0], [b"bad1"])


def test_one_that_hangs_is_not_waited_for(bench: Bench) -> None:
    sent = bench.ready("bad", room=1) or bench.frame(0)
    bench.ready("good", room=1)
    held = leases(bench.frame(1))
    bench.started(held, "good")
    assert dies(bench, sent, 1) == []
    sent = []
    while not sent:
        bench.beat("bad", room=1, route="bad1")
        sent = bench.wait(0.25, ("good",))
    assert (frames(sent), routes(sent)) == ([0], [b"bad1"])
    assert bench.counts["worker_hung"] == 1
