"""How a node begins and ends: its files are written, supervisord starts and stops, parts are started again in order."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from common import config
from common.errors import LinkError, UsageError
from deploy.checks import check_model
from deploy.fleetfile import FleetFile
from deploy.folder import CONFIG
from deploy.node.changes import merged
from deploy.node.folder import NodeFolder, State, new_run
from deploy.node.gpus import visible_gpus
from deploy.node.left import wait_for_leavers
from deploy.node.node import Node, Tell
from deploy.node.plan import AGENT, Part
from deploy.node.supervisor import Process
from deploy.roles import ROLES, roles_of

#: Supervisord answers within so many seconds after its start, and is gone so many after its end.
START_S, GONE_S = 20.0, 60.0
#: Between two looks, in seconds.
LOOK_S = 0.05


def folder_of(file: Path) -> Path:
    """Where the node of ``file`` lives; the file itself may be broken, or a folder. Raises UsageError."""
    if file.is_dir() and (file / CONFIG).exists():
        return file.absolute()
    _check_there(file)
    return FleetFile(file).folder


def _check_there(file: Path) -> None:
    """Raises UsageError."""
    if not file.exists():
        raise UsageError(f"there is no {file}: write one with headrace init, or name it with -c")


def prepare(file: Path, role: str, fresh: bool, tell: Tell) -> Node:
    """Check everything and write the files of a node that is to be started. Raises HeadraceError."""
    roles = roles_of([role])
    _check_there(file)
    path = file.absolute()
    written = FleetFile(path)
    folder = NodeFolder(written.folder)
    folder.make()
    node = Node(folder, tell)
    with folder.changing():
        _check_free(folder, path)
        node.held = folder.hold()  # nobody else may think that nothing runs here, from now on
        before = folder.state()
        ordered = [one for one in ROLES if one in roles]
        if before is None or fresh:
            before = State(run=new_run(), file=str(path), roles=ordered)
        state = msgspec.structs.replace(before, file=str(path), roles=ordered, gpus=visible_gpus())
        fleet, state = merged(read(written, state, folder), state)
        if "workers" in roles:
            check_model(fleet.workers.model)
        if not folder.token.exists():
            folder.write(folder.token, secrets.token_urlsafe(24).encode())
        wait_for_leavers(folder, tell)
        node.write(fleet, state, node.plan(fleet, state))
        node.forget()
    return node


def read(file: FleetFile, state: State, folder: NodeFolder) -> config.Fleet:
    """The file, as the parts of this node are to read it. Raises HeadraceError."""
    fleet = file.node(folder.path, frozenset(state.roles), len(state.gpus))
    # As the parts read it: whoever compares the two sees only what differs.
    return msgspec.json.decode(config.dump(fleet), type=config.Fleet)


def _check_free(folder: NodeFolder, path: Path) -> None:
    """Raises LinkError, UsageError."""
    state = folder.state()
    other = state is not None and state.file != str(path)
    if folder.running:
        whose = f" (of {state.file})" if state is not None and other else ""
        hint = "give this one a [node] folder of its own" if other else "headrace reload applies a changed file"
        raise LinkError(f"a fleet{whose} runs in {folder.path} already: {hint}; headrace down ends the one that runs")
    if state is not None and other and Path(state.file).exists():
        raise UsageError(
            f"{folder.path} belongs to {state.file}: give this fleet a [node] folder of its own, or remove that folder"
        )


def _command(node: Node) -> list[str]:
    return [sys.executable, "-m", "deploy.node.supervise", str(node.folder.path), str(node.held)]


def become(node: Node) -> NoReturn:
    """Go on as supervisord, in the foreground."""
    sys.stdout.flush()
    os.set_inheritable(node.held, True)
    os.execv(sys.executable, _command(node))


def start(node: Node) -> None:
    """Start supervisord in the background. Raises LinkError."""
    log = node.folder.logs / "supervisord.out"
    with log.open("wb") as out:
        process = subprocess.Popen(
            _command(node),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=out,
            start_new_session=True,
            pass_fds=(node.held,),
            cwd="/",
        )
    os.close(node.held)
    deadline = time.monotonic() + START_S
    while True:
        try:
            if node.supervisor.pid:
                return
        except LinkError:
            if process.poll() is not None:
                words = log.read_text(errors="replace").strip().splitlines()
                raise LinkError(f"supervisord ended: {words[-1] if words else 'see ' + str(log)}") from None
            if time.monotonic() > deadline:
                raise
            time.sleep(LOOK_S)


def stop(node: Node, finish: float | None) -> None:
    """In the order of the stream: producers, broker, workers, sink. ``finish``: streams are brought to their end within
    so many seconds. Raises LinkError."""
    folder, parts = node.folder, list(node.parts().values())
    with folder.changing():
        producers = [part for part in parts if part.name.startswith("producer")]
        if finish is not None:
            node.finish(producers, finish)
        node.stop(producers)
        rest = [part for part in parts if part not in producers and part.name != AGENT]
        for priority in sorted({part.priority for part in rest}, reverse=True):
            node.stop([part for part in rest if part.priority == priority])
        if finish is not None:
            node.folder.write_state(msgspec.structs.replace(node.state, run=new_run(), ended={}, paused=[]))
        node.stop([part for part in parts if part.name == AGENT])  # supervisord takes a second for each that is left
        node.supervisor.shutdown()
        deadline = time.monotonic() + GONE_S
        while folder.running:
            if time.monotonic() > deadline:
                raise LinkError(f"supervisord in {folder.path} does not end: see {folder.logs / 'supervisord.log'}")
            time.sleep(LOOK_S)
        node.forget()


def restart(node: Node, names: Sequence[str]) -> str:
    """Raises UsageError for names that are no parts, and LinkError where one does not come back."""
    with node.folder.changing():
        chosen = choose(list(node.parts().values()), names)
        done = node.restart(chosen)
    return f"started again: {', '.join(part.name for part in done) or 'nothing'}"


def choose(parts: Sequence[Part], names: Sequence[str]) -> list[Part]:
    """The parts that are meant, in the order in which they are started again. Raises UsageError."""
    groups = {"all": "", "workers": "worker-", "producers": "producer:"}
    chosen: dict[str, Part] = {}
    for name in names:
        prefix = groups.get(name)
        found = [
            part
            for part in parts
            if (prefix is not None and part.name.startswith(prefix)) or part.name in (name, f"producer:{name}")
        ]
        if not found:
            there = ", ".join(part.name for part in parts)
            raise UsageError(f"{name!r} is no part of this node: there are {there}; and workers, producers, all")
        chosen.update({part.name: part for part in found})
    return sorted(chosen.values(), key=lambda part: part.priority)


def bare(node: Node) -> dict[str, Any]:
    """What can be said of a node whose agent does not answer."""
    parts, processes = node.parts(), node.supervisor.processes()
    return {
        "file": node.state.file,
        "roles": node.state.roles,
        "parts": [_bare_row(node, part, processes.get(part.program)) for part in parts.values()],
        "streams": [],
        "workers": [],
        "troubles": ["the agent does not answer: see headrace logs agent"],
        "ready": False,
        "unready": ["the agent does not answer"],
    }


def _bare_row(node: Node, part: Part, process: Process | None) -> dict[str, Any]:
    return {
        "name": part.name,
        "state": process.state.lower() if process is not None else "unknown",
        "pid": process.pid if process is not None else 0,
        "ready": False,
        "uptime": 0.0,
        "restarts": 0,
        "why": node.why(part) if process is not None and process.over else "",
    }
