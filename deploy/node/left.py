"""Parts that outlive their supervisord by moments: they finish and follow it, and hold sockets and files as long."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from common.errors import LinkError
from common.status import NODE_ENV
from deploy.node.folder import NodeFolder

#: They get so many seconds by themselves, and are killed then.
LEAVE_S, KILL_S = 25.0, 5.0
LOOK_S = 0.1


def leavers(folder: NodeFolder) -> list[int]:
    """Processes that were started as parts of this node."""
    mark = f"{NODE_ENV}={folder.agent_socket}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):  # somebody else's, or gone
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def wait_for_leavers(folder: NodeFolder, tell: Callable[[str], None]) -> None:
    """Raises LinkError where some stay."""
    began, told, killed = time.monotonic(), False, False
    while pids := leavers(folder):
        waited = time.monotonic() - began
        if not told:
            told = True
            tell(f"waiting for {len(pids)} parts of an earlier start to end")
        if waited > LEAVE_S and not killed:
            killed = True
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if waited > LEAVE_S + KILL_S:
            raise LinkError(f"parts of an earlier start do not end: pids {', '.join(map(str, pids))}")
        time.sleep(LOOK_S)
