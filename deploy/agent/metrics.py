"""The metrics of a whole node: what each part has sent last, with its name as a label ``part``, and the node's own.

A part sends rounds of chunks (common/metrics.py). A round counts when all of it is here, and the one before until then.
What is no snapshot is dropped and counted; what is kept of a part is bounded. A part that has said nothing for
:data:`STALE_S` seconds is left out: numbers of then are not of now.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from common.metrics import Family, Metrics, cumulated

#: Most parts, and of one part most families and rows.
MAX_PARTS, MAX_FAMILIES, MAX_ROWS = 1024, 256, 20_000
#: A part's numbers are shown for so long, in seconds, after its last word.
STALE_S = 15.0
#: States of a part: those of supervisor, in small letters.
STATES = ("stopped", "starting", "running", "backoff", "stopping", "exited", "fatal", "unknown")
#: The name of this part.
AGENT = "agent"
#: Prefixes of the names of families that parts may send.
PREFIXES = ("headrace_", "process_")

FAMILIES = (
    Family("gauge", "part_up", "1 while the part runs.", ("part",)),
    Family("gauge", "part_state", "1 for the state that the part is in, 0 for the others.", ("part", "state")),
    Family("counter", "part_restarts", "Times that the part was started again, having ended by itself.", ("part",)),
    Family("gauge", "part_uptime_seconds", "Since the part was started; 0 while it does not run.", ("part",)),
    Family("gauge", "part_silent_seconds", "Since the part has sent its metrics last.", ("part",)),
    Family("counter", "metrics_refused", "Messages with metrics that made no sense or were too much.", ("part",)),
)  # fmt: skip

_Name = Annotated[str, msgspec.Meta(max_length=200, pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*\Z")]
_Label = Annotated[str, msgspec.Meta(max_length=1000)]
_Labels = Annotated[list[_Label], msgspec.Meta(max_length=16)]
_Row = tuple[_Labels, float]
_Buckets = tuple[_Labels, Annotated[list[int], msgspec.Meta(max_length=100)], float]


class _Family(msgspec.Struct, frozen=True):
    """As common/snapshot.py has it."""

    name: _Name
    kind: Literal["gauge", "counter", "histogram"]
    help: Annotated[str, msgspec.Meta(max_length=1000)]
    labels: Annotated[list[_Name], msgspec.Meta(max_length=16)]
    rows: list[list[Any]]
    bounds: Annotated[list[float], msgspec.Meta(max_length=100)] = []


class _Chunk(msgspec.Struct, frozen=True):
    round: int
    index: Annotated[int, msgspec.Meta(ge=0)]
    of: Annotated[int, msgspec.Meta(ge=1, le=MAX_FAMILIES)]
    families: Annotated[list[_Family], msgspec.Meta(max_length=MAX_FAMILIES)]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A family, or some of its rows."""

    family: _Family
    rows: list[Any]


@dataclass(slots=True)
class _Part:
    """What a part has sent: the last whole round, and the chunks of the one that comes."""

    pieces: list[_Piece] = field(default_factory=list)
    heard: float = 0.0
    round: int | None = None
    chunks: dict[int, list[_Piece]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Run:
    """How it stands with a part, as supervisor has said at ``at``."""

    state: str
    restarts: int
    uptime: float
    at: float


class Exposed:
    """``clock``: seconds of any origin. ``registry`` has everything, :meth:`text` is what Prometheus reads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._parts: dict[str, _Part] = {}
        self._runs: dict[str, _Run] = {}
        self._refused: dict[str, int] = {}
        self._agent = Metrics()  # this process's own
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def hear(self, part: str, record: dict[str, Any]) -> None:
        """A line ``{"event": "metrics", "round", "index", "of", "families"}`` of a part."""
        known = self._parts.get(part)
        if known is None:
            if len(self._parts) >= MAX_PARTS:
                return
            known = self._parts[part] = _Part()
        try:
            chunk = msgspec.convert(record, _Chunk)
            if chunk.index >= chunk.of:
                raise ValueError("a chunk beyond the last")
            pieces = [_piece(family) for family in chunk.families]
        except (msgspec.ValidationError, ValueError, OverflowError):
            self._refuse(part)
            return
        if chunk.round != known.round:  # of the one before chunks were lost
            known.round, known.chunks = chunk.round, {}
        known.chunks[chunk.index] = pieces
        kept = [piece for chunks in known.chunks.values() for piece in chunks]
        if _is_too_much(kept):
            known.chunks = {}
            self._refuse(part)
        elif len(known.chunks) == chunk.of:
            known.pieces, known.chunks, known.heard = kept, {}, self._clock()

    def _refuse(self, part: str) -> None:
        self._refused[part] = self._refused.get(part, 0) + 1

    def part(self, name: str, state: str, restarts: int, uptime: float) -> None:
        """How it stands with a part, again and again: ``state`` is supervisor's, in any letters; ``uptime`` in
        seconds."""
        state = state.lower()
        if name in self._runs or len(self._runs) < MAX_PARTS:
            self._runs[name] = _Run(state if state in STATES else "unknown", restarts, uptime or 0.0, self._clock())

    def forget(self, part: str) -> None:
        """The part has left: its numbers are no longer shown."""
        self._parts.pop(part, None)

    def text(self) -> tuple[bytes, str]:
        """The page for Prometheus, and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_PLAIN_0_0_4

    def collect(self) -> Iterator[Metric]:
        """All families, each once."""
        now = self._clock()
        # A part that is no longer one of this node is not spoken of any more.
        self._runs = {name: run for name, run in self._runs.items() if now - run.at <= STALE_S}
        yield from self._own(now)
        families: dict[str, Metric] = {}
        shown = {name: one.pieces for name, one in self._parts.items() if one.heard and now - one.heard <= STALE_S}
        shown[AGENT] = [_piece(msgspec.convert(family, _Family)) for family in self._agent.snapshot()]
        for name, pieces in shown.items():
            for piece in pieces:
                metric = families.setdefault(piece.family.name, _empty(piece.family))
                if metric.type == piece.family.kind:  # of two versions that do not agree, one is shown
                    _add(metric, name, piece)
        yield from families.values()

    def _own(self, now: float) -> Iterator[Metric]:
        up, state, restarts, uptime, silent, refused = (
            _simple(one.kind, f"headrace_{one.name}", one.help, one.labels) for one in FAMILIES
        )
        for name, run in self._runs.items():
            up.add_metric([name], run.state == "running")
            for one in STATES:
                state.add_metric([name, one], one == run.state)
            restarts.add_metric([name], run.restarts)
            uptime.add_metric([name], run.uptime if run.state == "running" else 0.0)
        for name, part in self._parts.items():
            if part.heard:
                silent.add_metric([name], max(0.0, now - part.heard))
        for name, count in self._refused.items():
            refused.add_metric([name], count)
        yield from (up, state, restarts, uptime, silent, refused)


def _simple(kind: str, name: str, about: str, labels: Sequence[str]) -> GaugeMetricFamily | CounterMetricFamily:
    return (CounterMetricFamily if kind == "counter" else GaugeMetricFamily)(name, about, labels=labels)


def _piece(family: _Family) -> _Piece:
    """Raises ValueError where it is none."""
    if not family.name.startswith(PREFIXES) or {"part", "le"} & set(family.labels):
        raise ValueError("a name that is not a part's to give")
    if any(before >= after for before, after in zip(family.bounds, family.bounds[1:], strict=False)):
        raise ValueError("bounds that do not rise")
    rows: list[Any]
    if family.kind == "histogram":
        rows = msgspec.convert(family.rows, list[_Buckets])
        if any(len(counts) != len(family.bounds) + 1 or min(counts) < 0 for _, counts, _ in rows):
            raise ValueError("buckets that are not those of the bounds")
    else:
        rows = msgspec.convert(family.rows, list[_Row])
    if any(len(row[0]) != len(family.labels) or not math.isfinite(row[-1]) for row in rows):
        raise ValueError("a row that has not the family's labels, or no number")
    "".join((family.help, *(value for row in rows for value in row[0]))).encode()  # raises where it is no text
    return _Piece(family, rows)


def _is_too_much(pieces: list[_Piece]) -> bool:
    """More than a part may have, or a row twice."""
    names = {piece.family.name for piece in pieces}
    rows = [(piece.family.name, *row[0]) for piece in pieces for row in piece.rows]
    return len(names) > MAX_FAMILIES or len(rows) > MAX_ROWS or len(set(rows)) < len(rows)


def _empty(family: _Family) -> Metric:
    labels = ["part", *family.labels]
    if family.kind == "histogram":
        return HistogramMetricFamily(family.name, family.help, labels=labels)
    return _simple(family.kind, family.name, family.help, labels)


def _add(metric: Metric, part: str, piece: _Piece) -> None:
    """Rows of ``part``, whose labels may be others than those of the part that came first."""
    names = ["part", *piece.family.labels]
    for row in piece.rows:
        labels = dict(zip(names, [part, *row[0]], strict=True))
        name = piece.family.name
        if piece.family.kind == "histogram":
            for bound, count in cumulated(piece.family.bounds, row[1]):
                metric.add_sample(f"{name}_bucket", {**labels, "le": bound}, count)
            metric.add_sample(f"{name}_count", labels, sum(row[1]))
            metric.add_sample(f"{name}_sum", labels, row[2])
        else:
            metric.add_sample(name + ("_total" if piece.family.kind == "counter" else ""), labels, row[1])
