"""A fleet on three hosts (network namespaces) with keys: one has broker, sink and producers, two have a worker each."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.faults.netns import Hosts, available
from tests.integration.test_node_scaling import check_whole, until_ended
from tests.node import TestNode, a_node
from tests.support import numbered_clip, wait_for

WHY_NOT = available()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
FRAMES = 900
#: Its frames are redone within so many seconds of the moment at which a host is cut off, on a quiet machine; a busy one
#: gets as much again.
REDONE_S = 2.0

HEAD = """
[broker]
frames = "tcp://{head}:7001"
workers = "tcp://{head}:7002"
news = "tcp://{head}:7003"

[sink]
media = "tcp://{head}:7004"
results = "tcp://{head}:7005"

[security]
keys = "keys"

[workers]
model = "echo:10"

[[streams]]
name = "street 1"
source = "clip.mp4"
outputs = ["out.mp4", "out.jsonl"]
realtime = true
encoding = {{preset = "ultrafast"}}
"""
#: All that another host needs to know: two addresses, two public keys, and where its own key is.
WORKER = """
[broker]
workers = "tcp://{head}:7002"

[sink]
results = "tcp://{head}:7005"

[security]
keys = "keys"
broker = "{broker}"
sink = "{sink}"

[workers]
model = "echo:10"
batch = 4
"""


@dataclass
class Fleet:
    hosts: Hosts
    head: TestNode
    workers: list[TestNode]

    def up(self) -> None:
        for number, node in enumerate(self.workers, 1):  # they wait for the broker, and the stream does not for them
            with self.hosts.inside(number):
                node.do("up", "--role", "workers")
        with self.hosts.inside(0):
            self.head.do("up", "--role", "broker,sink,producers")

    def frames(self) -> int:
        return int(self.head.status()["streams"][0]["frames"])

    def at_work(self) -> set[str]:
        """Hosts whose worker the broker counts on."""
        return {one["name"] for one in self.head.status()["workers"] if one["beat_age"] < 1.0}


def own(node: TestNode) -> dict[str, str]:
    """The node's public keys by role."""
    return {key["role"]: key["public"] for key in json.loads(node.do("keys", "show", "--json").out)["own"]}


@contextlib.contextmanager
def three_hosts(tmp_path: Path) -> Iterator[Fleet]:
    """One with broker, sink and producer, two with a worker each, none of them started."""
    with contextlib.ExitStack() as stack:
        hosts = stack.enter_context(Hosts(3))
        folders = [tmp_path / name for name in ("head", "one", "two")]
        for folder in folders:
            folder.mkdir()
        head, *workers = [stack.enter_context(a_node(folder)) for folder in folders]
        numbered_clip(head.home / "clip.mp4", FRAMES, rate=50)
        address = hosts.address(0)
        head.write(HEAD.format(head=address))
        head.do("keys", "new")
        keys = own(head)
        for node in workers:
            node.write(WORKER.format(head=address, broker=keys["broker"], sink=keys["sink"]))
            node.do("keys", "new", "--role", "worker", "--name", node.home.name, "-o", str(node.home / "keys"))
            head.do("keys", "allow", "worker", node.home.name, own(node)["worker"])
        yield Fleet(hosts, head, workers)


def cut_off(fleet: Fleet, seconds: float) -> tuple[float, float]:
    """Cut one host off, and join it again → the longest time for which the stream stood still meanwhile, and how long
    after its return the host is at work, in seconds."""
    fleet.head.until(lambda now: len(now["workers"]) == 2 and now["streams"][0]["frames"] > 25, "both workers at work")
    fleet.hosts.cut(2)
    cut, stall = time.monotonic(), 0.0
    last, seen = cut, fleet.frames()
    while time.monotonic() < cut + seconds:
        if (frames := fleet.frames()) > seen:
            last, seen = time.monotonic(), frames
        stall = max(stall, time.monotonic() - last)
    assert len(fleet.at_work()) == 1
    fleet.hosts.join(2)
    joined = time.monotonic()
    fleet.head.until(lambda now: len(fleet.at_work()) == 2, "the host's return")
    return stall, time.monotonic() - joined


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with three_hosts(tmp_path) as fleet:
        yield fleet


def test_a_host_is_cut_off_and_comes_back(fleet: Fleet) -> None:
    """Within seconds its frames are redone elsewhere, it rejoins by itself, and no frame is lost."""
    fleet.up()
    stall, _ = cut_off(fleet, 4.0)
    assert stall < 2 * REDONE_S, f"the stream stood still for {stall:.1f} s"
    until_ended(fleet.head)
    check_whole(fleet.head, FRAMES)


@pytest.mark.slow
def test_a_key_is_revoked_under_way(fleet: Fleet) -> None:
    """Both sides name it, the other host does the work, and where it is allowed again it comes back."""
    fleet.up()
    fleet.head.until(lambda now: len(now["workers"]) == 2, "both workers at work")
    two = fleet.workers[1]
    public = own(two)["worker"]
    fleet.head.do("keys", "revoke", "two")
    two.until(lambda now: any("refused our key" in line for line in now["troubles"]), "a word on the worker's host", 15)
    broker = fleet.head.folder.logs / "broker.log"
    wait_for(lambda: public in broker.read_text(), 15, "a word at the broker")
    assert len(fleet.at_work()) == 1
    fleet.head.do("keys", "allow", "worker", "two", public)
    fleet.head.until(lambda now: len(fleet.at_work()) == 2, "the host's return")
    until_ended(fleet.head)
    check_whole(fleet.head, FRAMES)
