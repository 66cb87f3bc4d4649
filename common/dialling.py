"""What becomes of a dialled connection, and when to dial again. Pure: time and chance are arguments.

ZeroMQ dials again by itself after a connection has ended, but never a server that has refused it or that broke the
protocol, and twenty times a second one that breaks off each handshake. These are dialled again from here.
"""

from __future__ import annotations

from enum import Enum
from random import Random

from common.backoff import Backoff

#: ZeroMQ dials again at once after a connection has ended; where it has not done so after this long, in seconds, it
#: never will: it takes the peer for one that speaks something else (a frame over the limit, a flipped bit).
DEAD_S = 1.0
#: Pauses before a server that refused us is dialled again, in seconds: a key that is let in later soon connects.
AGAIN_S, AGAIN_MOST_S = 0.6, 5.0
#: Handshakes in a row that a server breaks off without a word before that is taken for its answer: one that is being
#: killed or started breaks off one, too, and one without keys is often gone before it has said so. ``KNOWN``: where it
#: has been taken for its answer before.
BROKEN_OFF, BROKEN_OFF_KNOWN = 8, 2


class Event(Enum):
    """What a connection tells of itself."""

    CONNECTED = "connected"
    ENDED = "ended"
    RETRIED = "retried"  #: ZeroMQ will dial again by itself
    REFUSED = "refused"  #: our key is not let in
    MECHANISM = "mechanism"  #: one side has keys and the other has none
    BROKEN_OFF = "broken off"  #: the peer hung up during the handshake
    PROTOCOL = "protocol"  #: the peer speaks something else, or the connection was damaged


class Step(Enum):
    """What is to be done now."""

    NOTHING = 0
    HANG_UP = 1  #: disconnect: nobody else is to dial meanwhile
    DIAL = 2  #: after a pause
    REDIAL = 3  #: disconnect what is dead, and dial at once


class Dialling:
    """One address. ``who``: whom we dial, for a person; ``key``: our key's public part, as its role, name and key, and
    None where we have no key for this address."""

    def __init__(self, address: str, who: str, key: str | None, random: Random) -> None:
        self._place = f"{who} at {address}"
        self._who, self._key, self._random = who, key, random
        self._backoff = Backoff(AGAIN_S, AGAIN_MOST_S)
        self._ended: float | None = None  # when the connection ended, where nothing has followed
        self._broken_off = 0
        self._hangs_up = self._away = False  # hung up until the next dialling
        self.connected = self.was_connected = False
        #: Why the peer does not let us in, "" where it does, or where nothing is known.
        self.refusal = ""

    def heard(self, event: Event, now: float) -> None:
        """The connection tells."""
        if self._away:
            return  # of one that is being hung up
        self.connected = event is Event.CONNECTED
        if event is Event.CONNECTED:
            self.was_connected, self.refusal, self._broken_off, self._ended = True, "", 0, None
            self._backoff.worked()
        elif event is Event.REFUSED:
            self.refused(f"it is not on its list; to let it in, there: headrace keys allow {self._key}", now)
        elif event is Event.MECHANISM:
            self._keep_away(self._mechanism(), now)
        else:
            self._ended = None if event is Event.RETRIED else now
            self._broken_off += event is Event.BROKEN_OFF
            # Without a key it is left to ZeroMQ: a server that wants one will say so.
            if self._key is not None and self._broken_off >= (BROKEN_OFF_KNOWN if self.refusal else BROKEN_OFF):
                self._keep_away(
                    f"{self._place} breaks off each handshake: it has another key than we expect, runs without keys, "
                    "or is no Headrace; compare with headrace keys show there",
                    now,
                )

    def refused(self, why: str, now: float) -> None:
        """The peer has said that our key is no longer let in."""
        self._keep_away(f"{self._place} refused our key: {why}", now)

    def step(self, now: float) -> Step:
        """Call it often, and do what it says."""
        if self._hangs_up:
            self._hangs_up = False
            return Step.HANG_UP
        if self._away:
            if not self._backoff.due(now):
                return Step.NOTHING
            self._away = False
            return Step.DIAL
        if self._ended is not None and now >= self._ended + DEAD_S:
            self._ended = None
            return Step.REDIAL
        return Step.NOTHING

    def _keep_away(self, refusal: str, now: float) -> None:
        self.refusal, self.connected, self._ended = refusal, False, None
        self._hangs_up, self._away, self._broken_off = True, True, 0
        self._backoff.failed(now, self._random)

    def _mechanism(self) -> str:
        if self._key is None:
            return f"{self._place} wants a key and we have none: set [security] keys, and see headrace keys new --help"
        return f"{self._place} runs without keys and we have one: give it [security] keys too"
