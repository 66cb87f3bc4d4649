"""What a stream has come to, and how it goes lately."""

from __future__ import annotations

import pytest

from common.metrics import Histogram
from sink.gauges import Gauges
from sink.ledger import State
from sink.tally import STANDS_S, Tally


def test_a_summary_is_of_the_last_seconds() -> None:
    tally = Tally()
    assert tally.summary(0.0) == {"latency": None, "stage_medians": {}, "annotated_fps": 0.0, "output_fps": 0.0}
    now = 10.0
    for number in range(500):  # 50 a second; each fifth is late, and one in fifty is lost
        now += 0.02
        state = State.LOST if number % 50 == 0 else State.LATE if number % 5 == 0 else State.ANNOTATED
        tally.settle(state, "" if state is State.ANNOTATED else "x", now)
        tally.resolved(0.5 if number % 10 == 0 else 0.2, now)
        tally.spent("queue", 0.03, now)
    told = tally.summary(now)
    assert told["latency"] == {"median": 0.2, "p95": 0.5}
    assert told["stage_medians"] == {"queue": 0.03}
    assert told["annotated_fps"] == pytest.approx(40, rel=0.15)
    assert told["output_fps"] == pytest.approx(49, rel=0.15)
    later = tally.summary(now + 60)
    assert (later["latency"], later["annotated_fps"], later["stage_medians"]) == (None, 0.0, {})


def test_a_summary_stands_for_a_moment() -> None:
    tally = Tally()
    first = tally.summary(1.0)
    tally.resolved(0.1, 1.1)
    assert tally.summary(1.0 + STANDS_S / 2) is first
    assert tally.summary(1.0 + STANDS_S)["latency"] == {"median": 0.1, "p95": 0.1}


def test_a_frame_without_a_picture_is_not_shown() -> None:
    tally = Tally()
    tally.settle(State.FAILED, "no_picture", 1.0)
    tally.settle(State.FAILED, "model_error", 1.0)
    assert tally.summary(1.0)["output_fps"] == pytest.approx(2.0)
    assert tally.settled == {("failed", "no_picture"): 1, ("failed", "model_error"): 1}


def test_counts_reach_the_metrics_and_leave_with_the_stream() -> None:
    gauges = Gauges()
    for name in ("a", "b"):
        tally = gauges.tally(name)
        assert gauges.tally(name) is tally, "one for all epochs"
        tally.settle(State.ANNOTATED, "", 1.0)
        tally.settle(State.LATE, "deadline", 1.0)
        tally.resolved(0.3, 1.0)
        tally.spent("queue", 0.1, 1.0)
        gauges.frames(name, {"annotated": 9})
    gauges.look({}, ["b"], [], 2.0)
    read = gauges.metrics.registry.get_sample_value
    assert read("headrace_frames_settled_total", {"stream": "a", "state": "late", "reason": "deadline"}) == 1
    assert read("headrace_frames", {"stream": "a", "state": "annotated"}) == 9
    assert read("headrace_frames", {"stream": "a", "state": "lost"}) == 0
    assert read("headrace_latency_seconds_bucket", {"stream": "a", "le": "0.3"}) == 1
    assert read("headrace_latency_seconds_bucket", {"stream": "a", "le": "0.2"}) == 0
    assert read("headrace_stage_seconds_count", {"stage": "queue"}) == 2
    assert read("headrace_disk_full", {"stream": "b"}) == 1
    gauges.forget("b")
    gauges.look({}, [], [], 4.0)
    shown = [sample for metric in gauges.metrics.collect() for sample in metric.samples]
    assert any(sample.labels.get("stream") == "a" for sample in shown)
    assert not any(sample.labels.get("stream") == "b" for sample in shown)


def test_a_tally_alone_needs_nobody() -> None:
    histogram = Histogram((0.1, 1.0))
    tally = Tally(histogram)
    for seconds in (0.1, 0.2, 5.0):
        tally.resolved(seconds, 1.0)
    assert histogram.counts == [1, 1, 1]
    assert histogram.sum == pytest.approx(5.3)
