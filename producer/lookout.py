"""Names what stands in the producer's way: a source that is away or mute, a silent broker or sink, no worker."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from common import messages as m
from common.config import Fleet, Stream
from common.log import mask
from common.trouble import Report, Troubles, log_troubles
from producer.feed import Feed
from producer.intake import Intake

#: After this long, in seconds, the sink and the broker (which speaks every 0.25 s) are called silent; when that has
#: lasted a second it is named.
SILENT_S = 0.7
#: A live source that gives no picture for so long, in seconds, and for so many of its pictures, is named when that has
#: lasted a second.
MUTE_S, MUTE_PICTURES = 0.6, 3
#: A source is blind while packets come without a picture: from one packet to the next counts for at most so long, in
#: seconds, and for this share of the source's timeout. What stood still has given nothing that could be decoded.
PAUSE_S, PAUSE_SHARE = 1.0, 0.25

log = logging.getLogger(__name__)


class Lookout:
    """One stream's. ``now``: seconds of the monotonic clock."""

    def __init__(self, fleet: Fleet, stream: Stream, now: float) -> None:
        self._fleet, self._stream = fleet, stream
        self._troubles = Troubles()
        self._news_at, self.workers = now, 0
        self._spec: m.InputSpec | None = None
        self._served = False  # a worker for our model has been here
        self._came_at = [0.0, 0.0]  # when the source gave a packet of the picture, and of sound
        self._seen_at = self._looked_at = 0.0  # when it gave a picture, or did not have to; when anything
        self.blind_s = 0.0  #: for how long it has given packets without a picture since then, in seconds

    @property
    def spec(self) -> m.InputSpec | None:
        """What the model wants, as the broker has said last."""
        return self._spec

    def news(self, news: m.News, now: float) -> None:
        """The broker has spoken."""
        self._news_at, self.workers = now, news.workers
        self._spec = news.models.get(self._stream.model)
        self._served = self._served or self._spec is not None

    def packet(self, track: int, now: float) -> None:
        """The source has given a packet."""
        self._came_at[track > 0] = now
        self.blind_s += min(now - self._looked_at, PAUSE_S, PAUSE_SHARE * self._stream.source_timeout)
        self._looked_at = now

    def seen(self, now: float) -> None:
        """The source has given a picture, or does not have to."""
        self._seen_at = self._looked_at = now
        self.blind_s = 0.0

    def nobody_works(self, now: float, silent: float) -> bool:
        """No worker is there, or the broker has said nothing for ``silent`` seconds."""
        return self.workers == 0 or now - self._news_at > silent

    def refusals(self, why: Mapping[str, str], now: float) -> None:
        """Trouble → why a peer does not let us in, "" where it does. The endpoint has logged it already."""
        for name, text in why.items():
            self._troubles.set(name, bool(text), now, text, logging.DEBUG)

    def look(self, now: float, intake: Intake, feed: Feed | None, heard: float, ended: bool) -> list[Report]:
        """``heard``: when the sink last spoke; ``ended``: the source is at its end. Returns the troubles, for
        ``status``."""
        self._at_source(now, intake)
        if feed is not None:
            mute = not ended and self._is_mute(now, intake, feed)
            shown = mask(self._stream.source)
            self._troubles.set("source_mute", mute, now, f"{shown} gives {self._what_comes(now)}")
            self._at_others(now, feed, heard, ended)
        log_troubles(log, self._troubles.said(now), stream=self._stream.name)
        return self._troubles.report(now)

    def _at_source(self, now: float, intake: Intake) -> None:
        shown, why = mask(self._stream.source), intake.why
        text = f"{why}; trying again" if why.startswith(shown) else f"{shown} is away: {why}"
        self._troubles.set("source_away", bool(why), now, text)
        never = intake.never and not why
        self._troubles.set("source_silent_yet", never, now, f"{shown} has given no picture yet", logging.INFO)

    def _at_others(self, now: float, feed: Feed, heard: float, ended: bool) -> None:
        model, sink, broker = self._stream.model, self._fleet.sink.media, self._fleet.broker.news
        troubles = self._troubles
        silent = now - self._news_at > SILENT_S
        idle = not ended or feed.window.unanswered > 0
        begun = feed.epoch is not None
        troubles.set("sink_silent", begun and now - heard > SILENT_S, now, f"the sink at {sink} does not answer")
        troubles.set("sink_silent_yet", not begun, now, f"the sink at {sink} has not answered yet")
        troubles.set("broker_silent", self._served and silent, now, f"the broker at {broker} is silent")
        nobody = idle and feed.spec is None and not silent
        troubles.set("no_worker", self._served and nobody, now, f"no worker serves {model} any more")
        troubles.set(
            "no_worker_yet", idle and not self._served, now,
            f"the broker at {broker} is silent so far" if silent else f"no worker serves {model} yet",
        )  # fmt: skip
        full = begun and feed.link.full(now)
        troubles.set("link_full", full, now, f"the sink at {sink} takes packets too slowly")

    def _is_mute(self, now: float, intake: Intake, feed: Feed) -> bool:
        """Whether the source is there, and its pictures do not come."""
        source = intake.source
        if source is None or feed.epoch is None or intake.why:
            return False
        usual = MUTE_PICTURES / source.rate if source.rate else 0.0
        # One that waits for us is not mute.
        return source.live and not feed.waits_for and now - self._seen_at > max(MUTE_S, usual)

    def _what_comes(self, now: float) -> str:
        pictures, sound = (now - at < MUTE_S for at in self._came_at)
        if pictures:
            return "no picture that can be decoded"
        return "no picture, while its sound goes on" if sound else "nothing"
