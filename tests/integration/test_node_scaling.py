"""``headrace up`` under way: workers come and go, parts are started again, and no frame is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node import TestNode, a_node
from tests.support import ledger, lines, numbered_clip, numbers, part_files

FRAMES = 450
FILE = """
[workers]
model = "echo:10"
count = 2
batch = 4

[[streams]]
name = "street 1"
source = "clip.mp4"
outputs = ["out.mp4", "out.jsonl"]
realtime = true
encoding = {preset = "ultrafast"}
"""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[TestNode]:
    numbered_clip(tmp_path / "clip.mp4", FRAMES)
    with a_node(tmp_path) as node:
        node.write(FILE)
        yield node


def check_whole(node: TestNode, frames: int = FRAMES) -> None:
    """Every frame is in the outputs once and in order, annotated."""
    found = ledger(node.home / "out.mp4")
    assert found["states"] == {"annotated": frames}, found
    shown = [number for path in part_files(found, node.home, "out.mp4") for number in numbers(path)]
    assert shown == list(range(frames))
    records = [line for path in part_files(found, node.home, "out.jsonl") for line in lines(path)]
    assert [line["index"] for line in records] == list(range(frames))


def until_ended(node: TestNode) -> None:
    node.until(lambda status: status["streams"][0]["state"] == "ended", "the stream's end", 120)


def test_workers_come_and_go(node: TestNode) -> None:
    """2 → 6 → 2: the others keep their processes."""
    node.do("up")
    before = node.pids()
    assert {"agent", "broker", "sink", "worker-1", "worker-2", "producer:street 1"} == set(before)
    node.do("scale", "workers=6")
    grown = node.pids()
    assert {name: pid for name, pid in grown.items() if name in before} == before
    assert {f"worker-{number}" for number in range(1, 7)} <= set(grown)
    node.until(lambda status: len(status["workers"]) == 6, "six workers at the broker")
    node.do("scale", "workers=-4")
    assert node.pids() == before
    until_ended(node)
    check_whole(node)
    assert node.status()["parts"][0]["restarts"] == 0
    node.do("down")
    assert node.processes() == []


def test_every_part_is_started_again(node: TestNode) -> None:
    """One after the other, as an upgrade does it."""
    node.do("up")
    before = node.pids()
    node.until(lambda status: status["streams"][0]["frames"] > 25, "frames")
    done = node.do("restart", "all")
    assert done.err.count("is started again") == len(before)
    after = node.status()
    pids = {part["name"]: part["pid"] for part in after["parts"]}
    assert set(pids) == set(before)
    assert not set(pids.values()) & set(before.values())
    assert all(part["restarts"] == 0 for part in after["parts"]), "they were stopped on purpose"
    assert after["ready"]
    until_ended(node)
    check_whole(node)


@pytest.mark.slow
def test_stopped_in_the_middle_and_started_again(node: TestNode) -> None:
    """What was under way goes on, and what has ended is not begun again."""
    node.do("up")
    node.until(lambda status: status["streams"][0]["frames"] > 50, "frames")
    node.do("scale", "workers=1")
    node.do("down")
    assert node.processes() == []
    node.do("up")
    assert "worker-2" not in node.pids(), "what was scaled by hand stays so"
    until_ended(node)
    check_whole(node)
    node.do("down")
    whole = (node.home / "out.ledger.json").read_bytes()
    node.do("up")
    assert node.stream("street 1")["state"] == "ended"
    assert "producer:street 1" not in node.pids()
    assert (node.home / "out.ledger.json").read_bytes() == whole
