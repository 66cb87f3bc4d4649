"""docs/operations.md is done as it stands there, block after block, by a shell, on a fleet."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.node.folder import NodeFolder
from tests.guide import OPERATIONS, ROOT, Block, blocks, shape
from tests.node import TestNode, end
from tests.servers import free_port
from tests.support import wait_for

#: The page's port in the guide, for which the test has one of its own.
PORT = "8750"
#: A block of commands on a busy machine takes at most so many seconds, and the first line of one that is watched.
BLOCK_S, LINE_S = 240.0, 60.0


class Guide:
    """A shell that goes through the guide; from block to block it remembers where it is."""

    def __init__(self, node: TestNode, port: int) -> None:
        self.node, self.port = node, str(port)
        self._place = node.home
        environment = {key: value for key, value in os.environ.items() if not key.startswith("HEADRACE")}
        programs = [str(Path(sys.executable).parent), environment["PATH"], "/usr/sbin"]
        # Wide enough for what the guide shows; and the sources of this checkout, wherever the shell is.
        more = {"HOME": str(node.home), "COLUMNS": "300", "PYTHONPATH": str(ROOT), "PATH": ":".join(programs)}
        self._environment = environment | more

    def run(self, block: Block) -> str:
        """What it has shown."""
        where = self.node.home / "where"
        script = f"trap 'pwd > {where}' EXIT\n{self._here(block.text)}"
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", script],
            cwd=self._place,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BLOCK_S,
        )
        told = f"{OPERATIONS.name}:{block.line}\n{block.text}\n{done.stdout}"
        assert done.returncode == block.code, f"exit code {done.returncode}: {told}\n{self.node.logs()}"
        assert "Traceback" not in done.stdout, told
        self._place = Path(where.read_text().strip())
        if "headrace init" in block.text:
            self._choose_port()
        if re.search(r"headrace up\b", block.text) and block.code == 0:
            self._until_it_flows()
        return done.stdout

    def watch(self, block: Block) -> None:
        """Each line shows something, and ends in order with Ctrl-C."""
        for line in self._here(block.text).splitlines():
            with subprocess.Popen(
                ["bash", "-c", f"exec {line}"],
                cwd=self._place,
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                # Who runs the tests in the background may ignore Ctrl-C, and that is inherited.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
                start_new_session=True,
            ) as process:
                assert process.stdout is not None
                os.set_blocking(process.stdout.fileno(), False)
                shown = wait_for(process.stdout.read, LINE_S, f"a word of {line}")
                process.send_signal(signal.SIGINT)
                _, said = process.communicate(timeout=LINE_S)
                assert process.returncode == 0, f"{line}: {process.returncode} {said.decode()}"
                assert b"Traceback" not in said + shown

    def _here(self, text: str) -> str:
        return text.replace(PORT, self.port)

    def _choose_port(self) -> None:
        """As somebody would do who has another fleet on the machine."""
        file = self._place / "headrace.toml"
        text = file.read_text()
        ours = text.replace(f'# listen = "127.0.0.1:{PORT}"', f'listen = "127.0.0.1:{self.port}"')
        assert ours != text
        file.write_text(ours)

    def _until_it_flows(self) -> None:
        """A reader is slower than a machine: the first pictures have come out when the next line is typed."""

        def flows(status: dict[str, list[dict[str, object]]]) -> bool:
            streams = [one for one in status["streams"] if one["name"] == "street"]
            return bool(streams and streams[0]["state"] == "running" and streams[0]["annotated"] and status["workers"])

        self.node.until(flows, "a stream that flows", 120)


@pytest.fixture
def guide() -> Iterator[Guide]:
    with tempfile.TemporaryDirectory(prefix="hg-") as short:  # sockets lie in it
        home = Path(short)
        node = TestNode(home, NodeFolder(home / "fleet" / ".headrace"))
        try:
            yield Guide(node, free_port())
        finally:
            end(node)


def test_the_guide_works_as_it_stands(guide: Guide) -> None:
    shown = ""
    for block in blocks(OPERATIONS):
        if block.kind == "text":
            lines = [" ".join(line.split()) for line in shown.replace(guide.port, PORT).splitlines()]
            for line in block.text.splitlines():
                assert any(shape(line).search(one) for one in lines), f"line {block.line}: {line!r} is not in\n{shown}"
        elif block.kind == "sh" and block.how == "watch":
            guide.watch(block)
        elif block.kind == "sh" and block.how != "elsewhere":
            shown = guide.run(block)
    assert guide.node.processes() == [], "the guide ends what it has started"
