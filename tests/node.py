"""A node of ``headrace up`` in a test: its file, its commands, its processes, and that nothing of it stays."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from deploy.node.folder import NodeFolder
from deploy.node.left import leavers
from deploy.node.ready import look
from tests.support import Ran, headrace, wait_for

#: A command to a node on a busy machine takes at most so many seconds.
COMMAND_S = 120.0
#: No page and no metrics: tests that run at the same time would want the same port.
QUIET = "[page]\nenabled = false\n"


@dataclass(frozen=True, slots=True)
class TestNode:
    """``home``: where the file is; ``folder``: what is the node's."""

    __test__ = False

    home: Path
    folder: NodeFolder

    @property
    def file(self) -> Path:
        return self.home / "headrace.toml"

    def write(self, text: str, page: str = QUIET) -> None:
        self.file.write_text(f'[node]\nfolder = "{self.folder.path}"\nname = "{self.home.name}"\n{page}\n{text}')

    def do(self, *words: str, code: int = 0) -> Ran:
        """A command to this node; it must end with ``code``."""
        done = headrace(*words, "-c", self.file, cwd=self.home, timeout=COMMAND_S)
        assert done.code == code, f"headrace {' '.join(words)}: {done.code}\n{done.out}\n{done.err}\n{self.logs()}"
        return done

    def logs(self) -> str:
        """The ends of all logs."""
        return "\n".join(f"-- {path.name}\n{path.read_text()[-1500:]}" for path in sorted(self.folder.logs.glob("*.*")))

    def status(self) -> dict[str, Any]:
        """What the agent says, as ``headrace status --json`` prints it."""
        found: dict[str, Any] = wait_for(lambda: look(self.folder), 30, "an answer of the agent")
        return found

    def pids(self) -> dict[str, int]:
        return {part["name"]: part["pid"] for part in self.status()["parts"]}

    def until(self, condition: Callable[[dict[str, Any]], Any], what: str, seconds: float = 60) -> dict[str, Any]:
        """The first status for which ``condition`` holds."""
        seen: list[dict[str, Any]] = []

        def look() -> bool:
            seen[:] = [self.status()]
            return bool(condition(seen[0]))

        try:
            wait_for(look, seconds, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{json.dumps(seen, indent=1)}\n{self.logs()}") from None
        return seen[0]

    def stream(self, name: str) -> dict[str, Any]:
        return next(one for one in self.status()["streams"] if one["name"] == name)

    def processes(self) -> list[int]:
        """Everything that runs for this node, supervisord too."""
        found = leavers(self.folder)
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                if "deploy.node.supervise" in words and str(self.folder.path) in words:
                    found.append(process.pid)
        return found


@contextlib.contextmanager
def a_node(home: Path) -> Iterator[TestNode]:
    """A node that has not been started. Whatever the test does, nothing of it runs afterwards."""
    with tempfile.TemporaryDirectory(prefix="hn-") as short:  # sockets lie in it
        node = TestNode(home, NodeFolder(Path(short) / "node"))
        try:
            yield node
        finally:
            end(node)


def end(node: TestNode) -> None:
    """Whatever runs of it is killed."""
    supervisors = set(node.processes()) - set(leavers(node.folder))
    for pid in supervisors:  # first: it would start the others again
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for pid in leavers(node.folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not node.processes(), 20, "the node's end")
