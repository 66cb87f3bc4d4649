"""Streams that have come to their end: it is written down, so that no start of the node begins them again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any, Protocol

import msgspec

from deploy.node.folder import Ended
from deploy.node.node import Node
from deploy.node.plan import Part, program_of
from deploy.node.supervisor import Process
from deploy.streams import part_of, stream_in

#: The sink and the producer end a stream together. So long, in seconds, the sink's word is waited for.
WORD_S = 3.0


class Life(Protocol):
    @property
    def part(self) -> Part: ...
    @property
    def process(self) -> Process | None: ...
    @property
    def why(self) -> str: ...


class Endings:
    """``hear`` takes the sink's last word on a stream, ``look`` finds those that have ended, ``write`` notes them."""

    def __init__(self) -> None:
        self._closed: dict[str, tuple[float, dict[str, Any]]] = {}
        self._exited: dict[tuple[str, int], float] = {}
        self._found: set[tuple[str, int]] = set()
        self._due: dict[str, tuple[int, Ended]] = {}  # stream → the start of the process that has ended, and how

    def hear(self, name: str, record: dict[str, Any], wall: float) -> None:
        """A line of a part. ``wall``: seconds since the epoch."""
        if name == "sink" and record.get("event") == "closed" and isinstance(stream := record.get("stream"), str):
            self._closed[stream] = wall, record

    def look(self, lives: Iterable[Life], now: float, wall: float) -> list[str]:
        """Streams that have ended since, which are to be written. ``now``: of the monotonic clock."""
        found: list[str] = []
        for life in lives:
            stream, process = stream_in(life.part.name), life.process
            if stream is None or process is None or (stream, process.started) in self._found:
                continue
            at, closed = self._closed.get(stream, (0.0, {}))
            said = at >= process.started  # and not of another process before
            # Supervisor takes what has ended at once for what cannot be started, and forgets with what code.
            brief = process.failed and said
            if not brief and (process.state != "EXITED" or process.code not in life.part.final):
                continue
            since = self._exited.setdefault((stream, process.started), now)
            if not said and now < since + WORD_S:
                continue
            del self._exited[stream, process.started]
            self._found.add((stream, process.started))
            closed = closed if said else {}
            states = closed.get("states") if isinstance(closed.get("states"), dict) else {}
            why = str(closed.get("error") or (life.why if process.code else ""))
            ended = Ended(code=process.code, why=why, states=states or {}, at=wall)
            self._due[stream] = process.started, ended
            found.append(stream)
        return found

    def write(self, node: Node) -> None:
        """Write down what is due, unless somebody changes the node just now: it may wait for us, so we do not wait.
        Raises HeadraceError."""
        if not self._due:
            return
        with contextlib.suppress(BlockingIOError), node.folder.changing(wait=0):
            state, there = node.state, node.supervisor.processes()
            names = {stream.name for stream in node.fleet().streams}
            ended = {
                name: end
                for name, (started, end) in self._due.items()
                # Another stream may have its name by now, and another process.
                if name in names and (one := there.get(program_of(part_of(name)))) and one.started == started
            }
            node.folder.write_state(msgspec.structs.replace(state, ended={**ended, **state.ended}))
            self._due = {}
