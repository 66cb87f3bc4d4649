"""Streams that have come to their end: it is written down, so that no start of the node begins them again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any, Protocol

import msgspec

from common.errors import Exit
from deploy.node.folder import Ended
from deploy.node.node import Node
from deploy.node.plan import Part
from deploy.node.supervisor import Process
from deploy.streams import stream_in

#: The sink and the producer end a stream together. So long, in seconds, the sink's word is waited for.
WORD_S = 3.0
#: Exit codes of a stream that has come to its own end.
DONE = (Exit.OK, Exit.INCOMPLETE)


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
        self._closed: dict[str, dict[str, Any]] = {}
        self._exited: dict[tuple[str, int], float] = {}
        self._written: set[tuple[str, int]] = set()
        self._due: dict[str, Ended] = {}

    def hear(self, name: str, record: dict[str, Any]) -> None:
        if name == "sink" and record.get("event") == "closed" and isinstance(stream := record.get("stream"), str):
            self._closed[stream] = record

    def look(self, lives: Iterable[Life], now: float, wall: float) -> dict[str, Ended]:
        """What has ended since, and is to be written. ``now``: of the monotonic clock; ``wall``: seconds since the
        epoch."""
        found: dict[str, Ended] = {}
        for life in lives:
            stream, process = stream_in(life.part.name), life.process
            if stream is None or process is None or (stream, process.started) in self._written:
                continue
            # Supervisor takes what has ended at once for what cannot be started.
            brief = process.state in ("BACKOFF", "FATAL") and process.code in DONE
            if not brief and (process.state != "EXITED" or process.code not in life.part.final):
                continue
            since = self._exited.setdefault((stream, process.started), now)
            if stream not in self._closed and now < since + WORD_S:
                continue
            del self._exited[stream, process.started]
            self._written.add((stream, process.started))
            closed = self._closed.pop(stream, {})
            states = closed.get("states") if isinstance(closed.get("states"), dict) else {}
            why = str(closed.get("error") or (life.why if process.code else ""))
            found[stream] = Ended(code=process.code, why=why, states=states or {}, at=wall)
        self._due.update(found)
        return found

    def write(self, node: Node) -> None:
        """Write down what is due, unless somebody changes the node just now: it may wait for us, so we do not wait."""
        if not self._due:
            return
        with contextlib.suppress(BlockingIOError), node.folder.changing(wait=False):
            state, names = node.state, {stream.name for stream in node.fleet().streams}
            ended = {name: end for name, end in self._due.items() if name in names}
            node.folder.write_state(msgspec.structs.replace(state, ended={**state.ended, **ended}))
            self._due = {}
