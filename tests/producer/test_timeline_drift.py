"""A camera's clock that is a little too fast or too slow: after hours an outage still lasts as long as it did."""

from __future__ import annotations

from fractions import Fraction

import pytest

from producer.timeline import Timeline
from tests.marks import always

BASE = Fraction(1, 90_000)
SECOND = 90_000
#: Pictures a second: few, so that hours are quickly over.
RATE = 2


def connection(
    line: Timeline, at: float, seconds: float, drift: float, stock: float = 0.0
) -> tuple[float, float, float]:
    """One connection that begins at ``at``: output time of its first picture, and arrival and output time of its last.
    The camera counts ``1 + drift`` seconds a second; the server has ``stock`` seconds of it in store, which come at
    once."""
    line.opened(BASE, Fraction(RATE), (), True, at)
    outs = []
    for number in range(int(seconds * RATE)):
        camera = number / RATE
        arrived = at + max(0.0, camera - stock) / (1 + drift)
        outs.append(float(line.picture(round(camera * SECOND), 0, arrived).pts * BASE))
        line.check()
    return outs[0], arrived, outs[-1]


def placeholders(line: Timeline, at: float, until: float) -> list[float]:
    """Output times of those that are shown, ten a second."""
    shown = (line.filler(at + number / 10) for number in range(round((until - at) * 10)))
    return [float(stamp.pts * BASE) for stamp in shown if stamp is not None]


@pytest.mark.parametrize("drift", always([0.0, 1e-4, -1e-4, 1e-3, -1e-3], 0.0, 1e-3, -1e-3))
@pytest.mark.parametrize("stock", [0.0, 2.0, 10.0])
def test_outages_are_as_long_as_they_were_after_hours_of_drift(drift: float, stock: float) -> None:
    line = Timeline(BASE, True)
    _, arrived, last = connection(line, 1000.0, 2 * 3600, drift, stock)
    for _ in range(3):
        shown = placeholders(line, arrived + 5, arrived + 29)
        # The server's stock comes once more after an outage, so that placeholders leave room for it.
        assert shown[0] - last == pytest.approx(max(0.1, 5 - stock), abs=0.3)
        assert shown[-1] - last == pytest.approx(29 - stock, abs=0.4)
        before = last
        first, arrived, last = connection(line, arrived + 30, 2 * 3600, drift, stock)
        assert first - before == pytest.approx(30 - stock, abs=0.3)


def test_what_is_no_drift_does_not_add_up() -> None:
    """Networks that die are slow before: what comes late at the end of each connection is not taken for the usual."""
    line = Timeline(BASE, True)
    at = began = 1000.0
    out = 0.0
    for _ in range(20):
        line.opened(BASE, Fraction(RATE), (), True, at)
        for number in range(400 * RATE):
            late = max(0.0, number / RATE - 200) / 50  # up to four seconds
            out = float(line.picture(number * SECOND // RATE, 0, at + number / RATE + late).pts * BASE)
        at += 430
    ran = at - 430 + 399.5 - began
    assert ran - out < 20 * 0.002 * 400
    assert out < ran + 0.1


def test_a_short_connection_says_nothing_of_drift() -> None:
    """What a server sends at once when it is connected looks like a clock that is too fast."""
    line = Timeline(BASE, True)
    at = began = 1000.0
    for _ in range(20):
        _, arrived, last = connection(line, at, 200, 0.0, stock=20.0)
        at = arrived + 30
    assert last == pytest.approx(arrived - began + 20, abs=0.6)
