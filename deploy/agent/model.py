"""What is known of a node, from its parts' lines and from supervisor, as one snapshot. Pure: time is an argument.

The snapshot is what ``headrace status --json``, ``headrace top`` and the page show; its keys are documented in
docs/operations.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from common.config import Fleet, Stream
from common.log import mask
from deploy.ailing import Ailing
from deploy.node.folder import State
from deploy.node.plan import AGENT, Part
from deploy.node.supervisor import Process
from deploy.streams import StreamLife, part_of, stream_in

#: A part that was started again so often within so many seconds crashes in a loop.
LOOP, LOOP_S = 3, 300.0
#: Most names of streams that the sink has that are remembered.
MAX_NAMES = 1024
#: What of the ends' own words is passed on.
BY_SINK = ("ages", "stages", "latency", "stage_medians", "annotated_fps", "output_fps")
BY_PRODUCER = ("fps", "resent", "gaps", "announced")
#: Says nothing of how a part fares.
_QUIET = frozenset({"hello", "metrics"})


class PartLife:
    """One part of the node: its process, and whether it works."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.process: Process | None = None
        self.restarts = 0
        self.why = ""
        self.ready_pid = 0
        self._starts: deque[float] = deque(maxlen=LOOP)

    def seen(self, process: Process | None, told: bool, now: float) -> bool:
        """What supervisor says. ``told``: it was stopped on purpose since the last start. Returns whether the part has
        died since the last look, so that its log is to be read."""
        before, self.process = self.process, process
        if process is None or before is None:
            return process is not None and process.over
        died = process.started != before.started != 0 and not told
        if died:
            self.restarts += 1
            self._starts.append(now)
        return died or (process.over and before != process)

    def loops(self, now: float) -> bool:
        """Whether it crashes in a loop."""
        if self.process is not None and self.process.failed:
            return True
        return len(self._starts) == LOOP and now - self._starts[0] < LOOP_S

    @property
    def ready(self) -> bool:
        """Whether it is this very process that has said that it works."""
        return self.process is not None and self.process.pid != 0 and self.ready_pid == self.process.pid

    def row(self, now: float, wall: float) -> dict[str, Any]:
        process = self.process
        running = process is not None and process.pid != 0
        return {
            "name": self.part.name,
            "program": self.part.program,
            "state": process.state.lower() if process is not None else "unknown",
            "ready": self.ready,
            "pid": process.pid if process is not None else 0,
            "uptime": max(0.0, wall - process.started) if running and process is not None else 0.0,
            "restarts": self.restarts,
            "crash_loop": self.loops(now),
            "code": process.code if process is not None else 0,
            "why": self.why,
            "gpu": self.part.environment.get("CUDA_VISIBLE_DEVICES", ""),
        }


class Model:
    """Everything; ``fleet``, ``state`` and ``parts`` are told anew when they change."""

    def __init__(self, pid: int) -> None:
        """``pid``: the agent's, which works as long as it can be asked."""
        self._pid = pid
        self.parts: dict[str, PartLife] = {}
        self.streams: dict[str, StreamLife] = {}
        self._state: State | None = None
        self._wants: dict[str, Any] = {}
        self._ailing = Ailing()
        self._broker: dict[str, Any] = {}
        self._by_sink: dict[str, dict[str, Any]] = {}
        self._by_producer: dict[str, dict[str, Any]] = {}
        self._by_worker: dict[str, dict[str, Any]] = {}
        self._sink_knows: dict[str, None] = {}

    def configure(self, fleet: Fleet, state: State, parts: Mapping[str, Part], now: float) -> None:
        """What is planned."""
        self._state = state
        self._wants = {key: getattr(fleet.workers, key) for key in ("count", "model", "batch")}
        self.parts = {part.name: self._life(part) for part in parts.values()}
        streams: dict[str, StreamLife] = {}
        for stream in fleet.streams if {"sink", "producers"}.intersection(state.roles) else ():
            known = self.streams.get(stream.name)
            if known is None or known.config != stream:
                known = StreamLife(stream, now)
            streams[stream.name] = known
        for name in self.streams.keys() - streams.keys():
            self._by_sink.pop(name, None)
            self._by_producer.pop(name, None)
            self._ailing.forget(part_of(name))
        self.streams = streams

    def _life(self, part: Part) -> PartLife:
        known = self.parts.get(part.name)
        if known is None:
            known = PartLife(part)
            known.ready_pid = self._pid if part.name == AGENT else 0
        known.part = part
        return known

    def hear(self, name: str, record: dict[str, Any], pid: int, now: float) -> None:
        """A record of the part ``name``, whose process is ``pid``."""
        event = record.get("event")
        if (life := self.parts.get(name)) is not None:
            # A worker is ready when its model is loaded; the others are as soon as they speak of their work.
            ready = event == "ready" if name.startswith("worker") else event not in _QUIET
            if ready or (event == "progress" and name.startswith("worker")):
                life.ready_pid = pid
        if isinstance(troubles := record.get("troubles"), list):
            self._ailing.hear(name, troubles, now)
        its_stream = str(record.get("stream", "")) if name == "sink" else stream_in(name)
        if name == "sink" and its_stream:
            if event == "forgotten":
                self._sink_knows.pop(its_stream, None)
            elif len(self._sink_knows) < MAX_NAMES:
                self._sink_knows[its_stream] = None
        if name == "broker" and event == "progress":
            self._broker = record
        elif name.startswith("worker") and event in ("progress", "ready"):
            self._by_worker[name] = {**self._by_worker.get(name, {}), **record}
        if its_stream and (stream := self.streams.get(its_stream)) is not None:
            stream.hear(name == "sink", record, now)
            table = self._by_sink if name == "sink" else self._by_producer
            if event in ("progress", "opening", "closed", "source"):
                table[its_stream] = {**table.get(its_stream, {}), **record}

    def gone(self, name: str) -> None:
        """A part has left."""
        self._ailing.forget(name)
        if name == "broker":
            self._broker = {}
        elif name == "sink":
            self._sink_knows.clear()
        self._by_worker.pop(name, None)

    @property
    def file(self) -> str:
        """The person's file."""
        return self._state.file if self._state is not None else ""

    def snapshot(self, now: float, wall: float) -> dict[str, Any]:
        """``now``: of the monotonic clock; ``wall``: seconds since the epoch. JSON-able."""
        parts = [life.row(now, wall) for life in self.parts.values()]
        state = self._state
        return {
            "file": self.file,
            "roles": state.roles if state is not None else [],
            "run": state.run if state is not None else "",
            "time": wall,
            "parts": parts,
            "streams": [self._stream(life, state, now, wall) for life in self.streams.values()],
            "wants": self._wants,
            "workers": self._broker.get("pool", []),
            "broker": {key: value for key, value in self._broker.items() if key not in ("pool", "troubles", "event")},
            "sink_knows": list(self._sink_knows),
            "troubles": self._ailing.words(now),
        }

    def unready(self) -> list[str]:
        """What keeps the node from working, a line each."""
        lines = []
        workers = [life for name, life in self.parts.items() if name.startswith("worker")]
        for life in self.parts.values():
            if life.part.name == AGENT or life.part.name.startswith(("worker", "producer")):
                continue
            if not life.ready:
                lines.append(f"{life.part.name} does not work: {life.why or 'it is starting'}")
        if workers and not any(life.ready for life in workers):
            lines.append(f"no worker works: {workers[0].why or 'they are starting'}")
        return lines

    def _stream(self, life: StreamLife, state: State | None, now: float, wall: float) -> dict[str, Any]:
        stream = life.config
        by_sink, by_producer = self._by_sink.get(stream.name, {}), self._by_producer.get(stream.name, {})
        shown, why = self._shown(life, state)
        ended = state.ended.get(stream.name) if state is not None else None
        return {
            "name": stream.name,
            "source": mask(stream.source),
            "model": stream.model,
            "mode": stream.mode,
            "state": shown,
            "why": mask(why),
            "since": round(life.since(now) if ended is None else max(0.0, wall - ended.at), 1),
            "frames": life.resolved,
            "states": life.states or (ended.states if ended is not None else {}),
            "annotated": None if life.share is None else round(life.share, 4),
            "fps": round(life.rate(now), 2) if ended is None else 0.0,
            "epoch": life.epoch,
            "in_flight": life.in_flight,
            "waits_for": life.waits_for,
            "picture": {key: by_producer.get(key) for key in ("width", "height", "rate", "sound")},
            "outputs": self._outputs(stream, by_sink),
            "sink": {key: by_sink[key] for key in BY_SINK if key in by_sink},
            "producer": {key: by_producer[key] for key in BY_PRODUCER if key in by_producer},
            "troubles": self._ailing.words_of(stream.name, part_of(stream.name), now),
        }

    def _shown(self, life: StreamLife, state: State | None) -> tuple[str, str]:
        name = life.name
        if state is not None and name in state.ended:
            return "ended", state.ended[name].why
        if state is not None and name in state.paused:
            return "paused", ""
        part = self.parts.get(part_of(name))
        if part is not None and part.process is not None and part.process.over:
            return "failing" if part.process.failed else "ended", part.why
        return life.state, life.why

    @staticmethod
    def _outputs(stream: Stream, by_sink: Mapping[str, Any]) -> list[dict[str, Any]]:
        """As configured, with what the sink says of those that are sent."""
        said = {str(one.get("output")): one for one in by_sink.get("outputs") or [] if isinstance(one, dict)}
        rows = []
        for output in stream.outputs:
            shown = mask(output.path)
            counts = {key: value for key, value in said.get(shown, {}).items() if key not in ("output", "kind")}
            rows.append({"path": shown, "kind": output.kind, **counts})
        return rows

    def check(self) -> None:
        assert all(name == life.part.name for name, life in self.parts.items())
        assert len(self._sink_knows) <= MAX_NAMES
