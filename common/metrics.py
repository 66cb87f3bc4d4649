"""Prometheus metrics of one process, in a registry of its own (no module-level state)."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from common.errors import LinkError

#: Most stages that are told apart: workers name them. Those beyond are of the stage "other".
MAX_STAGES = 32
#: Upper bounds of the stage histograms, in seconds.
BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class Metrics:
    """Counters and gauges by name; ``serve`` makes them readable."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._gauges: dict[str, Gauge] = {}
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        self._stages: set[str] = set()

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set ``headrace_<name>`` to ``value``."""
        gauge = self._gauges.get(name)
        if gauge is None:
            gauge = Gauge(f"headrace_{name}", name.replace("_", " "), list(labels), registry=self.registry)
            self._gauges[name] = gauge
        (gauge.labels(**labels) if labels else gauge).set(value)

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add ``amount`` to ``headrace_<name>_total``."""
        counter = self._counters.get(name)
        if counter is None:
            counter = Counter(f"headrace_{name}", name.replace("_", " "), list(labels), registry=self.registry)
            self._counters[name] = counter
        (counter.labels(**labels) if labels else counter).inc(amount)

    def observe(self, stages: Mapping[str, float]) -> None:
        """Add stage durations, in seconds, to ``headrace_stage_seconds``."""
        histogram = self._histograms.get("stage_seconds")
        if histogram is None:
            histogram = Histogram(
                "headrace_stage_seconds", "time per stage", ["stage"], buckets=BUCKETS_S, registry=self.registry
            )
            self._histograms["stage_seconds"] = histogram
        for stage, seconds in stages.items():
            if stage not in self._stages and len(self._stages) >= MAX_STAGES:
                stage = "other"
            self._stages.add(stage)
            histogram.labels(stage=stage).observe(seconds)

    def serve(self, port: int | None) -> None:
        """Answer on loopback at ``port``; None: do not. Raises LinkError where the port is taken."""
        if port is None:
            return
        try:
            start_http_server(port, addr="127.0.0.1", registry=self.registry)
        except OSError as error:
            raise LinkError(f"metrics port {port} cannot be opened: {error.strerror}; choose another") from None
