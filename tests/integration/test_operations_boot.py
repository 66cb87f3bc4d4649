"""Nodes as systemd runs them: what the unit starts stays in the foreground, and ends as the unit ends it."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node import TestNode, a_node
from tests.support import ledger, numbered_clip, numbers, part_files, wait_for
from tests.unitfile import UNITS, read_unit

UNIT = read_unit(UNITS[0])
FRAMES = 250
FILE = """
[workers]
model = "echo"

[[streams]]
name = "street"
source = "clip.mp4"
outputs = ["street.mkv"]
realtime = true
encoding = {preset = "ultrafast"}
"""
#: A command of the unit on a busy machine, in seconds.
COMMAND_S = 120.0


class Booted:
    """The unit's commands, with the file of ``node``."""

    def __init__(self, node: TestNode) -> None:
        self._node = node

    def words(self, key: str) -> list[str]:
        line = UNIT[key][0].lstrip("-")
        line = line.replace("/opt/headrace/bin/headrace", f"{sys.executable} -m deploy.cli")
        return shlex.split(line.replace("/etc/headrace/headrace.toml", str(self._node.file)))

    def start(self) -> subprocess.Popen[bytes]:
        """``ExecStart=``: becomes the service's main process."""
        process = subprocess.Popen(
            self.words("ExecStart"),
            cwd=self._node.home,  # WorkingDirectory=
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            umask=int(UNIT["UMask"][0], 8),
        )
        self._node.until(lambda status: status["ready"], "a node that works", COMMAND_S)
        self._node.until(lambda status: status["streams"][0]["frames"] > 12, "frames", COMMAND_S)
        assert process.poll() is None, "it stays in the foreground"
        (supervisor,) = set(self._node.processes()) - set(self._node.pids().values())
        assert supervisor == process.pid, "the main process is supervisord, by the same pid"
        return process

    def do(self, key: str) -> None:
        done = subprocess.run(self.words(key), cwd=self._node.home, capture_output=True, text=True, timeout=COMMAND_S)
        assert done.returncode == 0, done.stderr


@pytest.fixture
def node(tmp_path: Path) -> Iterator[TestNode]:
    numbered_clip(tmp_path / "clip.mp4", FRAMES)
    with a_node(tmp_path) as node:
        node.write(FILE)
        yield node


@pytest.mark.slow
def test_a_service_is_started_reloaded_and_stopped(node: TestNode) -> None:
    """``systemctl start``, ``reload``; then, as at a shutdown that has no time for ``ExecStop=``, the signal alone: to
    the main process, since KillMode is mixed. Started again, no frame is missing; and ``systemctl stop``."""
    service, stop_s = Booted(node), float(UNIT["TimeoutStopSec"][0])
    process = service.start()
    try:
        workers = {name: pid for name, pid in node.pids().items() if name.startswith("worker")}
        node.write(FILE.replace('model = "echo"', 'model = "echo"\ncount = 2'))
        service.do("ExecReload")
        assert {name: pid for name, pid in node.pids().items() if name in workers} == workers
        assert "worker-2" in node.pids()
        os.kill(process.pid, getattr(signal, UNIT["KillSignal"][0]))
        assert process.wait(timeout=stop_s) == 0, "a clean end, for Restart=on-failure"
        wait_for(lambda: not node.processes(), 10, "the end of all parts")

        process = service.start()
        node.until(lambda status: status["streams"][0]["state"] == "ended", "the stream's end", 120)
        found = ledger(node.home / "street.mkv")
        assert found["states"] == {"annotated": FRAMES}
        shown = [number for path in part_files(found, node.home, "street.mkv") for number in numbers(path)]
        assert shown == list(range(FRAMES))
        service.do("ExecStop")
        assert process.wait(timeout=stop_s) == 0
        assert node.processes() == []
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=COMMAND_S)


def test_a_mistake_in_the_file_is_not_tried_again(node: TestNode) -> None:
    node.write(FILE.replace("model =", "modle ="))
    done = subprocess.run(Booted(node).words("ExecStart"), cwd=node.home, capture_output=True, timeout=COMMAND_S)
    assert str(done.returncode) in UNIT["RestartPreventExitStatus"]
