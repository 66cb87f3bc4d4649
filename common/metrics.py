"""Prometheus metrics of one process, in tables of plain numbers (no module-level state).

A part declares its families, with what they mean, in a module ``gauges`` of its own; docs/metrics.md lists them all.
Under ``headrace up`` a snapshot goes to the node's agent once a second, which shows the union of all parts.
"""

from __future__ import annotations

import itertools
import platform
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol

from common import log
from common.errors import LinkError
from common.messages import VERSION
from common.process import usage
from common.snapshot import CHUNK, pack

# A part whose numbers only the node's agent reads does without these 6 MB.
if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

Kind = Literal["gauge", "counter", "histogram"]
Labels = tuple[str, ...]

#: Most stages that are told apart: workers name them. Those beyond are of the stage "other".
MAX_STAGES = 32
#: Most rows of one family, and longest value of a label, in characters.
MAX_ROWS, MAX_LABEL = 8192, 300
#: Seconds between two snapshots for the agent.
TELL_S = 1.0
#: Upper bounds of histograms, in seconds.
BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


@dataclass(frozen=True, slots=True)
class Family:
    """What is measured. ``name``: without ``headrace_`` and, for a counter, without ``_total``."""

    kind: Kind
    name: str
    help: str
    labels: Labels = ()
    #: Of a histogram: the upper bounds of its buckets, rising.
    bounds: tuple[float, ...] = BUCKETS_S

    @property
    def exported(self) -> str:
        """The name as Prometheus knows it."""
        return f"headrace_{self.name}{'_total' if self.kind == 'counter' else ''}"


#: What every part has beside its own; and ``process_*``, as all exporters have them.
COMMON = (
    Family("gauge", "build_info", "1; which version runs here.", ("version", "python", "protocol")),
    Family("gauge", "troubles", "Conditions in the way that last, as the log and `status` name them.", ("kind",)),
    Family("counter", "log_lines", "Lines that were logged.", ("level",)),
    Family("counter", "log_lost_lines", "Log lines that could not be written: a full disk, or nobody reads them."),
)
#: What every part has that hears of others.
REFUSED = Family("counter", "refused", "Messages that were refused, by socket and what was wrong.", ("socket", "kind"))


class Histogram:
    """Counts of values by bucket. Costs a third of a microsecond a value."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float] = BUCKETS_S) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Table:
    """The rows of one family by the values of their labels. Another thread may read it at any time."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.rows: dict[Labels, float] = {}
        self.histograms: dict[Labels, Histogram] = {}

    def set(self, value: float, *labels: str) -> None:
        if (key := self._key(labels)) in self.rows or len(self.rows) < MAX_ROWS:
            self.rows[key] = value + 0  # a truth becomes a number

    def add(self, amount: float, *labels: str) -> None:
        self.set(self.rows.get(self._key(labels), 0) + amount, *labels)

    def put(self, rows: Mapping[Labels, float] | Iterable[tuple[Labels, float]]) -> None:
        """These rows, and no others: what is gone leaves no labels behind."""
        pairs = itertools.islice(rows.items() if isinstance(rows, Mapping) else rows, MAX_ROWS)
        self.rows = {self._key(labels): value + 0 for labels, value in pairs}  # a truth becomes a number

    def of(self, *labels: str) -> Histogram:
        """The histogram with these labels, to keep and to tell of each value."""
        key = self._key(labels)
        found = self.histograms.get(key)
        if found is None:
            found = Histogram(self.family.bounds)
            if len(self.histograms) < MAX_ROWS:
                self.histograms[key] = found
        return found

    def forget(self, value: str) -> None:
        """The rows of which the first label is ``value``: of a stream that is gone."""
        self.rows = {key: row for key, row in self.rows.items() if key[0] != value}
        self.histograms = {key: row for key, row in self.histograms.items() if key[0] != value}

    def _key(self, labels: Iterable[str]) -> Labels:
        return tuple(value[:MAX_LABEL] for value in labels)

    def metric(self) -> Metric:
        """For Prometheus."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        family, name = self.family, f"headrace_{self.family.name}"
        if family.kind == "histogram":
            told = HistogramMetricFamily(name, family.help, labels=family.labels)
            for key, one in dict(self.histograms).items():
                told.add_metric(key, list(cumulated(one.bounds, list(one.counts))), one.sum)
            return told
        kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
        simple = kind(name, family.help, labels=family.labels)
        for key, value in dict(self.rows).items():
            simple.add_metric(key, value)
        return simple

    def snapshot(self) -> dict[str, Any] | None:
        """As JSON-able data (common/snapshot.py); None where there are no rows."""
        family = self.family
        told: dict[str, Any] = {
            "name": f"headrace_{family.name}", "kind": family.kind, "help": family.help, "labels": list(family.labels)
        }  # fmt: skip
        if family.kind == "histogram":
            told["bounds"] = list(family.bounds)
            told["rows"] = [[list(key), list(one.counts), one.sum] for key, one in self.histograms.items()]
        else:
            told["rows"] = [[list(key), value] for key, value in self.rows.items()]
        return told if told["rows"] else None


class Listener(Protocol):
    """A :class:`common.status.Status`."""

    @property
    def node(self) -> bool: ...
    def say(self, event: str, **fields: Any) -> None: ...


class Metrics:
    """All families of a part: ``families`` and :data:`COMMON`. A name that was not declared makes a family too."""

    def __init__(self, families: Iterable[Family] = ()) -> None:
        self._tables = {family.name: Table(family) for family in (*COMMON, *families)}
        self._stages: set[str] = set()
        self._next_tell, self._round = 0.0, 0
        self.table("build_info").set(1, _version(), platform.python_version(), f"{VERSION // 100}.{VERSION % 100}")

    @cached_property
    def registry(self) -> CollectorRegistry:
        """What Prometheus reads."""
        from prometheus_client import CollectorRegistry

        registry = CollectorRegistry()
        registry.register(self)
        return registry

    def table(self, name: str) -> Table:
        """Of a family that was declared."""
        return self._tables[name]

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set ``headrace_<name>`` to ``value``."""
        table = self._table("gauge", name, labels)
        table.set(value, *(str(labels[label]) for label in table.family.labels))

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add ``amount`` to ``headrace_<name>_total``."""
        table = self._table("counter", name, labels)
        table.add(amount, *(str(labels[label]) for label in table.family.labels))

    def observe(self, stages: Mapping[str, float]) -> None:
        """Add stage durations, in seconds, to ``headrace_stage_seconds``."""
        table = self._table("histogram", "stage_seconds", ("stage",))
        for stage, seconds in stages.items():
            if stage not in self._stages and len(self._stages) >= MAX_STAGES:
                stage = "other"
            self._stages.add(stage)
            table.of(stage).observe(seconds)

    def trouble(self, kinds: Iterable[str]) -> None:
        """What stands in the way now: names of :class:`common.trouble.Troubles`, whose first word is the kind."""
        table = self.table("troubles")
        # Zero tells more than nothing does: that it is over.
        counts: dict[Labels, float] = dict.fromkeys(table.rows, 0)
        for name in kinds:
            kind = (name.split(" ", 1)[0],)
            counts[kind] = counts.get(kind, 0) + 1
        table.put(counts)

    def _table(self, kind: Kind, name: str, labels: Iterable[str]) -> Table:
        table = self._tables.get(name)
        if table is None:
            table = self._tables[name] = Table(Family(kind, name, name.replace("_", " "), tuple(labels)))
        return table

    @property
    def families(self) -> list[Family]:
        """All that are known, declared or not."""
        return [table.family for table in self._tables.values()]

    def collect(self) -> Iterator[Metric]:
        """For Prometheus. Called by the thread that answers it."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        self._look()
        for table in list(self._tables.values()):
            yield table.metric()
        for name, kind, about, value in usage():
            yield (CounterMetricFamily if kind == "counter" else GaugeMetricFamily)(name, about, value=value)

    def snapshot(self) -> list[dict[str, Any]]:
        """All families that have rows, as JSON-able data (common/snapshot.py)."""
        self._look()
        told = [one for table in self._tables.values() if (one := table.snapshot()) is not None]
        for name, kind, about, value in usage():
            told.append({"name": name, "kind": kind, "help": about, "labels": [], "rows": [[[], value]]})
        return told

    def tell(self, status: Listener, now: float) -> None:
        """Send the agent a snapshot, once a second, where there is one. ``now``: seconds of the monotonic clock."""
        if not status.node or now < self._next_tell:
            return
        self._next_tell, self._round = now + TELL_S, self._round + 1
        chunks = pack(self.snapshot(), CHUNK)
        for index, families in enumerate(chunks):
            status.say("metrics", round=self._round, index=index, of=len(chunks), families=families)

    def _look(self) -> None:
        """What is counted elsewhere."""
        lines, lost = log.written()
        self.table("log_lines").put(((level,), count) for level, count in lines.items())
        self.table("log_lost_lines").set(lost)

    def serve(self, port: int | None) -> None:
        """Answer on loopback at ``port``; None: do not. Raises LinkError where the port is taken."""
        if port is None:
            return
        from prometheus_client import start_http_server

        try:
            start_http_server(port, addr="127.0.0.1", registry=self.registry)
        except OSError as error:
            raise LinkError(f"metrics port {port} cannot be opened: {error.strerror}; choose another") from None


def _version() -> str:
    """Of what is installed; "unknown" where the sources are run as they are."""
    from importlib import metadata

    try:
        return metadata.version("headrace")
    except metadata.PackageNotFoundError:
        return "unknown"


def cumulated(bounds: Sequence[float], counts: Sequence[float]) -> Iterator[tuple[str, float]]:
    """``(le, values up to it)`` for Prometheus, of the counts of each bucket."""
    from prometheus_client.utils import floatToGoString

    total = 0.0
    for bound, count in zip((*bounds, float("inf")), counts, strict=True):
        total += count
        yield floatToGoString(bound), total
