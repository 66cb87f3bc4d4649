"""How it stands with one address: when to connect, when to give a connection up, and what to say of it. Pure: time and
chance are arguments.

An address is tried for ever, with pauses between. A connection that does not come to be, or that takes nothing while
something waits, is given up.
"""

from __future__ import annotations

from random import Random

from common.backoff import Backoff

#: Pauses between attempts, in seconds.
FIRST_S, MOST_S = 0.25, 2.0
#: Longest time until the sender runs, and to connect, in seconds, and longest time in which nothing is taken while
#: something waits.
LAUNCH_S, CONNECT_S, STUCK_S = 30.0, 10.0, 5.0
#: A connection that has lasted for so long, in seconds, has worked: after it, pauses begin at the first one again.
STEADY_S = 2.0
#: What lasts longer than this, in seconds, is trouble.
SLOW_S = 0.8
#: Pictures left out are told of for so many seconds.
DROPPED_S = 2.0


class Connection:
    """``address`` as it may be shown."""

    def __init__(self, address: str, random: Random) -> None:
        self._address, self._random = address, random
        self._backoff = Backoff(FIRST_S, MOST_S)
        self._began: float | None = None  # the attempt, or the connection
        self._stuck: float | None = None  # since when something waits and nothing was taken
        self._dropped: float | None = None  # when pictures were left out last
        self._calling = self._listening = False
        #: Somebody takes what is sent.
        self.connected = False
        #: Connections that were made, and attempts and connections that failed.
        self.connections = self.failures = 0
        #: Why the last attempt or connection failed, "" where all is well.
        self.reason = ""

    @property
    def begun(self) -> bool:
        """There is an attempt or a connection."""
        return self._began is not None

    @property
    def trying(self) -> bool:
        """An attempt is under way."""
        return self._began is not None and not self.connected

    def due(self, now: float) -> bool:
        """Whether to connect now."""
        return self._began is None and self._backoff.due(now)

    def pause(self, now: float) -> float:
        """Seconds until the next attempt."""
        return self._backoff.pause(now)

    def started(self, now: float) -> None:
        """An attempt has begun."""
        self._began = now

    def calling(self, now: float) -> None:
        """The other side is being called from now on."""
        self._began, self._calling = now, True

    def listening(self) -> None:
        """It is for others to connect to us, whenever they like."""
        self._listening = True

    def made(self, now: float) -> None:
        """The other side takes the stream."""
        self._began, self.connected = now, True
        self.connections += 1

    def looked(self, now: float, waiting: bool, taken: bool) -> None:
        """``taken``: something was taken since the last look; ``waiting``: something else waits."""
        if not waiting or not self.connected:
            self._stuck = None
        elif taken or self._stuck is None:
            self._stuck = now
        if self.connected and taken and self._began is not None and now - self._began >= STEADY_S:
            self._backoff.worked()
            self.reason = ""

    def left_out(self, now: float) -> None:
        """Pictures were dropped, since the other side is slow."""
        self._dropped = now

    def overdue(self, now: float) -> str:
        """Why the attempt or connection is to be given up, "" where it is not."""
        if self.trying and not self._listening:
            since = now - (self._began or 0.0)
            if self._calling and since > CONNECT_S:
                return f"no answer for {CONNECT_S:.0f} s"
            if not self._calling and since > LAUNCH_S:
                return f"the sender did not start in {LAUNCH_S:.0f} s"
        if self._stuck is not None and now - self._stuck > STUCK_S:
            return f"nothing was taken for {STUCK_S:.0f} s"
        return ""

    def failed(self, now: float, reason: str) -> None:
        """The attempt or the connection has ended, and was not to."""
        self.failures += 1
        self.reason = reason
        self._backoff.failed(now, self._random)
        self._clear()

    def ended(self) -> None:
        """It was ended by us; another one may follow at once."""
        self._clear()

    def _clear(self) -> None:
        self._began = self._stuck = None
        self.connected = self._calling = self._listening = False

    def trouble(self, now: float) -> str:
        """What is wrong, for a person; "" while all is well."""
        if self._listening and self.trying:
            return f"nobody has connected to {self._address} yet"
        if self.reason and not self.connected:
            return f"cannot send to {self._address}: {self.reason}; trying again"
        if self.trying and self._calling and now - (self._began or 0.0) > SLOW_S:
            return f"cannot send to {self._address}: no answer yet"
        if self._stuck is not None and now - self._stuck > SLOW_S:
            return f"{self._address} takes nothing; what it misses is left out"
        if self.connected and self._dropped is not None and now - self._dropped < DROPPED_S:
            return f"{self._address} is too slow; pictures are left out"
        return ""

    def check(self) -> None:
        """Assert that there is a connection only where one was begun."""
        self._backoff.check()
        assert self._began is not None or not (self.connected or self._calling or self._listening)
        assert self._stuck is None or self.connected
