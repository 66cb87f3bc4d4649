"""Workers on a Ray cluster of several nodes: whatever becomes of them, a lossless run loses nothing."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from common import config
from deploy.faults.fleet import Fleet
from deploy.faults.netns import Hosts, available
from deploy.keys_folder import make_all
from tests.integration.linked import FRAMES, Run, options
from tests.raycluster import RayCluster, ray_cluster
from tests.support import Ran, headrace, numbered_clip, wait_for

pytest.importorskip("ray")
WHY_NOT = available()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
#: Nobody else is in the namespace: any port will do.
PORT = 7000
FILE = """
[broker]
workers = "{workers}"
[sink]
results = "{results}"
[security]
keys = "keys"
[workers]
model = "{model}"
batch = 4
"""
#: What a node of the cluster has, as far as Ray knows.
NODE = {"num_cpus": 2, "num_gpus": 1}


class Rig:
    """``headrace cluster`` as a user types it, on a machine in a network of its own."""

    def __init__(self, hosts: Hosts, cluster: RayCluster, folder: Path) -> None:
        self.hosts, self.cluster, self.folder = hosts, cluster, folder

    def run(self, *arguments: str | Path, code: int = 0) -> Ran:
        with self.hosts.inside(0):
            done = headrace(
                "cluster",
                *arguments,
                "--address",
                self.cluster.address,
                cwd=self.folder,
                env={"HOME": str(self.folder)},
            )
        assert done.code == code, done
        return done

    def until(self, slot: str, state: str, restarts: int | None = None) -> dict[str, dict[str, Any]]:
        """All rows, as soon as ``slot`` is in that ``state``."""

        def there() -> dict[str, dict[str, Any]] | None:
            row = (rows := self.cluster.rows())[slot]
            return rows if row["state"] == state and restarts in (None, row["restarts"]) else None

        found: dict[str, dict[str, Any]] = wait_for(there, 40, f"{slot} {state}")
        return found

    def file(self, model: str) -> str:
        """What workers read of a fleet on this host."""
        return FILE.format(workers=self.place(1), results=self.place(4), model=model)

    def place(self, number: int) -> str:
        return f"tcp://{self.hosts.address(0)}:{PORT + number}"


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Rig]:
    """One node, without a GPU."""
    with Hosts(1) as hosts, ray_cluster(hosts, tmp_path, num_cpus=2) as cluster:
        make_all(tmp_path / "keys")
        yield Rig(hosts, cluster, tmp_path)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """Two nodes, each with a GPU as far as Ray knows."""
    with Hosts(1) as hosts, ray_cluster(hosts, tmp_path, **NODE) as cluster:
        cluster.add(**NODE)
        make_all(tmp_path / "keys")
        yield Rig(hosts, cluster, tmp_path)


def fleet_on(rig: Rig, model: str) -> Fleet:
    """Broker, sink and producer on the rig's host, without workers, and the file for workers."""
    places = [rig.place(number) for number in range(5)]

    def tweak(fleet: config.Fleet) -> config.Fleet:
        return msgspec.structs.replace(
            fleet,
            broker=msgspec.structs.replace(fleet.broker, frames=places[0], workers=places[1], news=places[2]),
            sink=msgspec.structs.replace(fleet.sink, media=places[3], results=places[4]),
            workers=msgspec.structs.replace(fleet.workers, count=0),
            security=config.Security(keys=str(rig.folder / "keys")),
        )

    (rig.folder / "headrace.toml").write_text(rig.file(model))
    clip = numbered_clip(rig.folder / "clip.mp4", FRAMES)
    fleet = Fleet(options(clip, rig.folder, model), rig.folder / "parts.log", tweak)
    with rig.hosts.inside(0):
        for name in fleet.names:
            fleet.start(name)
    return fleet


@pytest.mark.timeout(240)
def test_a_run_goes_through_with_workers_on_a_cluster(alone: Rig) -> None:
    """Placed, killed, one more: no frame is lost, and nothing is left behind."""
    fleet = fleet_on(alone, "echo:100")
    try:
        run = Run(fleet, alone.folder)
        assert "fleet default: 1 worker: 1 running" in alone.run("up").out, "one a node, where there is no GPU"
        run.begin()
        pid = alone.cluster.rows()["worker-1"]["pid"]
        os.kill(pid, signal.SIGKILL)
        again = alone.until("worker-1", "running", restarts=1)["worker-1"]
        assert (again["error"], again["gpus"], again["device"]) == ("killed by SIGKILL", [], "cpu")
        assert not run.over, "there was work until here"
        assert "2 workers: 2 running" in alone.run("scale", "workers=2").out
        run.finish()
        run.check_whole()
        pids = {row["pid"] for row in alone.cluster.rows().values()}
        assert again["pid"] in pids
        assert "2 workers removed" in alone.run("down").out
        assert not any(psutil.pid_exists(pid) for pid in pids)
        assert not alone.cluster.rows()
        assert not alone.cluster.left()
    finally:
        fleet.close()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_run_goes_through_whatever_becomes_of_its_workers(rig: Rig) -> None:
    """Placed one a GPU, killed, its node lost, another node joined, scaled down and up: no frame is lost."""
    fleet = fleet_on(rig, "echo:150")
    try:
        run = Run(fleet, rig.folder)
        assert "fleet default: 2 workers: 2 running" in rig.run("up").out
        run.begin()
        begun = rig.cluster.rows()
        assert [row["gpus"] for row in begun.values()] == [["0"], ["0"]]
        assert len({row["node_id"] for row in begun.values()}) == 2
        assert all(row["restarts"] == 0 for row in begun.values())

        os.kill(begun["worker-1"]["pid"], signal.SIGKILL)
        again = rig.until("worker-1", "running", restarts=1)
        assert again["worker-1"]["error"] == "killed by SIGKILL"
        assert again["worker-2"]["pid"] == begun["worker-2"]["pid"], "the other one is left alone"

        nodes = rig.cluster.nodes()
        lost = next(slot for slot, row in again.items() if row["node_id"] == nodes[0])
        rig.cluster.lose(0)
        gone = rig.until(lost, "pending")
        assert "was lost" in gone[lost]["error"]
        wait_for(lambda: not psutil.pid_exists(again[lost]["pid"]), 20, "the end of what ran there")
        rig.cluster.add(**NODE)
        back = rig.until(lost, "running")
        assert back[lost]["node_id"] not in (*nodes, again[lost]["node_id"])
        assert not run.over, "there was work until here"

        assert "fleet default: 1 worker: 1 running" in rig.run("scale", "workers=1").out
        (left,) = rig.cluster.rows().values()
        assert left["pid"] == back[left["slot"]]["pid"]
        assert "2 workers: 2 running" in rig.run("scale", "workers=2").out
        run.finish()
        run.check_whole()
        pids = [row["pid"] for row in rig.cluster.rows().values()]
        assert "2 workers removed" in rig.run("down").out
        assert not any(psutil.pid_exists(pid) for pid in pids)
        assert not rig.cluster.rows()
        assert len(rig.cluster.left()) <= 1, "the lost node's: Ray kills outright what ran there"
    finally:
        fleet.close()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_what_a_status_tells(rig: Rig) -> None:
    """Crashing workers, fleets beside each other, a changed file: named, kept apart, replaced one by one."""
    (rig.folder / "headrace.toml").write_text(rig.file("no.such:Model"))
    assert "2 workers" in rig.run("up", "--wait", "1s", code=6).out
    crashed = wait_for(lambda: (rows := rig.cluster.rows())["worker-1"]["restarts"] >= 2 and rows, 60, "crashes")
    assert "no.such" in crashed["worker-1"]["error"]
    # Pauses get longer; it is not tried again and again.
    assert crashed["worker-1"]["state"] in ("waiting", "starting", "restarting", "pending")

    (rig.folder / "headrace.toml").write_text(rig.file("echo"))
    assert "2 workers: 2 running" in rig.run("up").out
    assert all(not row["restarts"] for row in rig.cluster.rows().values())

    (rig.folder / "other.toml").write_text(rig.file("echo") + "device = 'cpu'\n")
    rig.run("up", "-c", "other.toml", "--fleet", "other", "--workers", "2", "--cpus", "0.5")
    several = rig.run("status", code=2).err
    assert "several fleets are placed here: name one with --fleet, default or other" in several
    told = json.loads(rig.run("status", "--fleet", "other", "--json").out)
    assert told["fleet"] == "other"
    assert [row["gpus"] for row in told["workers"]] == [[], []]
    assert len(rig.cluster.rows("default")) == 2

    rig.run("down", "--fleet", "other")
    assert len(rig.cluster.rows("default")) == 2, "the other fleet is left alone"
    rig.run("down")
    assert "no fleet is placed" in rig.run("status", code=2).err
