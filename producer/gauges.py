"""The producer's metrics, of its one stream."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from common.lately import Rate
from common.metrics import REFUSED, Family, Metrics
from common.trouble import Report
from producer.feed import Feed

#: Seconds between two looks.
LOOK_S = 1.0
#: What a source is; ``up`` of the status line is called running.
STATES = ("opening", "running", "away", "ended")
STREAM = ("stream",)

FAMILIES = (
    Family("gauge", "source_state", "1 for the state that the source is in, 0 for the others.", ("stream", "state")),
    Family("gauge", "source_state_seconds", "For how long the source has been in its state.", STREAM),
    Family("counter", "source_reconnects", "Times that the source was opened once more.", STREAM),
    Family("gauge", "source_fps", "Frames a second that the source has given lately.", STREAM),
    Family("gauge", "source_declared_fps", "Frames a second that the source claims; 0: none.", STREAM),
    Family("counter", "announced_frames", "Frames announced, by what was done with them.", ("stream", "fate")),
    Family("gauge", "unresolved_frames", "Announced frames that the sink has not handed to the outputs.", STREAM),
    Family("gauge", "unanswered_frames", "Frames sent to the model for which nobody has answered yet.", STREAM),
    Family("gauge", "in_flight_limit_frames", "Most frames that may be with the model now.", STREAM),
    Family("counter", "resent_frames", "Frames that were sent to the broker once more.", STREAM),
    Family("counter", "resent_messages", "Messages that were sent to the sink once more.", STREAM),
    Family("gauge", "unacknowledged_messages", "Messages that the sink has not acknowledged.", STREAM),
    Family("counter", "timeline_repairs", "Repairs of the source's times, by kind (docs/live.md).", ("stream", "kind")),
    Family("histogram", "prepare_seconds", "Scaling and coding one frame for the model.", STREAM),
    REFUSED,
)  # fmt: skip


class Gauges:
    """Is told of every step, looks once a second. Time is an argument, in seconds."""

    def __init__(self, stream: str, now: float) -> None:
        self.metrics = Metrics(FAMILIES)
        self._stream, self._next = stream, 0.0
        self._rate, self._counted = Rate(), 0
        self._state, self._since = "", now
        self.declared = 0.0  #: frames a second that the source claims

    def fps(self, feed: Feed, now: float) -> float:
        """Frames a second lately."""
        announced = feed.fates.total()
        # A feed that has begun anew counts from zero.
        self._rate.add(announced - self._counted if announced >= self._counted else announced, now)
        self._counted = announced
        return round(self._rate.per_second(now), 2)

    def look(
        self, source: dict[str, Any], ended: bool, feed: Feed | None, troubles: Iterable[Report], now: float
    ) -> None:
        """``source``: its state, as the status line has it; ``ended``: nothing follows."""
        state = "ended" if ended else {"up": "running"}.get(source["state"], source["state"])
        if state != self._state:
            self._state, self._since = state, now - (0.0 if ended else source["since"])
        elif now < self._next:
            return
        self._next = now + LOOK_S
        table, name = self.metrics.table, self._stream
        table("source_state").put(((name, one), one == state) for one in STATES)
        table("source_state_seconds").set(max(0.0, now - self._since), name)
        table("source_reconnects").set(max(0, source["opened"] - 1), name)
        table("source_declared_fps").set(self.declared, name)
        self.metrics.trouble(one["name"] for one in troubles)
        if feed is not None:
            self._look_at(feed, now)

    def _look_at(self, feed: Feed, now: float) -> None:
        table, name = self.metrics.table, self._stream
        table("source_fps").set(self._rate.per_second(now), name)
        for fate, count in feed.fates.items():
            table("announced_frames").set(count, name, fate)
        table("unresolved_frames").set(feed.window.unresolved, name)
        table("unanswered_frames").set(feed.window.unanswered, name)
        table("in_flight_limit_frames").set(feed.window.limit, name)
        table("resent_frames").set(feed.window.resent, name)
        table("resent_messages").set(feed.link.resent, name)
        table("unacknowledged_messages").set(feed.link.unacknowledged, name)
        for kind, count in feed.timeline.repairs.items():
            table("timeline_repairs").set(count, name, kind)
        table("prepare_seconds").histograms[name,] = feed.prepared
