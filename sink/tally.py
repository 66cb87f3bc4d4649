"""What one stream has come to, as metrics count it, and how it goes lately, for the status line. Pure: time is an
argument, in seconds.

One for all epochs of a stream in this process. Counts begin at zero with the process, whatever its ledger had before:
what Prometheus calls a counter; the ledger itself is the gauge ``headrace_frames``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from common.lately import Durations, Rate
from common.metrics import Histogram
from sink.ledger import State

#: Reasons of frames that no output shows.
UNSEEN = ("no_picture", "bad_picture")
#: Seconds for which a summary stands: it is asked for more often than it is worth to reckon anew.
STANDS_S = 1.0


class Tally:
    """``latency`` is told of each frame; ``stage`` gives the histogram of a stage, of all streams together."""

    def __init__(
        self, latency: Histogram | None = None, stage: Callable[[str], Histogram] = lambda name: Histogram()
    ) -> None:
        self._latency, self._stage = latency or Histogram(), stage
        self._stages: dict[str, tuple[Histogram, Durations]] = {}
        self._lately = Durations()
        self._annotated, self._output = Rate(), Rate()
        self._summary: tuple[float, dict[str, Any]] | None = None
        #: Frames by state and reason.
        self.settled: Counter[tuple[str, str]] = Counter()

    def spent(self, stage: str, seconds: float, now: float) -> None:
        """A frame has spent so long in a stage (sink/stages.py)."""
        known = self._stages.get(stage)
        if known is None:
            known = self._stages[stage] = self._stage(stage), Durations()
        known[0].observe(seconds)
        known[1].add(seconds, now)

    def resolved(self, seconds: float, now: float) -> None:
        """A frame was handed to the outputs so long after it was announced."""
        self._latency.observe(seconds)
        self._lately.add(seconds, now)

    def settle(self, state: State, reason: str, now: float) -> None:
        """Where a frame has ended."""
        self.settled[state.value, reason] += 1
        if state is State.ANNOTATED:
            self._annotated.add(1, now)
        if state is not State.LOST and reason not in UNSEEN:
            self._output.add(1, now)

    def summary(self, now: float) -> dict[str, Any]:
        """For the status line, of the last seconds: ``latency`` with ``median`` and ``p95`` of the seconds from a
        frame's announcement to the outputs, ``stage_medians`` in seconds, and frames a second ``annotated_fps`` and
        ``output_fps``."""
        if self._summary is None or not 0 <= now - self._summary[0] < STANDS_S:
            self._summary = now, self._reckon(now)
        return self._summary[1]

    def _reckon(self, now: float) -> dict[str, Any]:
        latency = self._lately.quantiles(now, 0.5, 0.95)
        medians = {stage: lately.quantiles(now, 0.5) for stage, (_, lately) in self._stages.items()}
        return {
            "latency": {"median": round(latency[0], 4), "p95": round(latency[1], 4)} if latency else None,
            "stage_medians": {stage: round(found[0], 4) for stage, found in medians.items() if found},
            "annotated_fps": round(self._annotated.per_second(now), 2),
            "output_fps": round(self._output.per_second(now), 2),
        }
