"""Frames whose header was damaged on its way, or made up: they do not stand in the way of the real ones for good."""

from __future__ import annotations

from broker.actions import Arrived, Heard, SendWork, Tick
from broker.dispatch import Dispatcher
from broker.limits import Limits
from common import messages as m
from tests.builders import EPOCH, MODEL, frame


def send(core: Dispatcher, now: float, index: int, **fields: object) -> list[m.Frame]:
    """One frame → the frames that are handed to workers thereupon."""
    actions = core.handle(Arrived(frame(index, **fields), b"jpeg"), now)
    core.check()
    return [action.work.frame for action in actions if isinstance(action, SendWork)]


def serving(core: Dispatcher) -> None:
    core.handle(Heard(b"1", m.Ready(worker="w", models={MODEL: m.InputSpec(8, 8)}, room=5)), 0.0)


def test_a_damaged_model_gives_way_to_the_frame_itself() -> None:
    core = Dispatcher("a", Limits())
    serving(core)
    assert send(core, 0.0, 3, model="echp") == []
    assert send(core, 1.0, 3) == [frame(3)]
    assert core.counts["superseded"] == 1


def test_a_leased_frame_stays() -> None:
    core = Dispatcher("a", Limits())
    serving(core)
    assert send(core, 0.0, 3) == [frame(3)]
    assert send(core, 1.0, 3, model="echp") == []
    assert (core.counts["duplicate"], core.counts["superseded"]) == (1, 0)


def test_an_epoch_that_never_was_is_forgotten() -> None:
    """Though the real frames never cease to come."""
    limits = Limits(heartbeat_timeout=1e9, overdue_first=1e9, unstarted=1e9)
    core = Dispatcher("a", limits)
    serving(core)
    (strange,) = send(core, 0.0, 0, epoch=EPOCH + 2**40)
    assert strange.epoch == EPOCH + 2**40
    done = m.Done(worker="w", incarnation="a", leases=[1], outcome="ok", room=5)
    core.handle(Heard(b"1", done), 0.1)
    now = 0.1
    taken: list[m.Frame] = []
    while not taken and now < limits.forget_stream * 2:
        now += 1.0
        taken = send(core, now, int(now))
        core.handle(Tick(), now)
    assert taken
    assert now <= limits.forget_stream + 3
