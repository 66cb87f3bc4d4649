"""Metrics: names, labels, bounds, a port that may be taken, and what is sent to a node's agent."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.request
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from common.errors import LinkError
from common.metrics import MAX_LABEL, MAX_ROWS, MAX_STAGES, TELL_S, Family, Histogram, Metrics
from common.process import usage
from common.snapshot import CHUNK, pack

FAMILIES = (
    Family("gauge", "depth", "How deep the water is.", ("stream",)),
    Family("counter", "drops", "Drops that fell.", ("stream", "kind")),
    Family("histogram", "fall_seconds", "From top to bottom.", ("stream",), (0.1, 1.0)),
)


def test_values() -> None:
    metrics = Metrics()
    metrics.gauge("frames", 3, stream="a", state="late")
    metrics.gauge("frames", 4, stream="a", state="late")
    metrics.gauge("workers", 2)
    metrics.count("refused", kind="header")
    metrics.count("refused", 2, kind="header")
    metrics.observe({"infer": 0.03, "wait": 0.001})
    read = metrics.registry.get_sample_value
    assert read("headrace_frames", {"stream": "a", "state": "late"}) == 4
    assert read("headrace_workers") == 2
    assert read("headrace_refused_total", {"kind": "header"}) == 3
    assert read("headrace_stage_seconds_sum", {"stage": "infer"}) == pytest.approx(0.03)
    assert read("headrace_stage_seconds_bucket", {"stage": "infer", "le": "0.05"}) == 1


def test_what_is_declared_has_its_help_and_its_labels_in_order() -> None:
    metrics = Metrics(FAMILIES)
    metrics.count("drops", kind="small", stream="a")
    metrics.table("drops").add(4, "a", "small")
    metrics.table("depth").set(True, "a")
    metrics.table("fall_seconds").of("a").observe(0.5)
    text = generate_latest(metrics.registry).decode()
    assert "# HELP headrace_drops_total Drops that fell.\n# TYPE headrace_drops_total counter\n" in text
    assert 'headrace_drops_total{kind="small",stream="a"} 5.0\n' in text
    assert 'headrace_depth{stream="a"} 1.0\n' in text
    assert 'headrace_fall_seconds_bucket{le="0.1",stream="a"} 0.0\n' in text
    assert 'headrace_fall_seconds_bucket{le="1.0",stream="a"} 1.0\n' in text
    assert 'headrace_fall_seconds_bucket{le="+Inf",stream="a"} 1.0\n' in text


def test_every_part_tells_its_build_and_its_process() -> None:
    metrics = Metrics()
    text = generate_latest(metrics.registry).decode()
    assert 'headrace_build_info{protocol="1.' in text
    assert "process_resident_memory_bytes " in text


def test_a_process_is_measured_as_the_library_does() -> None:
    """That it is not used for this saves every part its memory."""
    library = {}
    for metric in ProcessCollector(registry=CollectorRegistry()).collect():
        library |= {sample.name: sample.value for sample in metric.samples}
    ours = {f"{name}_total" if kind == "counter" else name: value for name, kind, _, value in usage()}
    assert ours.keys() == library.keys()
    for name, value in library.items():
        assert ours[name] == pytest.approx(value, rel=0.05, abs=1), name


def test_a_part_does_without_the_library_until_prometheus_asks_it() -> None:
    program = "import sys; from common.metrics import Metrics; Metrics().snapshot(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert "common.metrics" in done.stdout.split()
    assert "prometheus_client" not in done.stdout.split()


def test_processes_do_not_share_a_registry() -> None:
    first, second = Metrics(), Metrics()
    first.gauge("workers", 1)
    assert second.registry.get_sample_value("headrace_workers") is None


def test_no_port_by_default_and_loopback_only() -> None:
    Metrics().serve(None)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.listen()
        with pytest.raises(LinkError, match=f"metrics port {port} cannot be opened"):
            Metrics().serve(port)
    metrics = Metrics()
    metrics.gauge("workers", 5)
    metrics.serve(port)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        assert b"headrace_workers 5.0" in answer.read()


def test_stages_that_peers_make_up_are_bounded() -> None:
    metrics = Metrics()
    for number in range(1000):
        metrics.observe({f"stage {number}": 0.001})
    text = generate_latest(metrics.registry).decode()
    assert text.count("headrace_stage_seconds_count{") == MAX_STAGES + 1
    assert f'headrace_stage_seconds_count{{stage="other"}} {1000.0 - MAX_STAGES}' in text


def test_rows_and_labels_are_bounded() -> None:
    metrics = Metrics(FAMILIES)
    for number in range(MAX_ROWS + 10):
        metrics.gauge("depth", 1, stream=str(number))
        metrics.table("fall_seconds").of(str(number)).observe(1)
    assert len(metrics.table("depth").rows) == len(metrics.table("fall_seconds").histograms) == MAX_ROWS
    metrics.gauge("depth", 2, stream="0")
    assert metrics.table("depth").rows["0",] == 2, "those that are there still count"
    metrics.table("depth").put(((str(number),), 1) for number in range(MAX_ROWS + 10))
    assert len(metrics.table("depth").rows) == MAX_ROWS
    metrics.table("depth").put({("x" * 10_000,): 1})
    assert list(metrics.table("depth").rows) == [("x" * MAX_LABEL,)]


def test_a_stream_that_is_forgotten_leaves_nothing() -> None:
    metrics = Metrics(FAMILIES)
    for stream in ("a", "b"):
        metrics.table("drops").set(1, stream, "small")
        metrics.table("fall_seconds").of(stream).observe(1)
    for family in FAMILIES:
        metrics.table(family.name).forget("a")
    assert list(metrics.table("drops").rows) == [("b", "small")]
    assert list(metrics.table("fall_seconds").histograms) == [("b",)]


def test_a_trouble_that_is_over_is_told_as_zero() -> None:
    metrics = Metrics()
    metrics.trouble(["sending cam rtmp://x", "sending cam rtmp://y", "disk_full cam"])
    read = metrics.registry.get_sample_value
    assert read("headrace_troubles", {"kind": "sending"}) == 2
    metrics.trouble(["disk_full cam"])
    assert read("headrace_troubles", {"kind": "sending"}) == 0
    assert read("headrace_troubles", {"kind": "disk_full"}) == 1


@given(st.lists(st.floats(0, 20), max_size=50))
def test_every_value_is_in_one_bucket(values: list[float]) -> None:
    histogram = Histogram((0.1, 1.0, 10.0))
    for value in values:
        histogram.observe(value)
    within = [sum(value <= bound for value in values) for bound in (0.1, 1.0, 10.0)]
    assert [sum(histogram.counts[: place + 1]) for place in range(3)] == within
    assert sum(histogram.counts) == len(values)
    assert histogram.sum == pytest.approx(sum(values))


# -- for the agent ---------------------------------------------------------------------------------------------------


class Listener:
    """A status line; ``node``: an agent is there."""

    def __init__(self, node: bool = True) -> None:
        self.node = node
        self.said: list[dict[str, Any]] = []

    def say(self, event: str, **fields: Any) -> None:
        assert event == "metrics"
        self.said.append(json.loads(json.dumps(fields)))


def full(rows: int) -> Metrics:
    metrics = Metrics(FAMILIES)
    for number in range(rows):
        metrics.table("depth").set(number, f"stream {number}")
        metrics.table("fall_seconds").of(f"strëam {number}").observe(1)
    return metrics


def test_a_snapshot_is_sent_once_a_second_where_somebody_listens() -> None:
    metrics, nobody, agent = full(3), Listener(node=False), Listener()
    metrics.tell(nobody, 10.0)
    assert nobody.said == []
    for number in range(10):
        metrics.tell(agent, 10 + number * TELL_S / 4)
    assert [(one["round"], one["index"], one["of"]) for one in agent.said] == [(1, 0, 1), (2, 0, 1), (3, 0, 1)]
    names = {family["name"]: family for family in agent.said[0]["families"]}
    assert names["headrace_depth"]["rows"] == [[[f"stream {number}"], number] for number in range(3)]
    assert names["headrace_fall_seconds"]["bounds"] == [0.1, 1.0]
    assert names["headrace_fall_seconds"]["rows"][0] == [["strëam 0"], [0, 1, 0], 1.0]
    assert names["process_cpu_seconds"]["kind"] == "counter"
    assert "headrace_drops" not in names, "nothing was counted"


def test_a_large_snapshot_goes_in_chunks() -> None:
    metrics, agent = full(5000), Listener()
    metrics.tell(agent, 1.0)
    assert len(agent.said) > 3
    assert [one["index"] for one in agent.said] == list(range(len(agent.said)))
    assert {one["of"] for one in agent.said} == {len(agent.said)}
    for one in agent.said:
        assert len(json.dumps(one, ensure_ascii=False).encode()) < CHUNK + 200
    rows = [
        row
        for one in agent.said
        for family in one["families"]
        for row in family["rows"]
        if family["name"] == "headrace_depth"
    ]
    assert sorted(value for _, value in rows) == list(range(5000)), "each row once"


@given(st.lists(st.lists(st.text(max_size=40), max_size=30), max_size=6), st.integers(150, 2000))
def test_chunks_hold_every_row_that_fits(families: list[list[str]], most: int) -> None:
    given_: list[dict[str, Any]] = [
        {"name": f"f{number}", "kind": "gauge", "help": "", "labels": ["x"], "rows": [[[label], 1] for label in labels]}
        for number, labels in enumerate(families)
    ]  # fmt: skip
    chunks = pack(given_, most)
    for chunk in chunks:
        assert len(json.dumps(chunk, ensure_ascii=False).encode(errors="replace")) <= most + 2
    kept = [(one["name"], row[0][0]) for chunk in chunks for one in chunk for row in one["rows"]]
    wanted = [(one["name"], row[0][0]) for one in given_ for row in one["rows"]]
    if most > 500:  # more than any row with its family
        assert kept == wanted
    else:
        assert set(kept) <= set(wanted)
