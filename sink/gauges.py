"""The sink's metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from common.metrics import REFUSED, Family, Metrics
from common.trouble import Report
from sink.ledger import State
from sink.stream import SinkStream
from sink.tally import Tally

#: Seconds between two looks.
LOOK_S = 1.0
#: Upper bounds of the latency's histogram, in seconds.
LATENCY_S = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10)
OUTPUT = ("stream", "output", "kind")

FAMILIES = (
    Family(
        "gauge", "frames", "Frames of the stream's ledger by state, over all its epochs; pending ones are under way.",
        ("stream", "state"),
    ),
    Family(
        "counter", "frames_settled", "Frames that this process has settled, by the state in which they ended and why.",
        ("stream", "state", "reason"),
    ),
    Family(
        "histogram", "latency_seconds", "From a frame's announcement to the sink to the outputs.", ("stream",),
        LATENCY_S,
    ),
    Family(
        "histogram", "stage_seconds",
        "Time of a frame in each stage; all streams together (docs/metrics.md has the stages).", ("stage",),
    ),
    Family("gauge", "open_streams", "Streams that have a producer, or whose outputs are still open."),
    REFUSED,
    Family("counter", "stream_crashes", "Times that a stream crashed in the sink and was begun again.", ("stream",)),
    Family(
        "counter", "stream_events",
        "Messages that were held up, of another epoch or too late, and placeholders left out.", ("stream", "kind"),
    ),
    Family("gauge", "disk_full", "1 while the stream waits for space on a full disk.", ("stream",)),
    Family("counter", "disk_waits", "Times that the stream was stopped by a full disk.", ("stream",)),
    Family("gauge", "output_failed", "1 where a file output of the stream has failed for good.", ("stream",)),
    Family("gauge", "output_connected", "1 while somebody takes what is sent to this network output.", OUTPUT),
    Family("counter", "output_connections", "Connections made to the network output; the first one counts.", OUTPUT),
    Family("counter", "output_failures", "Attempts and connections of the network output that failed.", OUTPUT),
    Family("counter", "output_frames", "Pictures sent to the network output.", OUTPUT),
    Family("counter", "output_bytes", "Bytes sent to the network output.", OUTPUT),
    Family("counter", "output_dropped_frames", "Pictures left out for the output, which was away or slow.", OUTPUT),
    Family("counter", "output_gaps", "Gaps in what was sent to the network output.", OUTPUT),
)  # fmt: skip

#: Families of network outputs, and where their values are in :meth:`SinkStream.sent`.
_SENT = {
    "output_connected": "connected",
    "output_connections": "connections",
    "output_failures": "failures",
    "output_frames": "frames",
    "output_bytes": "bytes",
    "output_dropped_frames": "dropped",
    "output_gaps": "gaps",
}


class Gauges:
    """Looks at the streams once a second. What is gone from the configuration leaves no labels behind."""

    def __init__(self) -> None:
        self.metrics = Metrics(FAMILIES)
        self._tallies: dict[str, Tally] = {}
        self._events: dict[str, Counter[str]] = {}
        self._next = 0.0

    def tally(self, stream: str) -> Tally:
        """What the stream of that name tells."""
        if stream not in self._tallies:
            stages = self.metrics.table("stage_seconds")
            self._tallies[stream] = Tally(self.metrics.table("latency_seconds").of(stream), stages.of)
        return self._tallies[stream]

    def frames(self, stream: str, states: Mapping[str, int]) -> None:
        """The ledger. Zeros as well: a count that has gone down would stay otherwise."""
        table = self.metrics.table("frames")
        for state in State:
            table.set(states.get(state, 0), stream, state)

    def ended(self, stream: SinkStream) -> None:
        """An epoch is over."""
        name = stream.config.name
        self._events.setdefault(name, Counter()).update(stream.counts)
        if stream.full:
            self.metrics.count("disk_waits", stream=name)

    def forget(self, stream: str) -> None:
        """It is no longer in the configuration."""
        self._tallies.pop(stream, None)
        self._events.pop(stream, None)
        for family in FAMILIES:
            if family.labels[:1] == ("stream",):
                self.metrics.table(family.name).forget(stream)

    def look(
        self, streams: Mapping[str, SinkStream], full: Collection[str], troubles: Iterable[Report], now: float
    ) -> None:
        """``full``: names of streams that wait for space."""
        if now < self._next:
            return
        self._next = now + LOOK_S
        table, running = self.metrics.table, {name: one for name, one in streams.items() if not one.over}
        table("open_streams").set(len(running))
        self.metrics.trouble(one["name"] for one in troubles)
        for name, tally in self._tallies.items():
            for (state, reason), count in tally.settled.items():
                table("frames_settled").set(count, name, state, reason)
            table("disk_full").set(name in full, name)
            events = Counter(self._events.get(name))
            if name in running:
                self.frames(name, running[name].ledger.states)
                table("output_failed").set(bool(running[name].failed), name)
                events.update(running[name].counts)
            for kind, count in events.items():
                table("stream_events").set(count, name, kind)
        sent = [(name, one) for name, stream in running.items() for one in stream.sent()]
        for family, key in _SENT.items():
            table(family).put(((name, one["output"], one["kind"]), one[key]) for name, one in sent)
