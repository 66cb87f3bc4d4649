"""When a source is opened, given up at the start, or opened again. Pure: time and chance are arguments."""

from __future__ import annotations

from random import Random
from typing import Literal

from common.backoff import Backoff

State = Literal["opening", "up", "away"]
#: First pause before a source is opened again, in seconds; doubled up to the maximum, so that one that is back is seen
#: within a second or so.
RETRY_S, RETRY_MAX_S = 0.25, 1.0


class Reconnect:
    """``wait``: how long a source that was never there is tried, in seconds.

    A source is up when it gives pictures, not yet when it is connected: a server may accept and be mute.
    """

    def __init__(self, wait: float, now: float) -> None:
        self._wait, self._began = wait, now
        self._backoff = Backoff(RETRY_S, RETRY_MAX_S)
        self.state: State = "opening"
        self.since = now  #: when the state began
        #: Why it is away, or what the last try said. It stays until there is a picture.
        self.why = ""
        self.opened = 0  #: times that it was opened
        self.connected = False  #: it is open now

    def connect(self, now: float) -> None:
        """It was opened."""
        self.opened += 1
        self.connected = True
        if self.state == "opening":
            self.why = ""

    def gave(self, now: float) -> None:
        """It has given a picture: the next loss is a new one."""
        if self.state != "up":
            self.state, self.since, self.why = "up", now, ""
            self._backoff.worked()

    def lost(self, why: str, now: float, chance: Random) -> None:
        """It has dropped. ``chance``: where jitter comes from."""
        if self.state != "away":
            self.state, self.since = "away", now
        self.connected, self.why = False, why
        self._backoff.failed(now, chance)

    def failed(self, why: str, now: float, chance: Random) -> bool:
        """It could not be opened, or was of no use. False: that is the end, there is nothing to wait for."""
        if self.connected:
            self.connected, self.opened = False, self.opened - 1
        self.why = why
        self._backoff.failed(now, chance)
        return self.opened > 0 or now - self._began < self._wait

    def due(self, now: float) -> bool:
        """Whether it is to be opened now."""
        return not self.connected and self._backoff.due(now)

    def check(self) -> None:
        assert self.opened >= 0
        assert self.state == "opening" or self.opened > 0
        assert self.state != "up" or (self.connected and not self.why)
        self._backoff.check()
