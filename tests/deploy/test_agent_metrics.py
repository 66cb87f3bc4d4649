"""The node's metrics: what parts send is shown with their names, and what is no snapshot is not.

A fleet of real processes tells its numbers and writes its logs.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

import broker.gauges
import producer.gauges
import sink.gauges
import workers.gauges
from common.config import Broker, Fleet, Output, Sink, Stream, Workers
from common.metrics import COMMON, Family, Metrics
from common.nodelink import read_message
from deploy.agent.metrics import MAX_FAMILIES, MAX_PARTS, MAX_ROWS, STALE_S, Exposed
from tests.support import lines, make_clip, so_far, wait_for

Record = dict[str, Any]
GAUGE = {"name": "headrace_depth", "kind": "gauge", "help": "How deep.", "labels": ["stream"]}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def gauge(*rows: tuple[str, float], **fields: Any) -> Record:
    return {**GAUGE, "rows": [[[stream], value] for stream, value in rows], **fields}


def record(*families: Record, number: int = 1, index: int = 0, of: int = 1) -> Record:
    line = {"part": "sink", "event": "metrics", "round": number, "index": index, "of": of, "families": list(families)}
    return json.loads(json.dumps(line))


def read(exposed: Exposed, name: str, **labels: str) -> float | None:
    return exposed.registry.get_sample_value(name, labels)


def depth(exposed: Exposed, part: str, stream: str = "cam") -> float | None:
    return read(exposed, "headrace_depth", part=part, stream=stream)


def test_what_a_part_has_is_shown_with_its_name() -> None:
    metrics = Metrics([
        Family("gauge", "level", "The level of the water.", ("stream",)),
        Family("counter", "drops", "Drops that fell."),
        Family("histogram", "fall_seconds", "From top to bottom.", ("stream",), (0.1, 1)),
    ])  # fmt: skip
    metrics.gauge("level", 3, stream='a "quoted" one')
    metrics.table("drops").set(7)
    for seconds in (0.05, 0.1, 0.5, 3):
        metrics.table("fall_seconds").of("cam").observe(seconds)
    exposed = Exposed()
    exposed.hear("sink", record(*metrics.snapshot()))
    exposed.hear("worker-1", record(*metrics.snapshot()))
    for part in ("sink", "worker-1"):
        assert read(exposed, "headrace_level", part=part, stream='a "quoted" one') == 3
        assert read(exposed, "headrace_drops_total", part=part) == 7
        told = [
            read(exposed, "headrace_fall_seconds_bucket", part=part, stream="cam", le=le)
            for le in ("0.1", "1.0", "+Inf")
        ]
        assert told == [2, 3, 4]
        assert read(exposed, "headrace_fall_seconds_sum", part=part, stream="cam") == pytest.approx(3.65)
        assert read(exposed, "headrace_fall_seconds_count", part=part, stream="cam") == 4
        assert (read(exposed, "process_resident_memory_bytes", part=part) or 0) > 1e6
    text, kind = exposed.text()
    assert kind.startswith("text/plain; version=0.0.4")
    assert text.count(b"# TYPE headrace_level gauge\n") == 1, "a family is one, whatever the number of parts"
    assert b"# HELP headrace_level The level of the water.\n" in text
    assert read(exposed, "headrace_build_info", part="agent", **_build(text)) == 1, "the agent's own"


def _build(text: bytes) -> dict[str, str]:
    line = next(one for one in text.decode().splitlines() if one.startswith('headrace_build_info{part="agent"'))
    pairs = line.partition("{")[2].partition("}")[0].split(",")
    return {key: value.strip('"') for key, _, value in (pair.partition("=") for pair in pairs) if key != "part"}


def test_a_round_counts_when_all_of_it_is_here() -> None:
    exposed = Exposed()
    exposed.hear("sink", record(gauge(("cam", 1))))
    exposed.hear("sink", record(gauge(("cam", 2)), number=2, index=0, of=2))
    assert depth(exposed, "sink") == 1, "the second chunk is not here"
    exposed.hear("sink", record(gauge(("cam", 3)), number=3, index=1, of=2))
    exposed.hear("sink", record(gauge(("lake", 4)), number=2, index=1, of=2))
    assert depth(exposed, "sink") == 1, "chunks of other rounds do not make one"
    exposed.hear("sink", record(gauge(("lake", 6)), number=4, index=1, of=2))
    exposed.hear("sink", record(gauge(("cam", 5)), number=4, index=0, of=2))
    assert (depth(exposed, "sink"), depth(exposed, "sink", "lake")) == (5, 6)
    exposed.hear("sink", record(gauge(("lake", 7)), number=1))  # the part was restarted, and counts from one
    assert (depth(exposed, "sink"), depth(exposed, "sink", "lake")) == (None, 7)


def test_parts_that_left_or_fell_silent_are_no_longer_shown() -> None:
    clock = Clock()
    exposed = Exposed(clock)
    for part in ("sink", "broker"):
        exposed.hear(part, record(gauge(("cam", 1))))
        exposed.part(part, "RUNNING", 2, 60.0)
    exposed.forget("broker")
    assert (depth(exposed, "sink"), depth(exposed, "broker")) == (1, None)
    assert read(exposed, "headrace_part_up", part="broker") == 1, "supervisor still knows it"
    clock.now += STALE_S + 1
    exposed.part("sink", "FATAL", 5, 0.0)
    assert depth(exposed, "sink") is None
    assert read(exposed, "headrace_part_silent_seconds", part="sink") == STALE_S + 1
    assert read(exposed, "headrace_part_up", part="broker") is None
    assert read(exposed, "headrace_part_up", part="sink") == 0
    assert read(exposed, "headrace_part_state", part="sink", state="fatal") == 1
    assert read(exposed, "headrace_part_state", part="sink", state="running") == 0
    assert read(exposed, "headrace_part_restarts_total", part="sink") == 5
    exposed.part("sink", "never heard of", 5, 0.0)
    assert read(exposed, "headrace_part_state", part="sink", state="unknown") == 1


GARBAGE: list[Record] = [
    {},
    {"round": 1, "index": 0, "of": 1, "families": "all"},
    record(index=1, of=1),
    record(index=-1),
    record(of=10**6),
    record(number=1.5),  # type: ignore[arg-type]
    record(gauge(("cam", 1), name="no name")),
    record(gauge(("cam", 1), name="up")),
    record(gauge(("cam", 1), name="headrace_" + "x" * 300)),
    record(gauge(("cam", 1), kind="summary")),
    record(gauge(("cam", 1), labels=["part"])),
    record(gauge(("cam", 1), labels=["a", "b"])),
    record(gauge(("cam", 1), labels=["a b"])),
    record(gauge(("cam", 1), help="\ud800")),
    record(gauge(("cam\ud800", 1))),
    record(gauge(("cam", float("nan")))),
    record(gauge(("x" * 2000, 1))),
    record(gauge(("cam", 1), ("cam", 2))),
    record({**GAUGE, "rows": [[["cam"], "1"]]}),
    record({**GAUGE, "rows": [[["cam"]]]}),
    record({**GAUGE, "rows": [["cam", 1]]}),
    record({**GAUGE, "rows": {"cam": 1}}),
    record({**GAUGE, "kind": "histogram", "bounds": [1, 2], "rows": [[["cam"], [1, 2], 3.0]]}),
    record({**GAUGE, "kind": "histogram", "bounds": [2, 1], "rows": [[["cam"], [1, 2, 3], 3.0]]}),
    record({**GAUGE, "kind": "histogram", "bounds": [1, 2], "rows": [[["cam"], [1, -2, 3], 3.0]]}),
    record({**GAUGE, "kind": "histogram", "bounds": [1, 2], "rows": [[["cam"], [1, 2, 3], float("inf")]]}),
    record(*(gauge((str(number), 1), name=f"headrace_{number}") for number in range(MAX_FAMILIES + 1))),
    record(gauge(*((str(number), 1) for number in range(MAX_ROWS + 1)))),
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_counted_and_changes_nothing(garbage: Record) -> None:
    exposed = Exposed()
    exposed.hear("sink", record(gauge(("cam", 1))))
    exposed.hear("sink", garbage)
    assert depth(exposed, "sink") == 1
    assert read(exposed, "headrace_metrics_refused_total", part="sink") == 1
    exposed.text()
    exposed.hear("sink", record(gauge(("cam", 2)), number=2))
    assert depth(exposed, "sink") == 2


def test_parts_do_not_make_up_more_than_there_may_be() -> None:
    exposed = Exposed()
    for number in range(MAX_PARTS + 10):
        exposed.hear(f"part {number}", record(gauge(("cam", 1))))
        exposed.part(f"part {number}", "RUNNING", 0, 1.0)
    assert exposed.text()[0].count(b"\nheadrace_depth{") == MAX_PARTS
    several = Exposed()
    half = MAX_ROWS // 2 + 1
    for number in range(2):
        rows = gauge(*((f"{number} {row}", 1) for row in range(half)))
        several.hear("sink", record(rows, index=number, of=3))
    assert read(several, "headrace_metrics_refused_total", part="sink") == 1, "all chunks of a round together"


def test_of_two_versions_that_do_not_agree_both_are_read() -> None:
    """One family is a gauge here and a counter there, another has one label more: a rolling upgrade."""
    exposed = Exposed()
    exposed.hear("old", record(gauge(("cam", 1)), gauge(("cam", 1), name="headrace_more")))
    more = {"name": "headrace_more", "labels": ["stream", "kind"], "rows": [[["cam", "x"], 2]]}
    exposed.hear("new", record(gauge(("cam", 2), kind="counter"), {**GAUGE, **more}))
    assert depth(exposed, "old") == 1
    assert b"headrace_depth_total" not in exposed.text()[0]
    assert read(exposed, "headrace_more", part="old", stream="cam") == 1
    assert read(exposed, "headrace_more", part="new", stream="cam", kind="x") == 2


# -- a fleet ---------------------------------------------------------------------------------------------------------

#: Families that only faults have rows of.
SELDOM = {"refused", "stream_crashes", "stream_events", "disk_waits", "unserved_frames", "timeline_repairs", "troubles"}
#: Nobody has to be there.
SENT_TO = "udp://127.0.0.1:9"
PARTS = ("broker", "sink", "worker-1", "producer:cam")


class Agent:
    """What the parts dial: hears their metrics and progress."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.bind(str(path))
        self._socket.listen(16)
        self._names: dict[socket.socket, str] = {}
        self.exposed = Exposed()
        self.progress: dict[str, Record] = {}
        self.seen: set[str] = set()

    def listen(self, seconds: float) -> None:
        for ready in select.select([self._socket, *self._names], [], [], seconds)[0]:
            if ready is self._socket:
                self._names[ready.accept()[0]] = ""
                continue
            if not (data := ready.recv(200_000)):
                del self._names[ready]
                ready.close()
                continue
            said, _ = read_message(data)
            self._names[ready] = name = self._names[ready] or said["name"]
            if said["event"] == "metrics":
                assert len(data) < 100_000
                self.exposed.hear(name, said)
                self.seen |= {family["name"] for family in said["families"]}
            elif said["event"] == "progress":
                self.progress[name] = said

    def close(self) -> None:
        for one in (self._socket, *self._names):
            one.close()


@contextmanager
def node(folder: Path, clip: Path) -> Iterator[tuple[Agent, dict[str, subprocess.Popen[bytes]]]]:
    """Four parts as a node has them, their logs in files."""
    stream = Stream(
        name="cam", source=str(clip), model="echo",
        outputs=[Output(path=str(folder / "out.mp4"), kind="mp4"), Output(path=SENT_TO, kind="udp")],
        mode="live", latency=0.5, realtime=True,
    )  # fmt: skip
    at = f"ipc://{folder}"
    fleet = Fleet(
        broker=Broker(frames=f"{at}/f", workers=f"{at}/w", news=f"{at}/n"),
        sink=Sink(media=f"{at}/m", results=f"{at}/r"),
        workers=Workers(model="echo", batch=4),
        streams=[stream],
    )
    config = folder / "fleet.json"
    config.write_bytes(msgspec.json.encode(fleet))
    agent = Agent(folder / "node.sock")
    started: dict[str, subprocess.Popen[bytes]] = {}
    more = {"worker-1": ["--name", "worker-1"], "producer:cam": ["--stream", "cam"]}
    modules = dict(zip(PARTS, ("broker", "sink", "workers", "producer"), strict=True))
    try:
        for name in PARTS:
            known = {"HEADRACE_NODE": str(folder / "node.sock"), "HEADRACE_PART": name}
            command = [sys.executable, "-m", modules[name], "-c", str(config), *more.get(name, [])]
            with open(folder / f"{name}.log", "wb") as log:
                started[name] = subprocess.Popen(command, stderr=log, env=os.environ | known)
        yield agent, started
    finally:
        for process in started.values():
            process.kill()
            process.wait(10)
        agent.close()


def test_a_fleet_tells_its_numbers_and_writes_its_logs(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", "-c:v", "libx264", "-preset", "ultrafast", size="160x120", seconds=90)
    declared = {
        f"headrace_{family.name}"
        for families in (COMMON, sink.gauges.FAMILIES, producer.gauges.FAMILIES, broker.gauges.FAMILIES,
                         workers.gauges.FAMILIES)
        for family in families
        if family.name not in SELDOM
    }  # fmt: skip
    with node(tmp_path, clip) as (agent, started):

        def told() -> bool:
            agent.listen(0.1)
            pool = agent.progress.get("broker", {}).get("pool", [])
            shown = agent.progress.get("sink", {})
            lately = pool and pool[0]["fps"] > 5 and shown.get("annotated_fps", 0) > 5
            return bool(
                declared <= agent.seen and lately and all((value or 0) > 20 for value in _counts(agent.exposed))
            )

        try:
            wait_for(told, 60, "every family and some frames")
        except AssertionError as error:
            missing, counts = sorted(declared - agent.seen), _counts(agent.exposed)
            raise AssertionError(f"missing: {missing}; counted: {counts}; said: {agent.progress}") from error
        _check_numbers(agent)
        _check_progress(agent)
        started["worker-1"].send_signal(signal.SIGKILL)  # a word of it in the broker's log
        started["worker-1"].wait(10)
        wait_for(lambda: len(_about_worker(tmp_path)) == 2, 20, "its end")
        for name in ("producer:cam", "broker", "sink"):
            started[name].terminate()
            started[name].wait(30)
    _check_logs(tmp_path)


def _counts(exposed: Exposed) -> list[float | None]:
    """What has to have happened some times before anything is looked at."""
    sent = {"part": "sink", "stream": "cam", "output": SENT_TO, "kind": "udp"}
    return [
        read(exposed, "headrace_frames", part="sink", stream="cam", state="annotated"),
        read(exposed, "headrace_output_frames_total", **sent),
        read(exposed, "headrace_worker_done_frames_total", part="broker", worker="worker-1"),
        read(exposed, "headrace_worker_frames_total", part="worker-1", worker="worker-1", outcome="ok"),
        read(exposed, "headrace_prepare_seconds_count", part="producer:cam", stream="cam"),
        read(exposed, "headrace_stage_seconds_count", part="sink", stage="render"),
        read(exposed, "headrace_log_lines_total", part="sink", level="info") and 100.0,
    ]


def _check_numbers(agent: Agent) -> None:
    exposed = agent.exposed
    annotated = read(exposed, "headrace_frames", part="sink", stream="cam", state="annotated") or 0
    settled = {"part": "sink", "stream": "cam", "state": "annotated", "reason": ""}
    assert abs((read(exposed, "headrace_frames_settled_total", **settled) or 0) - annotated) <= 1
    assert read(exposed, "headrace_source_state", part="producer:cam", stream="cam", state="running") == 1
    assert read(exposed, "headrace_source_state", part="producer:cam", stream="cam", state="away") == 0
    assert 5 < (read(exposed, "headrace_source_fps", part="producer:cam", stream="cam") or 0) < 40
    assert read(exposed, "headrace_source_declared_fps", part="producer:cam", stream="cam") == 25
    assert read(exposed, "headrace_workers", part="broker") == 1
    done = read(exposed, "headrace_worker_done_frames_total", part="broker", worker="worker-1") or 0
    mine = read(exposed, "headrace_worker_frames_total", part="worker-1", worker="worker-1", outcome="ok") or 0
    assert abs(mine - done) < 80, "they are looked at at different times"
    batches = read(exposed, "headrace_batch_frames_count", part="worker-1", worker="worker-1") or 0
    assert 0 < batches <= mine
    assert read(exposed, "headrace_batch_limit_frames", part="worker-1", worker="worker-1") == 4
    for stage in ("producer", "queue", "decode", "wait", "infer", "reorder", "encode", "render", "total"):
        assert (read(exposed, "headrace_stage_seconds_count", part="sink", stage=stage) or 0) > 20, stage
    within = read(exposed, "headrace_latency_seconds_bucket", part="sink", stream="cam", le="10.0") or 0
    assert within > 20
    assert (read(exposed, "headrace_prepare_seconds_count", part="producer:cam", stream="cam") or 0) > 20
    sent = {"part": "sink", "stream": "cam", "output": SENT_TO, "kind": "udp"}
    assert read(exposed, "headrace_output_connected", **sent) == 1
    assert read(exposed, "headrace_output_connections_total", **sent) == 1
    assert (read(exposed, "headrace_output_bytes_total", **sent) or 0) > 1000
    assert read(exposed, "headrace_log_lost_lines_total", part="sink") == 0


def _check_progress(agent: Agent) -> None:
    (worker,) = agent.progress["broker"]["pool"]
    assert (worker["name"], worker["models"], worker["state"]) == ("worker-1", ["echo"], "working")
    assert worker["device"]
    assert 0 <= worker["beat_age"] < 3
    assert 1 <= worker["batch"] <= 4
    assert worker["fps"] > 0
    assert worker["done"] > 20
    assert worker["leased"] + worker["room"] <= 8
    sink_says = agent.progress["sink"]
    assert 0 < sink_says["latency"]["median"] <= sink_says["latency"]["p95"] < 5
    assert {"producer", "queue", "batch", "inference", "reorder", "encode", "total"} <= sink_says[
        "stage_medians"
    ].keys()
    assert sink_says["annotated_fps"] > 0
    assert 5 < sink_says["output_fps"] < 40
    assert 5 < agent.progress["producer:cam"]["fps"] < 40


def _about_worker(folder: Path) -> list[Record]:
    """What the broker says of its beginning and its end."""
    said = so_far(folder / "broker.log")
    return [line for line in said if "worker ready" in line["message"] or "with" in line["message"]]


def _check_logs(folder: Path) -> None:
    logs = {name: lines(folder / f"{name}.log") for name in PARTS}
    for name, said in logs.items():
        for line in said:
            assert line["name"] == name
            assert line["part"] == {"worker-1": "worker", "producer:cam": "producer"}.get(name, name)
            assert abs(line["time"] - time.time()) < 600
            assert line["node"] == socket.gethostname()
            assert line["pid"] > 1
            assert line["level"] in ("info", "warning", "error", "critical")
    assert all(line["stream"] == "cam" for line in logs["producer:cam"])
    assert all(line["worker"] == "worker-1" for line in logs["worker-1"] if "worker" in line)
    about_worker = _about_worker(folder)
    assert len(about_worker) == 2
    assert all(line["worker"] == "worker-1" for line in about_worker)
    encoding = [line for line in logs["sink"] if line["message"].startswith("encoding ")]
    assert encoding
    assert all(line["stream"] == "cam" for line in encoding)
