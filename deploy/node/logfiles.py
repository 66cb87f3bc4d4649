"""Logs of a node's parts, as files that supervisor turns over: read for a person, and followed."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from common.errors import UsageError
from deploy.ailing import printable
from deploy.node.node import Node

#: Between two looks at a file that is followed, in seconds.
LOOK_S = 0.2
#: Fields that are shown before the message, where a line has them.
SHOWN = ("stream", "worker", "peer", "output")


def path_of(node: Node, part: str) -> Path:
    """The log of ``part``. Raises UsageError."""
    logs = node.folder.logs
    names = {"supervisord": logs / "supervisord.log"}
    for one in node.parts().values():
        path = logs / f"{one.program}.log"
        names[one.name] = names[one.program] = path
        if one.name.startswith("producer:"):
            names.setdefault(one.name.partition(":")[2], path)
    old = {path.stem: path for path in logs.glob("*.log")}  # of parts that are gone
    found = names.get(part) or old.get(part)
    if found is None:
        raise UsageError(f"{part!r} has no log: there are {', '.join(sorted({*names, *old}))}")
    return found


def show(path: Path, lines: int, follow: bool, raw: bool) -> None:
    """Print the last ``lines``, and with ``follow`` what comes until Ctrl-C."""
    with contextlib.suppress(KeyboardInterrupt):
        for line in _lines(path, lines, follow):
            print(line if raw else plain(line), flush=follow)


def plain(line: str) -> str:
    """A log record as a line for a person; what is no record stays as it is, but for what would move the cursor."""
    try:
        record = json.loads(line)
        when = datetime.fromtimestamp(record["time"]).isoformat(sep=" ", timespec="milliseconds")
        about = "".join(f" {name}={record[name]}" for name in SHOWN if name in record)
        text = f"{when} {record['level']:<8}{about} {record['message']}"
    except (ValueError, TypeError, KeyError, OverflowError, OSError):
        return printable(line)
    trace = str(record.get("trace", ""))
    return "\n".join(printable(one) for one in (text, *trace.splitlines()))


def _lines(path: Path, last: int, follow: bool) -> Iterator[str]:
    try:
        file: BinaryIO = path.open("rb")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    older = path.with_name(f"{path.name}.1")
    kept: deque[str] = deque(maxlen=last)
    if file.seek(0, 2) < 4096 and older.exists():  # it has just been turned over
        kept.extend(older.read_text(errors="replace").splitlines())
    file.seek(0)
    kept.extend(one.decode(errors="replace").rstrip("\n") for one in file)
    yield from kept
    while follow:
        file = _turned(path, file)
        rest = b""
        while data := file.readline():
            rest += data
            if rest.endswith(b"\n"):
                yield rest.decode(errors="replace").rstrip("\n")
                rest = b""
        if rest:
            file.seek(-len(rest), 1)  # the other half comes
        sys.stdout.flush()
        time.sleep(LOOK_S)


def _turned(path: Path, file: BinaryIO) -> BinaryIO:
    """The file that has the path now."""
    with contextlib.suppress(OSError):
        now, ours = path.stat(), file.fileno()
        mine = os.fstat(ours)
        if (now.st_ino, now.st_dev) != (mine.st_ino, mine.st_dev) and file.tell() >= mine.st_size:
            file.close()
            return path.open("rb")
        if now.st_size < file.tell():
            file.seek(0)
    return file
