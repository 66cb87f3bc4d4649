"""The asking end of deploy/control.py: which fleets are running, and what one of them answers."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from common.errors import HeadraceError, LinkError, UsageError
from common.lifecycle import FOLDER_MARK
from deploy.control import Answer, List, Request
from deploy.file import FILE
from deploy.fleetfile import FleetFile
from deploy.folder import CONTROL, found

#: A fleet that does not answer within so many seconds hangs; when all are looked for, sooner.
ANSWER_S, LOOK_S = 10.0, 2.0
#: Pause before another try to be let in, in seconds.
CROWDED_S = 0.05


def ask(folder: Path, request: Request, seconds: float = ANSWER_S) -> Answer:
    """The answer of the fleet in ``folder``. Raises LinkError where there is none, or the error that it answers."""
    deadline = time.monotonic() + seconds
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.settimeout(seconds)
            _connect(connection, str(folder / CONTROL), deadline)
            connection.sendall(msgspec.json.encode(request) + b"\n")
            data = b"".join(_all(connection, deadline))
            answer = msgspec.json.decode(data, type=Answer)
        except TimeoutError:
            raise LinkError(f"the fleet in {folder} does not answer") from None
        except (OSError, msgspec.MsgspecError):
            raise LinkError(f"the fleet in {folder} is gone, or is ending") from None
    if answer.error:
        raise next((kind for kind in HeadraceError.__subclasses__() if kind.exit_code == answer.exit_code), LinkError)(
            answer.error
        )
    return answer


def _connect(connection: socket.socket, path: str, deadline: float) -> None:
    """Unlike with other sockets, the kernel does not wait where many others wait already."""
    while True:
        try:
            connection.connect(path)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError from None
            time.sleep(CROWDED_S)


def _all(connection: socket.socket, deadline: float) -> Iterator[bytes]:
    while True:
        if (left := deadline - time.monotonic()) <= 0:
            raise TimeoutError
        connection.settimeout(left)
        if not (data := connection.recv(65536)):
            return
        yield data


def find(wanted: str | None) -> Path:
    """The folder of the running fleet that is meant: by its folder, by its name, or the only one.

    Raises LinkError where there is none, UsageError where it is not clear which one.
    """
    if wanted is not None and any((Path(wanted) / name).exists() for name in (FOLDER_MARK, CONTROL)):
        return Path(wanted)
    if (node := _node_of(Path(wanted or FILE))) is not None:
        return node
    running: dict[Path, Answer] = {}
    for folder in found():
        with contextlib.suppress(LinkError):
            running[folder] = ask(folder, List(), LOOK_S)
    meant = [one for one, answer in running.items() if wanted in (None, one.name, answer.fleet)]
    if len(meant) == 1:
        return meant[0]
    shown = ", ".join(f"{one} ({running[one].fleet}, {len(running[one].streams)} streams)" for one in meant or running)
    if meant:
        raise UsageError(f"several fleets are running, say which one with --fleet: {shown}")
    if running:
        raise UsageError(f"no fleet {wanted!r} is running, but {shown}")
    raise LinkError("no fleet is running: start one with headrace up, or headrace run")


def _node_of(file: Path) -> Path | None:
    """The folder of the node that ``headrace up`` runs of ``file``; None where there is none."""
    if not file.is_file():
        return None
    with contextlib.suppress(HeadraceError):
        folder = FleetFile(file).folder
        ask(folder, List(), LOOK_S)
        return folder
    return None
