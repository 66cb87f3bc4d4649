"""Metrics: names, labels, and a port that may be taken."""

from __future__ import annotations

import socket
import urllib.request

import pytest
from prometheus_client import generate_latest

from common.errors import LinkError
from common.metrics import MAX_STAGES, Metrics


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
