"""The sink's second thread: decodes the original packets again, pairs pictures with decisions, draws, encodes, writes.

Only this thread touches decoders, encoders and files. It takes commands in order from a queue and tells the outcome
of each frame back. The queue is bounded by ``full``, which makes the service stop accepting from the media link; in
live mode a frame that has waited too long in it is not encoded (:class:`Overload`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from common.log import about
from common.messages import Filler, Notice, Packet
from sink.ledger import State
from sink.outputs.partfile import DiskFull
from sink.outputs.place import Mark
from sink.overload import Overload
from sink.reel import Changed
from sink.reorder import Decision
from sink.studio import Studio

#: Most bytes of packets that may wait here before the link is held up.
MAX_QUEUED_BYTES = 256 * 2**20
MAX_QUEUED = 65536
#: Seconds between two looks at how far the outputs can be relied on.
MARK_S = 0.25
#: A live stream that is behind by so many times the bound of sink/overload.py takes nothing in: its producer then
#: leaves packets out.
HOPELESS = 2.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where a frame ended. ``seconds``: how long it was worked on here."""

    index: int
    state: State
    reason: str
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Marked:
    """How far the outputs can be relied on: all frames up to ``durable`` are on disk in every file output, −1 for none.
    Comes after the outcomes of these frames."""

    durable: int
    marks: list[Mark]


@dataclass(frozen=True, slots=True)
class Finished:
    """All outputs are closed; ``error`` is the first output that failed, "" if none did. ``full``: they are not, since
    a disk is full and nothing may be lost; they are to be gone on with from the last :class:`Marked`."""

    error: str
    crash: BaseException | None = None
    full: str = ""


@dataclass(frozen=True, slots=True)
class _Due:
    """A decision, and when it was taken."""

    decision: Decision
    at: float


@dataclass(frozen=True, slots=True)
class _Fill:
    """A placeholder; ``away``: nothing comes of the source meanwhile."""

    filler: Filler
    away: bool


Command = tuple[Packet, bytes] | Notice | Changed | _Fill | _Due | None


class Renderer:
    """Runs a :class:`Studio` in a thread. ``notify`` is called there when an outcome can be fetched. ``stream``: its
    name, for the log."""

    def __init__(self, studio: Studio, notify: Callable[[], None], overload: Overload, stream: str = "") -> None:
        self._stream = stream
        self._studio, self._notify, self._overload = studio, notify, overload
        self._commands: deque[Command] = deque()
        self._outcomes: deque[Outcome | Marked | Finished] = deque()  # one for each decision: bounded by the window
        self._bytes = 0
        self._due: deque[float] = deque()  # when the decisions among the commands were taken
        self._next_mark = 0.0
        self._goes_on = False
        self._busy: float | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="render", daemon=True)
        self._thread.start()

    @property
    def dead(self) -> bool:
        """Every output has failed."""
        return self._studio.dead

    @property
    def error(self) -> str:
        """The first output that failed, "" if none did."""
        return self._studio.error

    def troubles(self) -> dict[str, str]:
        """What is wrong with outputs that may recover: address → a line for a person."""
        return self._studio.troubles()

    def sent(self) -> list[dict[str, Any]]:
        """How it stands with each network output."""
        return self._studio.sent()

    def stuck(self, now: float) -> float:
        """For how many seconds the thread has been at one command, 0.0 where it waits for the next."""
        busy = self._busy
        return 0.0 if busy is None else max(0.0, now - busy)

    @property
    def full(self) -> bool:
        """Whether nothing more is to be taken in for now."""
        with self._changed:
            if self._bytes + self._studio.held_bytes > MAX_QUEUED_BYTES or len(self._commands) > MAX_QUEUED:
                return True
            # Live: leaving out the encoding does not help, since decoding alone takes too long.
            bound = self._overload.bound
            return bound is not None and bool(self._due) and time.monotonic() - self._due[0] > HOPELESS * bound

    def packet(self, header: Packet, payload: bytes) -> None:
        self._put((header, payload), len(payload))

    def announce(self, notice: Notice) -> None:
        self._put(notice)

    def change(self, changed: Changed) -> None:
        """What follows is of other tracks."""
        self._put(changed, changed.cost)

    def fill(self, filler: Filler, away: bool) -> None:
        """Show a placeholder after the last decision. ``away``: nothing comes of the source meanwhile."""
        self._put(_Fill(filler, away))

    def decide(self, decision: Decision) -> None:
        now = time.monotonic()
        self._due.append(now)
        self._put(_Due(decision, now))

    def end(self, goes_on: bool = False) -> None:
        """Close all outputs; a :class:`Finished` follows. ``goes_on``: another epoch does, too."""
        self._goes_on = goes_on
        self._put(None)

    def outcomes(self) -> list[Outcome | Marked | Finished]:
        """What has happened since the last call."""
        with self._changed:
            taken = list(self._outcomes)
            self._outcomes.clear()
        return taken

    def _put(self, command: Command, size: int = 0) -> None:
        with self._changed:
            self._commands.append(command)
            self._bytes += size
            self._changed.notify()

    def _tell(self, outcome: Outcome | Marked | Finished) -> None:
        with self._changed:
            first = not self._outcomes
            self._outcomes.append(outcome)
        if first:  # otherwise a wake-up is already under way
            self._notify()

    def _run(self) -> None:
        crash: BaseException | None = None
        full = ""
        about(stream=self._stream or None)
        try:
            self._studio.open()
            while (command := self._next()) is not None:
                self._busy = time.monotonic()
                self._perform(command)
                self._busy = None
            self._studio.close(self._goes_on)
            self._tell(Marked(self._studio.durable, self._studio.marks()))
        except DiskFull as error:
            full = str(error)
            self._studio.abandon()
        except Exception as error:  # noqa: BLE001  told to the main thread, which crashes the part with it
            crash = error
            self._studio.abandon()
        self._tell(Finished(self._studio.error, crash, full))

    def _next(self) -> Command:
        with self._changed:
            while not self._commands:
                self._changed.wait()
            command = self._commands.popleft()
            if isinstance(command, tuple):
                self._bytes -= len(command[1])
            elif isinstance(command, Changed):
                self._bytes -= command.cost
            return command

    def _perform(self, command: Command) -> None:
        if isinstance(command, tuple):
            self._studio.packet(*command)
        elif isinstance(command, Notice):
            self._studio.announce(command)
        elif isinstance(command, Changed):
            self._studio.change(command)
        elif isinstance(command, _Fill):
            self._studio.fill(command.filler, command.away)
            self._mark()
        elif isinstance(command, _Due):
            began = time.monotonic()
            state, reason = self._show(command.decision, command.at)
            with self._changed:
                self._due.popleft()
            self._tell(Outcome(command.decision.index, state, reason, time.monotonic() - began))
            self._mark()

    def _show(self, decision: Decision, at: float) -> tuple[State, str]:
        # Only encoding is worth leaving out.
        dear = self._studio.wants_media and decision.state is not State.LOST
        if dear and self._overload.skip(at, time.monotonic()):
            return self._studio.skip(decision, "sink_overload")
        return self._studio.show(decision)

    def _mark(self) -> None:
        now = time.monotonic()
        if now >= self._next_mark:
            self._next_mark = now + MARK_S
            self._tell(Marked(self._studio.durable, self._studio.marks()))
