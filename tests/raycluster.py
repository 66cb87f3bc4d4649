"""A Ray cluster of several nodes on this machine (Ray's own test cluster), in a process of its own.

Commands come as JSON lines on standard input, such as ``["add", {"num_gpus": 1}]`` or ``["rows", "fleet"]``. Each is
answered with one line; it ends with its input. Run it in a network namespace without a way out: Ray looks around.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deploy.cluster.joining import QUIET, joined
from deploy.cluster.placing import Placed
from deploy.faults.netns import Hosts

#: Others find out within about two seconds that a node is lost; no process is started before somebody needs it.
SETTINGS = {
    "enable_worker_prestart": False,
    "prestart_worker_first_driver": False,
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 300,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}
#: Ray's least; nothing of ours lies there.
STORE_BYTES = 80 * 2**20


class RayCluster:
    """The process, from outside."""

    def __init__(self, process: subprocess.Popen[str], private: Path, log: Path) -> None:
        self._process, self._private, self._log = process, private, log
        self.address = str(self._read())

    def add(self, **resources: float) -> int:
        """One more node → its number."""
        return int(self._ask("add", resources))

    def rows(self, fleet: str = "default") -> dict[str, dict[str, Any]]:
        """What ``headrace cluster status --json`` says of its workers, by slot, without starting a command for it."""
        return {row["slot"]: row for row in self._ask("rows", fleet)}

    def left(self) -> list[str]:
        """Private folders of workers."""
        return [one.name for one in self._private.iterdir()]

    def nodes(self) -> list[str]:
        """Ray's names of the nodes that were added."""
        return list(self._ask("nodes", None))

    def lose(self, number: int) -> None:
        """Kill the node's Ray: what it ran is gone with it."""
        self._ask("lose", number)

    def _ask(self, *words: object) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return json.loads(line)
        raise AssertionError(f"the Ray cluster ended with {self._process.wait()}: {self._log.read_text()[-2000:]}")


@contextmanager
def ray_cluster(hosts: Hosts, home: Path, **head: float) -> Iterator[RayCluster]:
    """A cluster on host 0. ``head``: the first node's resources; ``home``: where its logs are."""
    (home / "ray_bootstrap_config.yaml").write_text("{}")  # else it asks the cloud where it is
    folder = tempfile.mkdtemp(prefix="hr-ray-")  # short: sockets lie in it
    private = Path(folder) / "private"
    private.mkdir()
    (Path(folder) / "ray").mkdir()  # Ray's test cluster notes its address there, and does not make it
    places = {"HOME": str(home), "RAY_TMPDIR": folder, "XDG_RUNTIME_DIR": str(private)}
    with hosts.inside(0), (home / "ray.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.raycluster", hosts.address(0), folder, json.dumps(head)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            env=os.environ | QUIET | places, start_new_session=True,
        )  # fmt: skip
    try:
        yield RayCluster(process, private, home / "ray.log")
    finally:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    from ray.cluster_utils import Cluster

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Ray prints too, from threads of its own

    def say(found: object) -> None:
        print(json.dumps(found), file=answers, flush=True)

    address, folder, head = sys.argv[1:]
    common = {
        "node_ip_address": address, "object_store_memory": STORE_BYTES, "include_dashboard": False,
        "num_cpus": 0, "num_gpus": 0,
    }  # fmt: skip
    cluster = Cluster(
        initialize_head=True,
        head_node_args={**common, **json.loads(head), "temp_dir": folder, "_system_config": SETTINGS},
    )
    nodes: list[Any] = []
    with joined(cluster.address) as ray:
        say(cluster.address)
        for line in sys.stdin:
            verb, argument = json.loads(line)
            if verb == "add":
                nodes.append(cluster.add_node(**{**common, **argument}))
                say(len(nodes) - 1)
            elif verb == "lose":
                cluster.remove_node(nodes[argument], allow_graceful=False)
                say(None)
            elif verb == "nodes":
                say([node.node_id for node in nodes])
            else:
                say([asdict(row) for row in Placed(ray, argument).rows()])
    cluster.shutdown()


if __name__ == "__main__":
    main()
