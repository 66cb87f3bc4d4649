"""What waits to be sent: bounded, whole groups of pictures, and every picture in exactly one place."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sink.outputs.sent_queue import SentQueue, Unit

SIZE = 100


def picture(number: int, key: bool = False, size: int = SIZE) -> Unit:
    return Unit(0, Fraction(number, 25), key, bytes(size))


def sound(time: float, track: int = 1) -> Unit:
    return Unit(track, Fraction(time), True, bytes(10))


def queue(units: int = 1000, size: int = 10**6, seconds: float = 10) -> SentQueue:
    return SentQueue(units, size, seconds)


def drain(waiting: SentQueue) -> list[Unit]:
    taken = []
    while (unit := waiting.take()) is not None:
        taken.append(unit)
    waiting.check()
    return taken


def times(units: list[Unit]) -> list[Fraction]:
    return [unit.time * 25 for unit in units if unit.track == 0]


def test_nothing_goes_before_a_keyframe() -> None:
    waiting = queue()
    for unit in (picture(0), sound(0.0), picture(1), picture(2, key=True), sound(0.1), picture(3)):
        waiting.put(unit)
    assert [(unit.track, unit.time) for unit in drain(waiting)] == [
        (0, Fraction(2, 25)), (1, Fraction(0.1)), (0, Fraction(3, 25))
    ]  # fmt: skip
    assert (waiting.dropped, waiting.dropped_sounds, waiting.gaps, waiting.taken) == (2, 1, 1, 2)
    assert waiting.overflows == 0


@pytest.mark.parametrize("limits", [{"units": 25}, {"size": 25 * SIZE}, {"seconds": 24 / 25}])
def test_without_room_the_oldest_go_up_to_a_keyframe(limits: dict[str, float]) -> None:
    waiting = queue(**limits)  # type: ignore[arg-type]
    for number in range(29):
        waiting.put(picture(number, key=number % 10 == 0))
        waiting.check()
    assert times(drain(waiting)) == list(range(10, 29))
    assert (waiting.dropped, waiting.gaps, waiting.overflows) == (10, 1, 1)


def test_a_group_that_is_half_sent_goes_first() -> None:
    waiting = queue(units=20)
    for number in range(15):
        waiting.put(picture(number, key=number % 10 == 0))
    assert times([one for _ in range(4) if (one := waiting.take())]) == [0, 1, 2, 3]
    for number in range(15, 30):
        waiting.put(picture(number, key=number % 10 == 0))
    assert times(drain(waiting)) == list(range(10, 30)), "only what could not be shown is gone"
    assert waiting.dropped == 6


def test_without_a_keyframe_that_waits_all_goes_until_the_next() -> None:
    waiting = queue(units=10)
    for number in range(15):
        waiting.put(picture(number, key=number == 0))
    assert waiting.broken
    assert not waiting
    waiting.put(picture(15, key=True))
    assert not waiting.broken
    assert times(drain(waiting)) == [15]
    assert (waiting.dropped, waiting.gaps) == (15, 1)


def test_sound_of_what_stays_stays() -> None:
    """It comes ahead of its picture."""
    waiting = queue(units=8)
    waiting.put(picture(0, key=True))
    for time in (0.0, 0.1, 0.2, 0.3):
        waiting.put(sound(time))
    for number in (5, 6, 7, 8):
        waiting.put(picture(number, key=number == 5))
    assert [(unit.track, float(unit.time)) for unit in drain(waiting)][:3] == [(1, 0.2), (1, 0.3), (0, 0.2)]
    assert waiting.dropped_sounds == 2


def test_one_that_is_too_large_is_left_out() -> None:
    waiting = queue(size=1000)
    waiting.put(picture(0, key=True, size=1001))
    assert waiting.broken
    assert (waiting.dropped, len(waiting)) == (1, 0)


def test_a_new_connection_begins_with_a_keyframe() -> None:
    waiting = queue()
    for number in range(15):
        waiting.put(picture(number, key=number % 10 == 0))
    waiting.take()
    waiting.restart(keep=True)
    assert times(drain(waiting)) == list(range(10, 15))
    waiting.restart(keep=True)
    assert waiting.broken, "nothing waits"
    for number in range(20, 25):
        waiting.put(picture(number, key=number == 20))
    waiting.restart(keep=True)
    assert len(waiting) == 5, "all of it can be sent"
    waiting.restart(keep=False)
    assert waiting.broken
    assert not waiting
    assert waiting.gaps == 2
    waiting.check()


def test_what_is_refused_and_what_was_lost_is_counted() -> None:
    waiting = queue()
    for number in range(3):
        waiting.refuse(picture(number, key=number == 0))
    waiting.put(picture(3))
    assert (waiting.dropped, waiting.gaps) == (4, 1)
    waiting.put(picture(4, key=True))
    waiting.put(picture(5))
    drain(waiting)
    waiting.lost(2)
    assert (waiting.dropped, waiting.taken, waiting.gaps) == (6, 0, 2)
    waiting.check()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("picture"), st.booleans(), st.integers(0, 300)),
        st.tuples(st.just("refuse"), st.booleans(), st.integers(0, 300)),
        st.tuples(st.just("sound"), st.floats(-0.3, 0.3)),
        st.tuples(st.just("take")),
        st.tuples(st.just("restart"), st.booleans()),
        st.tuples(st.just("lost")),
    ),
    max_size=200,
)


@given(STEPS)
def test_whatever_happens(steps: list[tuple]) -> None:  # type: ignore[type-arg]
    waiting, number, last = SentQueue(12, 1500, 0.5), 0, Fraction(-1)
    for name, *values in steps:
        if name in ("picture", "refuse"):
            number += 1
            (waiting.put if name == "picture" else waiting.refuse)(picture(number, *values))
        elif name == "sound":
            waiting.put(sound(number / 25 + values[0]))
        elif name == "take" and (unit := waiting.take()) is not None and unit.track == 0:
            assert unit.key or unit.time == last + Fraction(1, 25), "a group of pictures has no hole"
            last = unit.time
        elif name == "restart":
            waiting.restart(*values)
        elif name == "lost":
            waiting.lost(min(1, waiting.taken))
        waiting.check()
