"""A running node that is changed: streams come, go, rest and go on, and a changed file touches only what it changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.node import TestNode, a_node
from tests.support import headrace, ledger, numbered_clip, wait_for

FILE = """
[workers]
model = "echo"
count = 2

[[streams]]
name = "one"
source = "clip.mp4"
outputs = ["one.ts", "one.jsonl"]
mode = "live"
loop = true
encoding = {preset = "ultrafast"}
"""
TWO = """
[[streams]]
name = "two"
source = "clip.mp4"
outputs = ["two.jsonl"]
loop = true
"""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[TestNode]:
    numbered_clip(tmp_path / "clip.mp4", 100)
    with a_node(tmp_path) as node:
        node.write(FILE)
        node.do("up")
        yield node


def state_of(name: str, status: dict[str, Any]) -> str:
    return next((str(one["state"]) for one in status["streams"] if one["name"] == name), "")


def test_streams_come_rest_and_go(node: TestNode) -> None:
    before = node.pids()
    fleet = ["--fleet", str(node.file)]

    def streams(*words: str, code: int = 0) -> str:
        done = headrace("streams", *words, *fleet, cwd=node.home)
        assert done.code == code, done.err
        return done.out + done.err

    assert "added two" in streams("add", "clip.mp4", "-o", "two.jsonl", "--name", "two", "--loop")
    node.until(lambda now: state_of("two", now) == "running", "the second stream")
    assert "two" in streams("list")
    assert {name: pid for name, pid in node.pids().items() if name in before} == before
    assert "already" in streams("add", "clip.mp4", "-o", "x.jsonl", "--name", "two", code=2)

    assert "paused one" in streams("pause", "one")
    assert state_of("one", node.status()) == "paused"
    told = (node.home / "one.jsonl").stat().st_size
    assert "one goes on" in streams("resume", "one")
    node.until(lambda now: state_of("one", now) == "running", "the first stream again")
    wait_for(lambda: sum(path.stat().st_size for path in node.home.glob("one*.jsonl")) > told, 30, "more lines")

    assert "removed two" in streams("remove", "two")
    assert sum(ledger(node.home / "two.jsonl")["states"].values()) > 0
    assert "producer:two" not in node.pids()
    assert "two" not in node.status()["sink_knows"]
    assert "no stream 'two'" in streams("remove", "two", code=2)
    node.do("down")
    node.do("up")
    assert [one["name"] for one in node.status()["streams"]] == ["one"], "what was removed stays so"


def test_a_changed_file_touches_only_what_it_changes(node: TestNode) -> None:
    before = node.pids()
    assert "nothing has changed" in node.do("reload").err
    node.write(FILE + TWO)
    node.do("reload")
    node.until(lambda now: state_of("two", now) == "running", "the second stream")
    after = node.pids()
    assert {name: pid for name, pid in after.items() if name in before} == before

    node.write(FILE.replace("count = 2", "count = 3\nwait = 0.02") + TWO.replace("loop", "fps = 5\nloop"))
    node.do("reload")
    changed = {name for name, pid in node.pids().items() if after.get(name) != pid}
    assert changed == {"worker-1", "worker-2", "worker-3", "producer:two"}
    node.until(lambda now: state_of("two", now) == "running", "the second stream")

    node.write(FILE + TWO + "sauce = 1")
    assert "sauce" in node.do("reload", code=2).err
    assert node.status()["ready"], "a broken file changes nothing"


@pytest.mark.slow
def test_finish_brings_streams_to_their_end(node: TestNode) -> None:
    node.until(lambda now: now["streams"][0]["frames"] > 10, "frames")
    run = node.status()["run"]
    node.do("down", "--finish")
    found = ledger(node.home / "one.ts")
    assert found["frames"] == sum(found["states"].values()) > 10
    assert "pending" not in found["states"]
    node.do("up")
    assert node.status()["run"] != run, "another run begins"
