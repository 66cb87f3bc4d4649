"""``headrace up`` when things die: parts, the agent, supervisord itself, all at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_node_scaling import FILE, FRAMES, check_whole, until_ended
from tests.node import TestNode, a_node
from tests.support import numbered_clip, wait_for


@pytest.fixture
def node(tmp_path: Path) -> Iterator[TestNode]:
    numbered_clip(tmp_path / "clip.mp4", FRAMES)
    with a_node(tmp_path) as node:
        node.write(FILE)
        yield node


def test_each_part_is_killed(node: TestNode) -> None:
    """Supervisor starts them again, they are counted, and nothing is lost."""
    node.do("up")
    node.until(lambda status: status["streams"][0]["frames"] > 25, "frames")
    for name, pid in sorted(node.pids().items(), key=lambda one: "producer" not in one[0]):  # it does not run for ever
        assert pid
        os.kill(pid, signal.SIGKILL)
        node.until(
            lambda status, name=name, pid=pid: any(
                part["name"] == name and part["pid"] not in (0, pid) and part["ready"] for part in status["parts"]
            ),
            f"{name} again",
        )
    parts = {part["name"]: part for part in node.status()["parts"]}
    assert {name for name, part in parts.items() if part["restarts"] == 1} >= {"broker", "sink", "worker-1"}
    until_ended(node)
    check_whole(node)


def test_supervisord_is_killed(node: TestNode) -> None:
    """Its parts follow it at once, so that nothing is left, and the next start goes on with the stream."""
    node.do("up")
    node.until(lambda status: status["streams"][0]["frames"] > 50, "frames")
    (supervisor,) = set(node.processes()) - set(node.pids().values())
    os.kill(supervisor, signal.SIGKILL)
    wait_for(lambda: not node.processes(), 30, "the end of all parts")
    assert "no fleet runs" in node.do("status", code=6).err
    node.do("up")
    until_ended(node)
    check_whole(node)


@pytest.mark.slow
def test_supervisord_is_told_to_end(node: TestNode) -> None:
    """As systemd and containers do it: all leave, and the next start goes on without a loss."""
    node.do("up")
    node.until(lambda status: status["streams"][0]["frames"] > 50, "frames")
    (supervisor,) = set(node.processes()) - set(node.pids().values())
    os.kill(supervisor, signal.SIGTERM)
    wait_for(lambda: not node.processes(), 60, "the end of all parts")
    node.do("up")
    until_ended(node)
    check_whole(node)
