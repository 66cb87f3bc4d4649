"""One worker, run as a child as ``headrace run`` does, and looked after by a thread. No Ray here."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.children import Child, Children, Said
from deploy.cluster.order import Order
from deploy.folder import CONFIG, private_folder

#: A child's name among Children, which has no other here.
WORKER = "worker"
#: Longest reason that is kept, in characters.
MAX_WHY = 500
#: How often the child is looked at when it says nothing, in seconds.
LOOK_S = 1.0


@dataclass(slots=True)
class Seen:
    """How the worker is. ``remark``: what it says is wrong, while it lasts."""

    state: str = "waiting"
    pid: int = 0
    device: str = ""
    done: int = 0
    remark: str = ""


class Keeper:
    """``name`` is the worker's in logs; ``hear`` gets each line that it logs (a text)."""

    def __init__(self, order: Order, name: str, hear: Callable[[str], None] | None = None) -> None:
        self._order, self._name = order, name
        self._hear = hear or (lambda line: print(line, file=sys.stderr, flush=True))
        self._lock = threading.Lock()
        self._seen = Seen()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._told = threading.Event()  # to end
        self._over = threading.Event()
        self._grace = 0.0
        #: Seconds that the worker lived.
        self.lived = 0.0

    @property
    def told(self) -> bool:
        """Whether the worker's end was asked for."""
        return self._told.is_set()

    def look(self) -> Seen:
        with self._lock:
            return Seen(*(getattr(self._seen, name) for name in Seen.__slots__))

    def stop(self, seconds: float) -> bool:
        """SIGTERM; what still runs after ``seconds`` is killed. Returns when it is over, and whether it ended by
        itself."""
        self._grace = seconds
        self._told.set()
        os.eventfd_write(self._wake, 1)
        in_peace = self._over.wait(seconds)
        self._over.wait(5.0)
        return in_peace

    def run(self, pause: float) -> str:
        """The worker's whole life, after ``pause`` seconds → why it ended.

        The thread that calls this must last as long as the process: the kernel tells the child of the parent's death
        when the thread ends that started it. Raises OSError where it cannot be started.
        """
        folder = None
        try:
            if self._told.wait(pause):
                return "told to end"
            folder = private_folder()
            path = Path(folder) / CONFIG
            path.touch(mode=0o600)
            path.write_text(self._order.config, encoding="utf-8")
            self._prepare()
            return self._live(Children(folder), path)
        finally:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
            self._note(state="over", pid=0)
            self._over.set()

    def _prepare(self) -> None:
        """What the child inherits. This process is the slot's alone."""
        with contextlib.suppress(OSError):  # a node without that folder: models by name need none
            os.chdir(self._order.base)
        os.environ["OMP_NUM_THREADS"] = str(self._order.threads)
        if not self._order.gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""

    def _live(self, children: Children, path: Path) -> str:
        child = children.start(WORKER, "workers", ["-c", str(path), "--name", self._name])
        self._note(state="starting", pid=child.process.pid)
        children.watch(self._wake)
        try:
            while True:
                for said in children.listen(LOOK_S):
                    self._on_said(said)
                if self.told:
                    return self._end(children, child)
                for _, code in children.exits():
                    self.lived = time.monotonic() - child.started
                    for said in children.rest(child):
                        self._on_said(said)
                    return child.why(code)[:MAX_WHY]
        finally:
            children.unwatch(self._wake)

    def _end(self, children: Children, child: Child) -> str:
        self._note(state="stopping")
        for said in children.stop([WORKER], self._grace):
            self._on_said(said)
        self.lived = time.monotonic() - child.started
        return "told to end"

    def _on_said(self, said: Said) -> None:
        record = said.record
        if said.kind == "log":
            self._hear(str(record.get("message", ""))[:MAX_WHY])
        elif record.get("event") == "ready":
            self._note(state="running", device=str(record.get("device", "")))
        elif record.get("event") == "progress":
            troubles: list[Any] = record.get("troubles") or []
            remark = str(troubles[0].get("text", "")) if troubles else ""
            self._note(done=int(record.get("done", 0)), remark=remark[:MAX_WHY])

    def _note(self, **changes: Any) -> None:
        with self._lock:
            for name, value in changes.items():
                setattr(self._seen, name, value)
