"""Child processes: started, heard (status lines and logs), stopped, never left behind."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from common import status
from common.lifecycle import FOLDER_ENV, PARENT_ENV
from common.signals import name_of, not_of_the_terminal

#: Longest line that is kept of a child's log, in bytes; a longer one is dropped.
MAX_LINE = 64 * 1024
#: What the sink's status pipe holds, in bytes: it speaks of all streams. The kernel's 64 KiB are enough for the others,
#: and what one user's pipes may hold together is limited.
SINK_PIPE = 2**20
#: Most bytes read from one child's pipe before the others get their turn (a model may print without end).
MAX_READ = 256 * 1024


@dataclass(frozen=True, slots=True)
class Said:
    """One line of a child: ``record`` is a status event or a log record."""

    child: str
    kind: str  # "status" or "log"
    record: dict[str, Any]


def command_of(name: str, stream: str = "") -> tuple[str, list[str]]:
    """Module and arguments of a part, beside ``-c``: ``broker``, ``sink``, ``worker-1`` …, ``producer:NAME``, or
    ``producer`` for ``stream``."""
    if name.startswith("worker"):
        return "workers", ["--name", name]
    module, _, own = name.partition(":")
    if module != "producer":
        return module, []
    name = own or stream
    # One that begins with a dash would be taken for an option.
    return module, [f"--stream={name}"] if name.startswith("-") else ["--stream", name]


@dataclass(slots=True)
class Child:
    """A running part."""

    name: str
    process: subprocess.Popen[bytes]
    pipes: dict[int, bytearray] = field(default_factory=dict)
    status_fd: int = -1
    started: float = field(default_factory=time.monotonic)
    #: What the child said was the reason of its end.
    fatal: str = ""
    #: The last line that was no log record: a model's print, or the end of an interpreter's traceback.
    printed: str = ""

    def why(self, code: int) -> str:
        """Why it ended with ``code`` (negative: a signal), in words."""
        if code < 0:
            return f"killed by {name_of(-code)}"
        if self.fatal:
            return self.fatal
        return f"exit code {code}" + (f", its last words: {self.printed}" if self.printed else "")


class Children:
    """All child processes of one run."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._selector = selectors.DefaultSelector()
        self.alive: dict[str, Child] = {}

    def watch(self, fd: int) -> None:
        """:meth:`listen` returns also when ``fd`` can be read; who asks for this reads it."""
        self._selector.register(fd, selectors.EVENT_READ, None)

    def unwatch(self, fd: int) -> None:
        self._selector.unregister(fd)

    def start(self, name: str, module: str, arguments: Sequence[str], stdin: bool = False) -> Child:
        """Start ``python -m module arguments`` under ``name``. ``stdin``: our standard input is its own.

        Raises OSError where that cannot be done, now: nothing has been started then.
        """
        if name in self.alive:
            raise OSError(errno.EBUSY, f"another {name} has not ended yet")
        reader, writer = os.pipe()
        if module == "sink":
            with contextlib.suppress(OSError):
                fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, SINK_PIPE)
        environment = os.environ | {PARENT_ENV: str(os.getpid()), FOLDER_ENV: self._folder, "PYTHONUNBUFFERED": "1"}
        try:
            with not_of_the_terminal():
                process = subprocess.Popen(
                    [sys.executable, "-m", module, *arguments, "--status-fd", str(writer)],
                    stdin=None if stdin else subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    pass_fds=(writer,),
                    env=environment,
                )
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        assert process.stdout is not None
        child = self.alive[name] = Child(name, process, status_fd=reader)
        for fd in (reader, process.stdout.fileno()):
            os.set_blocking(fd, False)
            child.pipes[fd] = bytearray()
            self._selector.register(fd, selectors.EVENT_READ, child)
        return child

    def listen(self, seconds: float) -> Iterator[Said]:
        """What the children say within ``seconds``; returns as soon as some of it is there."""
        for key, _ in self._selector.select(seconds):
            if key.data is None:
                continue
            yield from self._read(key.data, key.fd)

    def exits(self) -> list[tuple[Child, int]]:
        """Children that have ended since the last call, with their exit codes (negative: a signal)."""
        ended = [(child, code) for child in self.alive.values() if (code := child.process.poll()) is not None]
        for child, _ in ended:
            del self.alive[child.name]
        return ended

    def rest(self, child: Child) -> list[Said]:
        """What an ended child said last. Closes its pipes."""
        said = [one for fd in list(child.pipes) for one in self._read(child, fd)]
        for fd in list(child.pipes):
            self._close(child, fd)
        return said

    def signal(self, name: str, number: int = signal.SIGTERM) -> None:
        child = self.alive.get(name)
        if child is not None:
            with contextlib.suppress(ProcessLookupError):
                child.process.send_signal(number)

    def stop(self, names: Sequence[str], seconds: float) -> list[Said]:
        """SIGTERM, and after ``seconds`` SIGKILL, for those of ``names`` that run. Returns what they said."""
        said: list[Said] = []
        for name in names:
            self.signal(name)
        deadline = time.monotonic() + seconds
        while any(name in self.alive for name in names):
            said.extend(self.listen(0.05))
            for child, _ in self.exits():
                said.extend(self.rest(child))
            if time.monotonic() > deadline:
                for name in names:
                    self.signal(name, signal.SIGKILL)
                deadline = float("inf")
        return said

    def _read(self, child: Child, fd: int) -> Iterator[Said]:
        buffer = child.pipes.get(fd)
        if buffer is None:
            return
        most = MAX_READ
        try:
            while data := os.read(fd, 65536):
                buffer += data
                most -= len(data)
                while (at := buffer.find(b"\n")) >= 0:
                    line, buffer[: at + 1] = bytes(buffer[:at]), b""
                    yield self._said(child, fd, line)
                if len(buffer) > (status.MAX_LINE if fd == child.status_fd else MAX_LINE):
                    buffer.clear()
                if most <= 0:
                    return
            self._close(child, fd)
        except BlockingIOError:
            return

    def _said(self, child: Child, fd: int, line: bytes) -> Said:
        text = line.decode(errors="replace")
        try:
            record = json.loads(text)
        except ValueError:
            record = None
        if fd == child.status_fd and isinstance(record, dict):
            return Said(child.name, "status", record)
        if not isinstance(record, dict) or not isinstance(record.get("message"), str):
            record = {"level": "print", "message": text.rstrip()}
            child.printed = text.strip() or child.printed
        elif record.get("fatal"):
            child.fatal = record["message"]
        return Said(child.name, "log", record)

    def _close(self, child: Child, fd: int) -> None:
        if child.pipes.pop(fd, None) is None:
            return
        self._selector.unregister(fd)
        if fd == child.status_fd:
            os.close(fd)
        elif child.process.stdout is not None:
            child.process.stdout.close()
