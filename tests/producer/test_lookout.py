"""How long a source is blind: while its packets bring no picture, and not while none come."""

from __future__ import annotations

import pytest

from common import config
from producer.lookout import Lookout
from tests.producer.conftest import stream

TIMEOUT = 5.0


def lookout(timeout: float = TIMEOUT) -> Lookout:
    one = stream("rtsp://cam/1", mode="live", source_timeout=timeout)
    fleet = config.Fleet(
        broker=config.Broker(frames="tcp://127.0.0.1:1", workers="tcp://127.0.0.1:2", news="tcp://127.0.0.1:3"),
        sink=config.Sink(media="tcp://127.0.0.1:4", results="tcp://127.0.0.1:5"),
        workers=config.Workers(model="echo"),
        streams=[one],
    )
    made = Lookout(fleet, one, 100.0)
    made.seen(100.0)
    return made


def blind_after(made: Lookout, timeout: float, step: float, start: float = 100.0) -> float:
    """For how long packets come, ``step`` apart, until the source counts as blind; in seconds."""
    now = start
    while made.blind_s <= timeout:
        now += step
        made.packet(0, now)
        assert now < start + 1000
    return now - start


@pytest.mark.parametrize("step", [0.001, 0.04, 0.2, 1.0])
def test_packets_without_a_picture_are_blindness(step: float) -> None:
    assert blind_after(lookout(), TIMEOUT, step) == pytest.approx(TIMEOUT, abs=step + 0.001)


def test_one_of_few_packets_is_found_blind_as_well() -> None:
    """A picture in five seconds, none of which can be decoded."""
    assert TIMEOUT < blind_after(lookout(), TIMEOUT, 5.0) <= 6 * TIMEOUT


@pytest.mark.parametrize("timeout", [0.5, 1.0, TIMEOUT])
@pytest.mark.parametrize("stall", [0.9, 5.0, 20.0, 3600.0])
def test_a_source_that_stood_still_is_not_blind(timeout: float, stall: float) -> None:
    """Sound is what comes first, and for a while; then the picture is back."""
    made = lookout(timeout)
    now = 100.0
    for track in (1, 1, 0, 1):
        now += 0.04 * timeout
        made.packet(track, now)
    now += stall
    for _ in range(10):
        made.packet(1, now)
        assert made.blind_s < 0.6 * timeout
        now += 0.02 * timeout
    made.seen(now)
    assert made.blind_s == 0.0


def test_a_picture_ends_it() -> None:
    made = lookout()
    for second in range(1, 100):
        made.packet(0, 100.0 + second)
        if second % 4 == 0:
            made.seen(100.0 + second)
        assert made.blind_s < TIMEOUT
