"""When a connection is dialled again, and what is said of a server that does not let us in. No sockets."""

from __future__ import annotations

from random import Random

import pytest

from common.dialling import AGAIN_MOST_S, AGAIN_S, BROKEN_OFF, BROKEN_OFF_KNOWN, DEAD_S, Dialling, Event, Step


def dialling(key: str | None = "worker gpu7 'KEY'") -> Dialling:
    return Dialling("tcp://there:1", "the broker", key, Random(1))


def test_connected_and_ended() -> None:
    one = dialling()
    assert (one.connected, one.was_connected, one.refusal) == (False, False, "")
    one.heard(Event.CONNECTED, 1.0)
    assert (one.connected, one.was_connected) == (True, True)
    one.heard(Event.ENDED, 2.0)
    one.heard(Event.RETRIED, 2.0)
    assert (one.connected, one.was_connected) == (False, True)
    assert one.step(100.0) is Step.NOTHING, "ZeroMQ dials by itself"


def test_what_zeromq_has_given_up_is_dialled_again() -> None:
    one = dialling()
    one.heard(Event.CONNECTED, 1.0)
    one.heard(Event.PROTOCOL, 2.0)
    one.heard(Event.ENDED, 2.0)
    assert one.step(2.0 + DEAD_S / 2) is Step.NOTHING
    assert one.step(2.0 + DEAD_S) is Step.REDIAL
    assert one.step(2.0 + DEAD_S) is Step.NOTHING
    assert one.refusal == ""


@pytest.mark.parametrize("event", [Event.REFUSED, Event.MECHANISM])
def test_refused_and_let_in_later(event: Event) -> None:
    one, now, pauses = dialling(), 10.0, []
    for _ in range(6):
        one.heard(event, now)
        assert "the broker at tcp://there:1" in one.refusal
        assert one.step(now) is Step.HANG_UP
        one.heard(Event.ENDED, now)  # of what was hung up
        since = now
        while (step := one.step(now)) is Step.NOTHING:
            now += 0.05
        assert step is Step.DIAL
        pauses.append(now - since)
    assert AGAIN_S / 2 <= pauses[0] <= AGAIN_S + 0.1
    assert all(pause <= AGAIN_MOST_S + 0.1 for pause in pauses)
    assert pauses[-1] > AGAIN_MOST_S / 2 - 0.1
    one.heard(Event.CONNECTED, now)
    assert (one.connected, one.refusal) == (True, "")
    one.heard(Event.REFUSED, now)
    assert one.step(now) is Step.HANG_UP
    assert one.step(now + AGAIN_S) is Step.DIAL, "the pauses are short again"


def test_what_is_said() -> None:
    one = dialling()
    one.heard(Event.REFUSED, 0.0)
    assert one.refusal == (
        "the broker at tcp://there:1 refused our key: it is not on its list; to let it in, there: "
        "headrace keys allow worker gpu7 'KEY'"
    )
    one = dialling()
    one.refused("it is no longer on the list", 0.0)
    assert one.refusal == "the broker at tcp://there:1 refused our key: it is no longer on the list"
    assert one.step(0.0) is Step.HANG_UP
    one = dialling()
    one.heard(Event.MECHANISM, 0.0)
    assert "runs without keys and we have one" in one.refusal
    one = dialling(None)
    one.heard(Event.MECHANISM, 0.0)
    assert "wants a key and we have none" in one.refusal


def test_one_that_breaks_off_each_handshake() -> None:
    one = dialling()
    for number in range(BROKEN_OFF):
        assert one.refusal == ""
        one.heard(Event.BROKEN_OFF, number * 0.05)
        one.heard(Event.ENDED, number * 0.05)
        one.heard(Event.RETRIED, number * 0.05)
    assert "breaks off each handshake" in one.refusal
    assert one.step(1.0) is Step.HANG_UP
    assert one.step(3.0) is Step.DIAL
    for _ in range(BROKEN_OFF_KNOWN):
        one.heard(Event.BROKEN_OFF, 3.0)
    assert one.step(3.0) is Step.HANG_UP


def test_one_that_is_restarted_is_not_blamed() -> None:
    one = dialling()
    for life in range(BROKEN_OFF * 2):
        one.heard(Event.BROKEN_OFF, float(life))
        one.heard(Event.RETRIED, float(life))
        one.heard(Event.CONNECTED, float(life))
        assert one.step(float(life)) is Step.NOTHING
    assert one.refusal == ""


def test_without_a_key_zeromq_is_left_to_it() -> None:
    one = dialling(None)
    for number in range(10 * BROKEN_OFF):
        one.heard(Event.BROKEN_OFF, number * 0.05)
        one.heard(Event.RETRIED, number * 0.05)
    assert one.refusal == ""
    assert one.step(1000.0) is Step.NOTHING
