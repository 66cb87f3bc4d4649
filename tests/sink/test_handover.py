"""Sound waits for the decision whether new parts begin with it."""

from __future__ import annotations

from common.messages import Packet
from sink.handover import Handover


def sound(number: int) -> tuple[Packet, bytes]:
    return Packet(stream="s", epoch=1, link=number, track=1, pts=number, time_base=(1, 1000)), b"x" * number


def test_the_sound_of_the_opening_that_is_reached_comes_out_in_order() -> None:
    held = Handover()
    assert not held.waiting
    held.change(1)
    for number in (3, 4):
        held.put(*sound(number))
    held.check()
    assert held.turn(1) == [sound(3), sound(4)]
    assert not held.waiting
    held.check()


def test_that_of_openings_without_a_picture_is_dropped_and_of_later_ones_stays() -> None:
    held = Handover()
    for key in (1, 2, 3):
        held.change(key)
        held.put(*sound(key))
    assert held.turn(2) == [sound(2)]
    assert held.waiting
    held.put(*sound(9))
    held.check()
    assert held.turn(3) == [sound(3), sound(9)]
    assert held.bytes == 0
