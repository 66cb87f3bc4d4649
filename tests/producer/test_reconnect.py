"""When a source is opened again: soon, ever more seldom, for ever once it was there."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from producer.reconnect import RETRY_MAX_S, Reconnect

CHANCE = Random(1)


def test_a_source_is_opened_at_once_and_is_up_with_its_first_picture() -> None:
    core = Reconnect(0.0, 5.0)
    assert core.due(5.0)
    core.connect(5.5)
    assert (core.state, core.since, core.opened) == ("opening", 5.0, 1)
    assert not core.due(6.0)
    core.gave(6.0)
    core.gave(7.0)
    assert (core.state, core.since, core.why) == ("up", 6.0, "")
    core.check()


def test_one_that_was_never_there_is_given_up_when_the_wait_is_over() -> None:
    core = Reconnect(2.0, 0.0)
    assert core.failed("refused", 1.0, CHANCE)
    assert core.why == "refused"
    assert not core.failed("refused", 2.5, CHANCE)
    assert not Reconnect(0.0, 0.0).failed("refused", 0.0, CHANCE)


def test_what_was_wrong_before_the_first_opening_is_forgotten() -> None:
    core = Reconnect(9.0, 0.0)
    core.failed("refused", 1.0, CHANCE)
    core.connect(2.0)
    assert (core.state, core.why) == ("opening", "")


def test_one_that_was_there_is_tried_for_ever() -> None:
    core = Reconnect(0.0, 0.0)
    core.connect(0.0)
    core.gave(0.0)
    core.lost("reset by peer", 10.0, CHANCE)
    assert (core.state, core.since, core.why) == ("away", 10.0, "reset by peer")
    now = 10.0
    for _ in range(100):
        while not core.due(now):
            now += 0.01
        assert core.failed("refused", now, CHANCE)
        assert core.since == 10.0
        core.check()
    now += 1.0
    core.connect(now)
    core.gave(now)
    assert (core.opened, core.state, core.why) == (2, "up", "")


def test_one_that_connects_and_is_mute_is_away_since_its_last_picture() -> None:
    """And why, as far as is known; pauses grow."""
    core = Reconnect(0.0, 0.0)
    core.connect(0.0)
    core.gave(0.0)
    core.lost("reset by peer", 10.0, CHANCE)
    for now in (11.0, 20.0, 30.0, 40.0):
        core.connect(now)
        assert (core.state, core.since, core.why) == ("away", 10.0, core.why)
        assert core.why
        core.lost("is mute", now + 5, CHANCE)
        core.check()
    assert (core.since, core.why) == (10.0, "is mute")
    assert not core.due(45.0 + RETRY_MAX_S / 3)


def test_one_that_drops_before_its_first_picture_was_there() -> None:
    core = Reconnect(0.0, 0.0)
    core.connect(1.0)
    core.lost("is mute", 6.0, CHANCE)
    assert (core.state, core.since) == ("away", 6.0)
    assert core.failed("refused", 7.0, CHANCE)
    core.check()


def test_one_that_opens_and_is_of_no_use_counts_as_not_opened() -> None:
    core = Reconnect(60.0, 0.0)
    core.connect(1.0)
    assert core.failed("no picture", 1.0, CHANCE)
    assert (core.state, core.opened) == ("opening", 0)
    core.connect(2.0)
    core.lost("gone", 3.0, CHANCE)
    core.connect(4.0)
    core.failed("no picture", 4.0, CHANCE)
    assert (core.state, core.opened) == ("away", 1)
    core.check()


@given(st.lists(st.sampled_from(["connect", "gave", "lost", "failed"]), max_size=40), st.integers(0, 2**32))
def test_no_pause_is_longer_than_a_second(events: list[str], seed: int) -> None:
    core, chance, now = Reconnect(1e6, 0.0), Random(seed), 0.0
    for event in events:
        if event == "connect" and not core.connected:
            core.connect(now)
        elif event == "gave" and core.connected:
            core.gave(now)
        elif event == "lost" and core.connected:
            core.lost("gone", now, chance)
        elif event == "failed" and core.state != "up":
            core.failed("refused", now, chance)
        core.check()
        if not core.connected:
            assert core.due(now + RETRY_MAX_S)
        now += 0.3
