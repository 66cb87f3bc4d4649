"""Frames of each stream by state, for Prometheus. A stream that is forgotten leaves no labels behind."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric

from sink.ledger import State


class FrameCounts:
    """``headrace_frames{stream, state}``. Read by the thread that answers Prometheus."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._states: dict[str, dict[str, int]] = {}  # replaced as a whole: another thread reads it
        registry.register(self)

    def put(self, stream: str, states: dict[str, int]) -> None:
        """``states``: frames by state; those left out are zero."""
        self._states = {**self._states, stream: states}

    def forget(self, stream: str) -> None:
        self._states = {name: states for name, states in self._states.items() if name != stream}

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily("headrace_frames", "frames", labels=["stream", "state"])
        for stream, states in self._states.items():
            for state in State:  # zeros as well: a count that has gone down would stay otherwise
                family.add_metric([stream, state], states.get(state, 0))
        yield family
