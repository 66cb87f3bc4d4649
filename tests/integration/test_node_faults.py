"""What goes wrong with ``headrace up``, and what is said of it: one line that names the cause, and the rest goes on."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.faults.small_disk import small_disk
from deploy.faults.trial import Skipped
from tests.integration.test_node_scaling import FILE as STREAM
from tests.integration.test_node_scaling import check_whole, until_ended
from tests.node import TestNode, a_node
from tests.support import headrace, numbered_clip

FILE = """
[workers]
model = "echo"
"""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[TestNode]:
    with a_node(tmp_path) as node:
        node.write(FILE)
        yield node


def test_commands_without_a_fleet(node: TestNode) -> None:
    for words in (["status"], ["scale", "workers=2"], ["restart", "broker"], ["reload"], ["down"], ["top"]):
        assert "no fleet runs in" in node.do(*words, code=6).err
    node.file.unlink()
    assert "headrace init" in node.do("up", code=2).err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--role", "all,workers"], "all includes workers"),
        (["--role", "painter"], "there is no such role"),
        (["--role", "workers"], "broker.workers"),
    ],
)
def test_roles_that_contradict(node: TestNode, words: list[str], told: str) -> None:
    assert told in node.do("up", *words, code=2).err


def test_mistakes_in_the_file_start_nothing(node: TestNode) -> None:
    node.write(FILE.replace("model", "modle"))
    found = node.do("up", code=2).err
    assert "workers.modle" in found
    assert "'model'" in found
    assert node.processes() == []
    node.write('[workers]\nmodel = "no such model"')
    assert "no such model" in node.do("up", code=5).err


def test_one_folder_is_for_one_fleet(node: TestNode) -> None:
    (node.folder.path).mkdir(parents=True)
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(node.folder.path / "frames"))  # a socket that somebody has left
    stale.close()
    node.do("up")
    before = node.pids()
    assert "already" in node.do("up", code=6).err
    other = node.home / "other.toml"
    other.write_text(node.file.read_text())
    done = headrace("up", "-c", other, cwd=node.home)
    assert done.code == 6
    assert str(node.file) in done.err
    assert "folder of its own" in done.err
    assert node.pids() == before
    node.do("down")
    done = headrace("up", "-c", other, cwd=node.home)
    assert (done.code, "belongs to" in done.err) == (2, True), done.err


def test_a_port_that_is_taken(node: TestNode) -> None:
    """It is named, and the other parts run."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        node.write(f'{FILE}\n[sink]\nmedia = "tcp://127.0.0.1:{port}"')
        done = node.do("up", code=6)
        assert f"sink does not start: cannot listen at tcp://127.0.0.1:{port}: Address already in use" in done.err
        status = node.until(
            lambda now: not now["ready"] and any("Address" in part["why"] for part in now["parts"]), "its reason"
        )
        sink = next(part for part in status["parts"] if part["name"] == "sink")
        assert "Address already in use" in sink["why"]
        assert any("sink" in line for line in status["unready"])


def test_the_pages_port_is_taken(node: TestNode) -> None:
    """The node works and can be asked without its page, which comes when the port is free."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        node.write(FILE, page=f'[page]\nlisten = "127.0.0.1:{port}"\n')
        told = f"the page cannot be served at 127.0.0.1:{port}: Address already in use"
        assert told in node.do("up", code=6).err
        assert all(part["ready"] for part in node.status()["parts"])
        assert told in node.status()["unready"][0]
    node.until(lambda now: now["ready"], "the page")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz") as answer:
        assert answer.status == 200


def test_a_worker_that_crashes_again_and_again(node: TestNode) -> None:
    """It is named with its last error; where the cause is gone, it comes back by itself."""
    (node.home / "broken_model.py").write_text(
        "from workers.models.echo import Echo\n"
        "from pathlib import Path\n"
        "class Broken(Echo):\n"
        "    def setup(self, device):\n"
        "        if not Path('cure').exists():\n"
        "            raise RuntimeError('the lens is dirty')\n"
        "        super().setup(device)\n"
    )
    node.write('[workers]\nmodel = "broken_model:Broken"')
    assert "the lens is dirty" in node.do("up", code=6).err
    status = node.until(
        lambda now: any(part["crash_loop"] and "lens" in part["why"] for part in now["parts"]), "a crash loop"
    )
    assert any("lens" in line for line in status["unready"])
    shown = node.do("status", code=6).out
    assert "the lens is dirty" in " ".join(shown.split())
    (node.home / "cure").touch()
    node.until(lambda now: now["ready"], "a worker", 90)


@pytest.mark.slow
def test_the_disk_of_the_logs_is_full(tmp_path: Path) -> None:
    """Nobody waits for a line that cannot be written."""
    numbered_clip(tmp_path / "clip.mp4", 450, rate=50)
    with a_node(tmp_path) as node:
        node.write(STREAM)
        node.folder.path.mkdir(mode=0o700)
        try:
            with small_disk(node.folder.logs, 2**20) as disk:
                node.do("up")
                node.until(lambda now: now["streams"][0]["frames"] > 25, "frames")
                disk.fill(0)
                node.do("restart", "worker-1")  # it logs
                node.do("scale", "workers=3")
                until_ended(node)
                check_whole(node)
                disk.clear()
                node.do("down")
        except Skipped as why:
            pytest.skip(str(why))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_the_clock_jumps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hours forth and a day back: nobody takes anybody for dead, nothing is started again, nothing is lost."""
    offset, clock = tmp_path / "offset", tmp_path / "clock.so"
    offset.write_text("0")
    source = Path(__file__).parents[1] / "clockjump.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", clock, source, "-ldl"], check=True)
    numbered_clip(tmp_path / "clip.mp4", 450, rate=50)
    monkeypatch.setenv("LD_PRELOAD", str(clock))
    monkeypatch.setenv("CLOCK_OFFSET", str(offset))
    with a_node(tmp_path) as node:
        node.write(STREAM)
        node.do("up")
        pids = node.pids()
        node.until(lambda now: now["streams"][0]["frames"] > 25, "frames")
        offset.write_text("7200")
        ahead = node.until(lambda now: now["streams"][0]["frames"] > 100, "more frames")
        assert ahead["time"] > time.time() + 7000, "the clock has jumped"
        offset.write_text("-86400")
        node.do("scale", "workers=3")
        until_ended(node)
        check_whole(node)
        assert {name: pid for name, pid in node.pids().items() if name in pids} == pids | {"producer:street 1": 0}
        node.do("down")
