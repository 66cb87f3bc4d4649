"""``headrace run``: broker, sink, workers and a producer a stream, as children over ipc in a private folder.

Parts that die are started again; the ends repair what was under way. A stream that ends, well or badly, ends alone; the
run ends with the last one. Whatever happens, no process and no file of ours is left: children follow their parent into
death and the last one removes the folder.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Protocol

import msgspec

from common import config
from common.errors import Exit, LinkError, ModelError, OutputError
from deploy.ailing import Ailing
from deploy.checks import check_model, error_of
from deploy.children import Child, Children, Said, command_of
from deploy.control import Server
from deploy.deaths import MAX_DEATHS, Deaths
from deploy.folder import Home
from deploy.manage import Manager
from deploy.streams import PLAYABLE, StreamLife, Streams, part_of, stream_in
from deploy.upkeep import Upkeep, reason_of

#: A part that was told to stop gets this long, in seconds, before it is killed.
STOP_S = 8.0
#: The same where nothing can be saved any more.
ABANDON_S = 1.0
#: A signal that is ignored already stays so: nohup means that the run outlives its terminal.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

#: What a part ends with where it was told something wrong.
MISTAKES = (Exit.MODEL, Exit.USAGE)
_REST_IS_THERE = f"{PLAYABLE}; start the run again"


class Display(Protocol):
    """What shows the run to a person."""

    def said(self, said: Said) -> None: ...
    def note(self, text: str) -> None: ...
    def tick(self, streams: Streams, ailing: Ailing) -> None: ...


class Run:
    """One run of the fleet that ``build`` makes in a private folder. ``name``: what ``headrace streams`` calls it.

    ``streams`` knows afterwards how each of them ended.
    """

    def __init__(self, build: Callable[[Path], config.Fleet], display: Display, name: str = "") -> None:
        self._build, self._display, self._name = build, display, name
        self._interrupts = 0
        self._deaths = Deaths()
        self._ready: set[str] = set()
        self._ailing = Ailing()
        self._manager: Manager | None = None
        self._upkeep: Upkeep | None = None
        self.streams = Streams([], 0.0)

    def __call__(self) -> Exit:
        """Run to the end. Raises HeadraceError with the first cause."""
        previous = {
            number: signal.signal(number, self._on_signal)
            for number in SIGNALS
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
        }
        self._home = Home()
        self._children = Children(str(self._home.path))
        try:
            return self._run()
        finally:
            self._stop(ABANDON_S)
            if self._manager is not None:
                self._manager.close()
            self._home.close()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _run(self) -> Exit:
        self._fleet = self._build(self._home.path)
        check_model(self._fleet.workers.model)
        if self._interrupts:
            return Exit.INTERRUPTED
        self.streams = Streams(self._fleet.streams, time.monotonic())
        try:
            self.write()
            server = Server(self._home.path)
            self._children.watch(server.fileno())
            self._manager = Manager(self, self._fleet, self._name, server)
            self._upkeep = Upkeep(self._home, server, self._fleet, self._children.alive, self.note)
            # The slowest to start first: torch takes seconds to import.
            workers = [f"worker-{number}" for number in range(1, self._fleet.workers.count + 1)]
            for name in (*workers, "broker", "sink", *(part_of(life.name) for life in self.streams)):
                self.start(name)
        except OSError as error:
            raise LinkError(f"the fleet cannot be started: {reason_of(error)}") from None
        return self._watch(self._manager, self._upkeep)

    # -- what the manager uses ---------------------------------------------------------------------------------------

    @property
    def ailing(self) -> Ailing:
        return self._ailing

    @property
    def stopping(self) -> bool:
        """Whether the run was told to end."""
        return self._interrupts > 0

    @property
    def has_sink(self) -> bool:
        return "sink" in self._children.alive

    def write(self) -> None:
        """The configuration as it is now, for parts that start and for the sink, which looks at it again and again.

        Raises OSError.
        """
        streams = [life.config for life in self.streams if not life.dropped]
        if streams:  # without any, the run is over
            self._mend()
            self._home.write(config.dump(msgspec.structs.replace(self._fleet, streams=streams)))

    def start(self, name: str) -> None:
        """Start a part, for the first time or again. Raises OSError."""
        self._mend()
        if self._upkeep is not None:
            self.kill(*self._upkeep.in_the_way(name))
        life = self.streams.get(stream_in(name))
        module, more = command_of(name)
        stdin = life is not None and life.config.source == "-"
        if life is not None and life.known:
            more = ["--again", *more]
        self._children.start(name, module, ["-c", str(self._home.config), *more], stdin)
        if life is not None:
            life.down = False

    def _mend(self) -> None:
        """Raises OSError."""
        if self._upkeep is not None:
            self._upkeep.mend()

    def drain(self, life: StreamLife) -> None:
        """Tell a stream to come to its end: what is under way is finished."""
        life.leaving = True
        part = part_of(life.name)
        if part in self._children.alive:
            self._children.signal(part)
        elif life.down:  # it died, and need not come back for this
            life.exited(Exit.INTERRUPTED, "", time.monotonic())
        self._deaths.forget(part)

    def kill(self, *names: str) -> None:
        for name in names:
            self._children.signal(name, signal.SIGKILL)

    def forget(self, life: StreamLife) -> None:
        """Nothing is left of a stream that was removed."""
        self.streams.drop(life.name)
        self._ailing.forget(part_of(life.name))
        self._deaths.forget(part_of(life.name))

    def note(self, text: str) -> None:
        self._display.note(text)

    # -- the loop ----------------------------------------------------------------------------------------------------

    def _watch(self, manager: Manager, upkeep: Upkeep) -> Exit:
        told = False
        while True:
            self._hear(self._children.listen(0.1))
            now = time.monotonic()
            manager.serve(now)
            self._display.tick(self.streams, self._ailing)
            if self._interrupts > 1:
                self.kill(*self._children.alive)
                return Exit.INTERRUPTED
            if self._interrupts and not told:
                told = True
                self.note("stopping: what is under way is finished first (again: stop at once)")
                for life in self.streams:
                    self.drain(life)
            for child, code in self._children.exits():
                self._hear(self._children.rest(child))
                its_stream = self.streams.get(stream_in(child.name))
                if its_stream is not None:
                    self._producer_ended(its_stream, child, code, now)
                elif stream_in(child.name) is None:
                    self._bury(child, code, now)
            for ended in self.streams.settle(now, self.has_sink):
                self._ended(ended)
            manager.tidy(now)
            if self.streams.over:
                return self._verdict()
            for name in self._deaths.due(now):
                self._restart(name, now)
            upkeep.look_after(now)

    def _restart(self, name: str, now: float) -> None:
        try:
            self.start(name)
        except OSError as error:
            why, life = f"it cannot be started: {reason_of(error)}", self.streams.get(stream_in(name))
            if life is None:
                self._shared_died(name, why, 0.0, now)
            else:
                self._producer_died(life, why, 0.0, now)

    def _producer_ended(self, life: StreamLife, child: Child, code: int, now: float) -> None:
        # Told to stop before it could listen, it was ended by the signal: that is no accident.
        if not life.leaving and self._is_accident(child, code):
            self._producer_died(life, child.why(code), now - child.started, now)
        else:
            life.exited(code, child.fatal or f"the producer ended: {child.why(code)}; {_REST_IS_THERE}", now)

    def _producer_died(self, life: StreamLife, why: str, lived: float, now: float) -> None:
        part = part_of(life.name)
        if self._deaths.died(part, lived, life.reached, now):
            life.down = True
            self.note(f"{part} died ({why}); it is started again")
        else:
            times = f"the producer died {MAX_DEATHS + 1} times without having worked"
            life.exited(Exit.LINK, f"{times}, the last time: {why}", now)

    def _bury(self, child: Child, code: int, now: float) -> None:
        """A part that all share has ended before its time."""
        why = child.why(code)
        self._ready.discard(child.name)
        if not self._is_accident(child, code):
            if child.name == "sink":
                # Nothing can be written any more, so nothing is worth waiting for.
                raise (OutputError if code == Exit.OUTPUT else LinkError)(f"the sink ended: {why}; {_REST_IS_THERE}")
            if code in MISTAKES:
                self._stop(STOP_S)  # what was written so far is closed
                raise error_of(code, why)
        self._shared_died(child.name, why, now - child.started, now)

    def _shared_died(self, name: str, why: str, lived: float, now: float) -> None:
        if not self._deaths.died(name, lived, self._reached(name), now):
            self._stop(STOP_S)
            kind = ModelError if name.startswith("worker") else LinkError
            raise kind(f"{name} died {MAX_DEATHS + 1} times without having worked, the last time: {why}")
        self.note(f"{name} died ({why}); it is started again")

    def _is_accident(self, child: Child, code: int) -> bool:
        """Whether a part that ended with ``code`` is worth another try: it was killed, or ran into a bug. What it was
        told was right when it was started first, and is no mistake later."""
        return code < 0 or code == Exit.CRASH or (code in MISTAKES and self._deaths.knows(child.name))

    def _reached(self, name: str) -> int:
        return self.streams.reached if name == "sink" else 0

    def _ended(self, life: StreamLife) -> None:
        """A stream has come to its end."""
        assert life.ended is not None
        if self.streams.several:
            why = f": {life.ended.why}" if life.ended.why else ""
            self.note(f"{life.name} {'was removed' if life.removed else 'has ended'}, {life.frames} frames{why}")

    def _verdict(self) -> Exit:
        self._stop(STOP_S)
        if self._interrupts:
            return Exit.INTERRUPTED
        code = self.streams.code
        if not self.streams.several and code not in (Exit.OK, Exit.INCOMPLETE):
            raise error_of(code, "".join(life.ended.why for life in self.streams if life.ended is not None))
        return code

    def _stop(self, seconds: float) -> None:
        """Stop all that runs; a worker that never got ready holds nothing and is not waited for."""
        self.kill(*(name for name in self._children.alive if name.startswith("worker") and name not in self._ready))
        rest = [name for name in self._children.alive if name != "sink"]
        self._hear(self._children.stop([*rest, "sink"], seconds))

    def _hear(self, said: Iterable[Said]) -> None:
        now = time.monotonic()
        for one in said:
            if one.kind == "status":
                event = one.record.get("event")
                if event == "ready":
                    self._ready.add(one.child)
                elif event == "working":
                    self._deaths.worked(one.child)
                if "troubles" in one.record:
                    self._ailing.hear(one.child, one.record["troubles"], now)
                self.streams.hear(one.child, one.record, now)
                if self._manager is not None:
                    self._manager.hear(one)
            self._display.said(one)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # A terminal that goes away says so more than once, the shell and the kernel.
        self._interrupts = max(1, self._interrupts) if number == signal.SIGHUP else self._interrupts + 1
