"""The sink's second thread: decodes the original packets again, pairs pictures with decisions, draws, encodes, writes.

Only this thread touches decoders, encoders and files. It takes commands in order from a queue and tells the outcome
of each frame back. The queue is bounded by ``full``, which makes the service stop accepting from the media link.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from common.errors import OutputError
from common.messages import Notice, Packet
from sink.ledger import State
from sink.reorder import Decision
from sink.studio import Studio

#: Most bytes of packets that may wait here before the link is held up.
MAX_QUEUED_BYTES = 256 * 2**20
MAX_QUEUED = 65536

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where a frame ended; ``durable`` is the last index that is on disk in every file output, −1 for none."""

    index: int
    state: State
    reason: str
    durable: int


@dataclass(frozen=True, slots=True)
class Finished:
    """All outputs are closed; ``error`` is the first output that failed, "" if none did."""

    error: str
    crash: BaseException | None = None


Command = tuple[Packet, bytes] | Notice | Decision | None


class Renderer:
    """Runs a :class:`Studio` in a thread. ``notify`` is called there when an outcome can be fetched."""

    def __init__(self, studio: Studio, notify: Callable[[], None]) -> None:
        self._studio, self._notify = studio, notify
        self._commands: deque[Command] = deque()
        self._outcomes: deque[Outcome | Finished] = deque()  # one for each decision: bounded by the window
        self._bytes = 0
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="render", daemon=True)
        self._thread.start()

    @property
    def dead(self) -> bool:
        """Every output has failed."""
        return self._studio.dead

    @property
    def full(self) -> bool:
        with self._changed:
            return self._bytes + self._studio.held_bytes > MAX_QUEUED_BYTES or len(self._commands) > MAX_QUEUED

    def packet(self, header: Packet, payload: bytes) -> None:
        self._put((header, payload), len(payload))

    def announce(self, notice: Notice) -> None:
        self._put(notice)

    def decide(self, decision: Decision) -> None:
        self._put(decision)

    def end(self) -> None:
        """Close all outputs; a :class:`Finished` follows."""
        self._put(None)

    def outcomes(self) -> list[Outcome | Finished]:
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

    def _tell(self, outcome: Outcome | Finished) -> None:
        with self._changed:
            first = not self._outcomes
            self._outcomes.append(outcome)
        if first:  # otherwise a wake-up is already under way
            self._notify()

    def _run(self) -> None:
        crash: BaseException | None = None
        try:
            while (command := self._next()) is not None:
                self._perform(command)
        except Exception as error:  # noqa: BLE001  told to the main thread, which crashes the part with it
            crash = error
        error_text = ""
        try:
            self._studio.close()
        except OutputError as error:
            log.error("%s", error)
        except Exception as error:  # noqa: BLE001  without a Finished the sink would wait for ever
            crash = crash or error
        error_text = self._studio.error
        self._tell(Finished(error_text, crash))

    def _next(self) -> Command:
        with self._changed:
            while not self._commands:
                self._changed.wait()
            command = self._commands.popleft()
            if isinstance(command, tuple):
                self._bytes -= len(command[1])
            return command

    def _perform(self, command: Command) -> None:
        if isinstance(command, tuple):
            self._studio.packet(*command)
        elif isinstance(command, Notice):
            self._studio.announce(command)
        elif isinstance(command, Decision):
            state, reason = self._studio.show(command)
            self._tell(Outcome(command.index, state, reason, self._studio.durable))
