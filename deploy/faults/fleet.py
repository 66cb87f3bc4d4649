"""A fleet under the kit's control: its parts are started, killed, stopped and heard one by one, by name.

Names are ``broker``, ``sink``, ``worker-1`` … and ``producer``. What is started is always ended, by its pid.
"""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import config
from deploy.children import Child, Children, Said, command_of
from deploy.folder import private_folder
from deploy.spec import RunOptions, build

#: Parts get this long, in seconds, to end in peace before they are killed.
STOP_S = 8.0
#: Most records that are remembered; the log file has them all.
REMEMBERED = 50_000
#: An automatic restart waits this long, in seconds, so that a part that cannot start does not burn a core.
AGAIN_S = 0.1


@dataclass(frozen=True, slots=True)
class Heard:
    """A status line or log record of a part, and when it was read."""

    at: float
    child: str
    kind: str
    record: dict[str, Any]

    @property
    def text(self) -> str:
        return str(self.record.get("message", ""))


class Fleet:
    """``tweak`` may change the configuration before it is written; ``log`` is where all that is said goes."""

    def __init__(
        self, options: RunOptions, log: Path, tweak: Callable[[config.Fleet], config.Fleet] = lambda fleet: fleet
    ) -> None:
        self.folder = Path(private_folder())
        try:
            self.config = tweak(build(options, self.folder))
            self.stream = self.config.streams[0]
            self._files = {"": self._write("fleet", self.config)}
            self._log = log.open("a", encoding="utf-8")
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        self._children = Children(str(self.folder))
        self._again: dict[str, float] = {}
        self._kept: set[str] = set()
        self.heard: deque[Heard] = deque(maxlen=REMEMBERED)
        #: Exit codes of each part, one for each of its ends (negative: a signal).
        self.codes: dict[str, list[int]] = {}
        #: What each ended part said was the reason.
        self.fatal: dict[str, str] = {}
        #: Parts that ended by themselves with an error, and why. Those that are kept are not among them.
        self.died: dict[str, str] = {}
        self._told: set[str] = set()  # parts that we have told to end
        #: The sink's last word on the stream.
        self.closed: dict[str, Any] | None = None

    @property
    def workers(self) -> list[str]:
        return [f"worker-{number}" for number in range(1, self.config.workers.count + 1)]

    @property
    def names(self) -> list[str]:
        """All parts, the slowest to start first."""
        return [*self.workers, "broker", "sink", "producer"]

    def rewire(self, part: str, change: Callable[[config.Fleet], config.Fleet]) -> None:
        """From now on ``part`` is started with a configuration of its own (a proxy in between)."""
        self._files[part] = self._write(part, change(self.config))

    def start(self, *names: str) -> None:
        for name in names:
            module, more = command_of(name, self.stream.name)
            self._note(f"{name} is started")
            self._told.discard(name)
            self._children.start(name, module, ["-c", self._files.get(name, self._files[""]), *more])

    def keep(self, *names: str) -> None:
        """Start these again whenever they end."""
        self._kept.update(names)

    def running(self, name: str) -> bool:
        return name in self._children.alive

    def pid(self, name: str) -> int:
        """Raises KeyError where it does not run."""
        return self._children.alive[name].process.pid

    def pids(self) -> list[int]:
        return [child.process.pid for child in list(self._children.alive.values())]

    def kill(self, *names: str) -> None:
        """SIGKILL, and wait for the end."""
        for name in names:
            self._signal(name, signal.SIGKILL)
        for name in names:
            if (child := self._children.alive.get(name)) is not None:
                child.process.wait()
        self._reap()

    def stop(self, *names: str) -> None:
        """SIGSTOP: the process stands still, its sockets stay open."""
        for name in names:
            self._signal(name, signal.SIGSTOP)

    def resume(self, *names: str) -> None:
        for name in names:
            self._signal(name, signal.SIGCONT)

    def terminate(self, *names: str) -> None:
        for name in names:
            self._signal(name, signal.SIGTERM)

    def listen(self, seconds: float) -> None:
        """Hear the parts for at most ``seconds``, shorter where they say something."""
        self._take(self._children.listen(seconds))
        self._reap()
        now = time.monotonic()
        for name in [name for name, at in self._again.items() if now >= at]:
            del self._again[name]
            self.start(name)

    def named(self, since: float, *words: str, parts: Sequence[str] = (), level: Sequence[str] = ()) -> float | None:
        """Seconds from ``since`` to the first log record that holds all ``words``, whatever their case.

        ``parts``: only of these; ``level``: only of these levels. None: there is none so far.
        """
        for one in list(self.heard):
            if one.kind != "log" or one.at < since or (parts and one.child not in parts):
                continue
            if level and one.record.get("level") not in level:
                continue
            text = f"{one.text} {one.record.get('worker', '')} {one.record.get('reason', '')}".lower()
            if all(word.lower() in text for word in words):
                return one.at - since
        return None

    def status(self, since: float, child: str, event: str, condition: Callable[[dict[str, Any]], bool]) -> float | None:
        """Seconds from ``since`` to the first status line of ``child`` that meets ``condition``; None: none so far."""
        for one in list(self.heard):
            if one.kind == "status" and one.child == child and one.at >= since and one.record.get("event") == event:
                try:
                    if condition(one.record):
                        return one.at - since
                except KeyError:
                    continue
        return None

    def finish(self) -> None:
        """End all parts in peace: producer, broker, workers, sink."""
        self._kept.clear()
        self._again.clear()
        self.resume(*self._children.alive)
        for names in (["producer"], ["broker"], self.workers, ["sink"]):
            self._end(names, STOP_S)

    def close(self) -> None:
        """Nothing is left behind: no process, no folder."""
        self._kept.clear()
        self._again.clear()
        self.resume(*self._children.alive)
        self._end(list(self._children.alive), 1.0)
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self, names: Iterable[str], seconds: float) -> None:
        # Not Children.stop(): exits are to be seen by us.
        alive = [name for name in names if self.running(name)]
        for name in alive:
            self._signal(name, signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while any(self.running(name) for name in alive):
            self.listen(0.05)
            if time.monotonic() > deadline:
                self._note(f"still there after {seconds:g} s: {', '.join(filter(self.running, alive))}")
                self.kill(*alive)

    def _signal(self, name: str, number: int) -> None:
        if number in (signal.SIGKILL, signal.SIGTERM):
            self._told.add(name)
        if number != signal.SIGCONT:
            self._note(f"{signal.Signals(number).name} to {name}")
        self._children.signal(name, number)

    def _reap(self) -> None:
        for child, code in self._children.exits():
            self._take(self._children.rest(child))
            self._ended(child, code)

    def _ended(self, child: Child, code: int) -> None:
        self._note(f"{child.name} ended: {child.why(code)}")
        self.codes.setdefault(child.name, []).append(code)
        self.fatal[child.name] = child.why(code)
        if code and child.name not in self._told and child.name not in self._kept:
            self.died[child.name] = child.why(code)
        if child.name in self._kept:
            self._again[child.name] = time.monotonic() + AGAIN_S

    def _take(self, said: Iterable[Said]) -> None:
        for one in said:
            heard = Heard(time.monotonic(), one.child, one.kind, one.record)
            self.heard.append(heard)
            if one.kind == "status" and one.record.get("event") == "closed":
                self.closed = one.record
            if one.kind == "log" or one.record.get("event") != "progress":
                self._write_log(heard)

    def _note(self, text: str) -> None:
        self._write_log(Heard(time.monotonic(), "kit", "log", {"message": text}))

    def _write_log(self, heard: Heard) -> None:
        line = {"at": round(heard.at, 3), "from": heard.child, **heard.record}
        self._log.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
        self._log.flush()

    def _write(self, name: str, fleet: config.Fleet) -> str:
        path = self.folder / f"{name}.json"
        path.write_bytes(config.dump(fleet))
        return str(path)
