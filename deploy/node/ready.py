"""Waiting until parts work: supervisor knows that they run, the agent what they say."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any

from common.errors import LinkError
from deploy.ask import ask
from deploy.control import Look
from deploy.node.folder import NodeFolder
from deploy.node.lastwords import last_words
from deploy.node.plan import AGENT, Part
from deploy.node.supervisor import Process, Supervisor

#: A part works within so many seconds: importing torch and loading a model takes its time.
READY_S = 180.0
LOOK_S = 0.1
#: A stream may be over at once, which supervisor takes for a failure until the agent knows better, in seconds.
BRIEF_S = 6.0
#: The agent answers within so many seconds, or is not there.
ANSWER_S = 5.0


def wait_ready(folder: NodeFolder, supervisor: Supervisor, parts: Sequence[Part]) -> None:
    """Until all ``parts`` work. Raises LinkError with the reason where one of them does not start."""
    deadline = time.monotonic() + READY_S
    missing, brief = list(parts), time.monotonic() + BRIEF_S
    while missing:
        processes, said = supervisor.processes(), look(folder)
        for part in missing:
            if not part.final or time.monotonic() > brief:
                _check(folder, part, processes.get(part.program))
        missing = [part for part in missing if not _works(part, processes.get(part.program), said)]
        if missing and time.monotonic() > deadline:
            names = ", ".join(part.name for part in missing)
            raise LinkError(f"{names}: not ready after {READY_S:.0f} s: see headrace logs {missing[0].name}")
        if missing:
            time.sleep(LOOK_S)


def look(folder: NodeFolder) -> dict[str, Any]:
    """What the agent knows; nothing where it does not answer."""
    with contextlib.suppress(LinkError):
        return ask(folder.path, Look(), ANSWER_S).node
    return {}


def _check(folder: NodeFolder, part: Part, process: Process | None) -> None:
    if process is None or not process.failed:
        return
    why = last_words(folder.logs / f"{part.program}.log") or process.words or f"exit code {process.code}"
    raise LinkError(f"{part.name} does not start: {why}")


def _works(part: Part, process: Process | None, said: dict[str, Any]) -> bool:
    if process is None:
        return False
    if part.final and process.state in ("EXITED", "STOPPED"):  # a short stream
        return True
    known = next((one for one in said.get("parts", []) if one["name"] == part.name), None)
    if part.name == AGENT:
        return bool(said)
    return known is not None and known["pid"] == process.pid and bool(known["ready"])
