"""``headrace run``: broker, sink, workers and a producer as children over ipc in a private folder, to one stream's end.

Parts that die are started again; the ends repair what was under way. Whatever happens, no process and no file of ours
is left: children follow their parent into death and the last one removes the folder.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from common import config
from common.errors import Exit, HeadraceError, LinkError, ModelError, OutputError
from common.lifecycle import FOLDER_MARK
from deploy.children import Child, Children, Said, command_of
from deploy.spec import RunOptions, build

#: A part that was told to stop gets this long, in seconds, before it is killed.
STOP_S = 8.0
#: The same where nothing can be saved any more.
ABANDON_S = 1.0
#: Longest path of the folder that ours is made in, in bytes: a Unix socket's whole path may have 107.
MAX_BASE = 80
#: First pause before a dead part is started again, in seconds; doubled each time up to the maximum.
RESTART_S, RESTART_MAX_S = 0.2, 5.0
#: A part that dies so often without having worked in between ends the run.
MAX_DEATHS = 5
#: A part that has lived this long, in seconds, has worked.
STEADY_S = 60.0

_REST_IS_THERE = "what was written before stays playable; start the run again"


class Display(Protocol):
    """What shows the run to a person."""

    def said(self, said: Said) -> None: ...
    def note(self, text: str) -> None: ...
    def tick(self) -> None: ...


class Run:
    """One run of the fleet. ``result`` is the ledger entry that the sink closed with."""

    def __init__(self, options: RunOptions, display: Display) -> None:
        self._options, self._display = options, display
        self._interrupts = 0
        self._deaths: dict[str, int] = {}
        self._restart: dict[str, float] = {}
        self._ready: set[str] = set()
        self._durable = 0  # frames that are on disk for good
        self._durable_at: dict[str, int] = {}  # the same when a part died last
        self.result: dict[str, Any] | None = None

    def __call__(self) -> Exit:
        """Run to the end. Raises HeadraceError with the first cause."""
        previous = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        folder = private_folder()
        self._children = Children(folder)
        try:
            fleet = build(self._options, Path(folder))
            check_model(self._options.model)
            if self._interrupts:
                return Exit.INTERRUPTED
            self._file = str(Path(folder) / "fleet.json")
            Path(self._file).write_bytes(config.dump(fleet))
            self._stream = fleet.streams[0].name
            for name in self._parts(fleet):
                self._start(name)
            return self._watch()
        finally:
            self._stop(ABANDON_S)
            shutil.rmtree(folder, ignore_errors=True)
            for number, handler in previous.items():
                signal.signal(number, handler)

    @staticmethod
    def _parts(fleet: config.Fleet) -> list[str]:
        # The slowest to start first: torch takes seconds to import.
        return [*(f"worker-{number}" for number in range(1, fleet.workers.count + 1)), "broker", "sink", "producer"]

    def _start(self, name: str) -> None:
        module, more = command_of(name, self._stream)
        self._children.start(name, module, ["-c", self._file, *more])

    def _watch(self) -> Exit:
        told = False
        while True:
            self._hear(self._children.listen(0.1))
            self._display.tick()
            if self._interrupts > 1:
                self._kill(self._children.alive)
                return Exit.INTERRUPTED
            if self._interrupts and not told:
                told = True
                self._display.note("stopping: what is under way is finished first (again: stop at once)")
                self._children.signal("producer")
            if self._interrupts and "producer" not in self._children.alive:  # it died, and need not come back for this
                self._stop(STOP_S)
                return Exit.INTERRUPTED
            for child, code in self._children.exits():
                self._hear(self._children.rest(child))
                # Told to stop before it could listen, it was ended by the signal: that is no accident.
                if child.name == "producer" and (self._interrupts or not self._is_accident(code)):
                    return self._verdict(child, code)
                self._bury(child, code)
            for name, at in list(self._restart.items()):
                if time.monotonic() >= at:
                    del self._restart[name]
                    self._start(name)

    def _bury(self, child: Child, code: int) -> None:
        """A part other than the producer has ended before its time."""
        why = child.why(code)
        self._ready.discard(child.name)
        if child.name == "sink" and not self._is_accident(code):
            # Nothing can be written any more, so nothing is worth waiting for.
            raise (OutputError if code == Exit.OUTPUT else LinkError)(f"the sink ended: {why}; {_REST_IS_THERE}")
        if code in (Exit.MODEL, Exit.USAGE):
            self._stop(STOP_S)  # what was written so far is closed
            raise _error_of(code, why)
        if time.monotonic() - child.started > STEADY_S:
            self._deaths[child.name] = 0
        if child.name in ("sink", "producer") and self._durable > self._durable_at.get(child.name, 0):
            self._deaths[child.name] = 0  # it does not die of the same frame again
        self._durable_at[child.name] = self._durable
        self._deaths[child.name] = deaths = self._deaths.get(child.name, 0) + 1
        if deaths > MAX_DEATHS:
            self._stop(STOP_S)
            kind = ModelError if child.name.startswith("worker") else LinkError
            raise kind(f"{child.name} died {deaths} times without having worked, the last time: {why}")
        pause = min(RESTART_S * 2 ** (deaths - 1), RESTART_MAX_S)
        self._restart[child.name] = time.monotonic() + pause
        self._display.note(f"{child.name} died ({why}); it is started again")

    @staticmethod
    def _is_accident(code: int) -> bool:
        """Whether a part that ended with ``code`` is worth another try: it was killed, or ran into a bug."""
        return code < 0 or code == Exit.CRASH

    def _verdict(self, child: Child, code: int) -> Exit:
        # The sink says "closed" to us and to the producer at the same time; the producer may be the first to act.
        deadline = time.monotonic() + 2.0
        while self.result is None and code == 0 and time.monotonic() < deadline and "sink" in self._children.alive:
            self._hear(self._children.listen(0.1))
        self._stop(STOP_S)
        error = (self.result or {}).get("error")
        if error:
            raise OutputError(error)
        if self._interrupts:
            return Exit.INTERRUPTED
        if code not in (Exit.OK, Exit.INCOMPLETE):
            raise _error_of(code, child.fatal or f"the producer ended: {child.why(code)}; {_REST_IS_THERE}")
        if code == Exit.INCOMPLETE or self.result is None:
            return Exit.INCOMPLETE
        states = self.result["states"]
        return Exit.INCOMPLETE if states.get("failed") or states.get("lost") else Exit.OK

    def _stop(self, seconds: float) -> None:
        """Stop all that runs; a worker that never got ready holds nothing and is not waited for."""
        self._kill(name for name in self._children.alive if name.startswith("worker") and name not in self._ready)
        rest = [name for name in self._children.alive if name != "sink"]
        self._hear(self._children.stop([*rest, "sink"], seconds))

    def _kill(self, names: Iterable[str]) -> None:
        for name in list(names):
            self._children.signal(name, signal.SIGKILL)

    def _hear(self, said: Iterable[Said]) -> None:
        for one in said:
            if one.kind == "status" and one.record.get("event") == "closed":
                self.result = one.record
            if one.kind == "status" and one.record.get("event") == "ready":
                self._ready.add(one.child)
            if one.kind == "status" and one.record.get("event") == "working":
                self._deaths[one.child] = 0
            if one.kind == "status" and "durable" in one.record:
                self._durable = max(self._durable, one.record["durable"])
            self._display.said(one)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._interrupts += 1


def check_model(spec: str) -> None:
    """Ask the workers' own check (it imports no torch). Raises ModelError."""
    done = subprocess.run(
        [sys.executable, "-m", "workers", "--check", spec],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,  # the terminal's SIGINT is for us
    )
    if done.returncode:
        raise ModelError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"unknown model {spec!r}")


def private_folder() -> str:
    """A folder of mode 0700 for sockets and the configuration. Raises OutputError."""
    for base in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"):
        if base and len(os.fsencode(base)) <= MAX_BASE and os.access(base, os.W_OK):
            folder = tempfile.mkdtemp(prefix="headrace-", dir=base)
            (Path(folder) / FOLDER_MARK).touch()
            return folder
    raise OutputError("no folder for sockets can be made in XDG_RUNTIME_DIR, TMPDIR or /tmp: free one")


def _error_of(code: int, message: str) -> HeadraceError:
    for kind in HeadraceError.__subclasses__():
        if int(kind.exit_code) == code:
            return kind(message)
    return LinkError(message)
