"""The producer's metrics: its source's state, its rate, and what became of its frames."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

import pytest

from common.metrics import Histogram
from producer.feed import Feed
from producer.gauges import STATES, Gauges


class Part:
    """Numbers by name."""

    def __init__(self, **numbers: Any) -> None:
        self.__dict__.update(numbers)


def feed(**fates: int) -> Feed:
    made = Part(
        fates=Counter(fates),
        window=Part(unresolved=3, unanswered=2, limit=4, resent=5),
        link=Part(resent=6, unacknowledged=7),
        timeline=Part(repairs=Counter(rebased=1)),
        prepared=Histogram(),
    )
    return cast(Feed, made)


def source(state: str, since: float = 0.0, opened: int = 1) -> dict[str, Any]:
    return {"state": state, "why": "", "since": since, "opened": opened}


def states(gauges: Gauges) -> dict[str, float | None]:
    read = gauges.metrics.registry.get_sample_value
    return {state: read("headrace_source_state", {"stream": "cam", "state": state}) for state in STATES}


def test_a_source_is_in_one_state() -> None:
    gauges = Gauges("cam", 0.0)
    read = gauges.metrics.registry.get_sample_value
    gauges.look(source("opening", 0.1, opened=0), False, None, [], 0.1)
    assert states(gauges) == {"opening": 1, "running": 0, "away": 0, "ended": 0}
    assert read("headrace_source_reconnects_total", {"stream": "cam"}) == 0
    gauges.look(source("up"), False, feed(), [], 0.2)
    assert states(gauges) == {"opening": 0, "running": 1, "away": 0, "ended": 0}, "a change is seen at once"
    gauges.look(source("away", 2.5), False, feed(), [], 10.0)
    assert states(gauges)["away"] == 1
    assert read("headrace_source_state_seconds", {"stream": "cam"}) == 2.5
    gauges.look(source("up", opened=3), False, feed(), [], 20.0)
    assert read("headrace_source_reconnects_total", {"stream": "cam"}) == 2
    gauges.look(source("up", opened=3), True, feed(), [], 21.0)
    assert states(gauges) == {"opening": 0, "running": 0, "away": 0, "ended": 1}


def test_what_became_of_frames_is_counted() -> None:
    gauges = Gauges("cam", 0.0)
    gauges.declared = 25.0
    made = feed(sent=10, not_sampled=5, window_full=1, gap=2)
    made.prepared.observe(0.004)
    gauges.look(source("up"), False, made, [{"name": "link_full", "text": "", "since": 1.0}], 1.0)
    read = gauges.metrics.registry.get_sample_value
    for fate, count in made.fates.items():
        assert read("headrace_announced_frames_total", {"stream": "cam", "fate": fate}) == count
    for name, value in (
        ("unresolved_frames", 3), ("unanswered_frames", 2), ("in_flight_limit_frames", 4), ("resent_frames_total", 5),
        ("resent_messages_total", 6), ("unacknowledged_messages", 7), ("prepare_seconds_count", 1),
        ("source_declared_fps", 25),
    ):  # fmt: skip
        assert read(f"headrace_{name}", {"stream": "cam"}) == value, name
    assert read("headrace_timeline_repairs_total", {"stream": "cam", "kind": "rebased"}) == 1
    assert read("headrace_troubles", {"kind": "link_full"}) == 1


def test_the_rate_survives_a_feed_that_begins_anew() -> None:
    gauges, made, now = Gauges("cam", 0.0), feed(), 0.0
    for turn in range(100):
        now += 0.2
        made.fates["sent"] += 5
        if turn == 70:
            made = feed(sent=5)
        told = gauges.fps(made, now)
    assert told == pytest.approx(25, rel=0.1)
    assert gauges.fps(made, now + 60) == 0
