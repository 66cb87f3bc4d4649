"""What the threads around one address share, under a lock: the queue, how it stands with the connection, the counts.

The render thread puts packets in and never waits; one courier (sink/outputs/sent_courier.py) takes them out; anybody
asks how it goes. While nobody takes anything, a live stream leaves everything out and begins again with a keyframe that
is asked for; another one keeps what the queue holds. No sockets, no clock.
"""

from __future__ import annotations

import threading
from random import Random
from typing import Any

from msgspec.structs import replace

from sink.outputs.sent_queue import SentQueue, Unit
from sink.outputs.sent_state import Connection
from sink.sender.framing import Opening, Word

#: Most packets and bytes in the queue, and most seconds: live, and for a file that is played to somebody.
MAX_UNITS, MAX_BYTES = 8192, 64 * 2**20
LIVE_S, FILE_S = 2.0, 10.0


class Outbox:
    """``address`` as it may be shown. ``again``: as an :class:`Opening` has it, already for the first connection."""

    def __init__(self, address: str, live: bool, random: Random, again: bool = False) -> None:
        self._address, self._live, self._again = address, live, again
        self._lock = threading.Lock()
        self._queue = SentQueue(MAX_UNITS, MAX_BYTES, LIVE_S if live else FILE_S)
        self._state = Connection(address, random)
        self._opening: tuple[Opening, bytes] | None = None
        self._stale = False  # the connection was begun with another opening
        self._key_asked = False
        self._handed = 0  # pictures handed to this connection
        self._confirmed = (0, 0)  # pictures and bytes that it has sent
        self._before = (0, 0)  # the same of the connections before it

    # -- for the render thread -----------------------------------------------------------------------------------------

    def open(self, opening: Opening, payload: bytes) -> None:
        """What is sent from now on; a connection with another opening is to end."""
        with self._lock:
            self._opening, self._stale = (opening, payload), True
            self._queue.restart(keep=False)

    def put(self, unit: Unit, now: float) -> None:
        """The next packet."""
        with self._lock:
            overflows = self._queue.overflows
            if self._live and not self._state.connected:
                self._queue.refuse(unit)
            else:
                self._queue.put(unit)
                if self._queue.overflows > overflows and self._state.connected:
                    self._state.left_out(now)
            if unit.track == 0 and unit.key:
                self._key_asked = False

    @property
    def wants_key(self) -> bool:
        """Somebody takes the stream, and waits for a keyframe that nobody has asked for."""
        with self._lock:
            ready = self._state.connected and self._handed == self._confirmed[0]
            return ready and self._queue.broken and not self._key_asked

    def key_asked(self) -> None:
        """A keyframe is in the encoder."""
        with self._lock:
            self._key_asked = True

    # -- for anybody ---------------------------------------------------------------------------------------------------

    def trouble(self, now: float) -> str:
        """What is wrong, for a person; "" while all is well."""
        with self._lock:
            return self._state.trouble(now)

    @property
    def failure(self) -> str:
        """Why there never was a connection, though there was something to send; "" otherwise."""
        with self._lock:
            if self._state.connections or not self._queue.frames:
                return ""
            return f"nothing could be sent to {self._address}: {self._state.reason or 'no answer'}"

    def counts(self) -> dict[str, Any]:
        """For status lines and metrics: pictures and bytes sent, pictures dropped and in how many gaps."""
        with self._lock:
            return {
                "connected": self._state.connected,
                "connections": self._state.connections,
                "failures": self._state.failures,
                "frames": self._before[0] + self._confirmed[0],
                "bytes": self._before[1] + self._confirmed[1],
                "dropped": self._queue.dropped,
                "gaps": self._queue.gaps,
            }

    # -- for the courier -----------------------------------------------------------------------------------------------

    @property
    def begun(self) -> bool:
        """There is an attempt or a connection."""
        return self._state.begun

    @property
    def connected(self) -> bool:
        return self._state.connected

    @property
    def stale(self) -> bool:
        """The connection is to end, and another one to be made at once."""
        return self._stale

    @property
    def hopeless(self) -> bool:
        """At the end: nothing waits, or there is no connection and was none the last time."""
        with self._lock:
            return bool(self._state.reason) or not self._queue

    def due(self, now: float) -> bool:
        return self._state.due(now)

    def pause(self, now: float) -> float:
        """Seconds until the next attempt is due."""
        return self._state.pause(now)

    def begin(self, now: float) -> tuple[Opening, bytes]:
        """An attempt is made, with this."""
        with self._lock:
            assert self._opening is not None
            (opening, payload), self._stale = self._opening, False
            self._state.started(now)
            return replace(opening, again=self._again or self._state.connections > 0), payload

    def heard(self, word: Word, now: float) -> bool:
        """A word of the sender. Returns whether something was taken."""
        with self._lock:
            if word.event == "calling":
                self._state.calling(now)
            elif word.event == "listening":
                self._state.listening()
            elif word.event == "refused":
                self._state.failed(now, word.reason)
            elif word.event == "connected":
                self._state.made(now)
                self._key_asked = False
            elif word.event == "sent":
                self._confirmed = word.frames, word.bytes
            return word.event == "sent"

    def look(self, now: float, writing: bool, taken: bool) -> tuple[bool, str]:
        """Whether anything waits, and why the connection is to be given up. ``writing``: a packet is not wholly
        written."""
        with self._lock:
            waiting = writing or bool(self._queue) or self._handed > self._confirmed[0]
            self._state.looked(now, waiting, taken)
            return waiting, self._state.overdue(now)

    def take(self) -> Unit | None:
        """The next packet for this connection."""
        with self._lock:
            unit = None if self._stale else self._queue.take()
            self._handed += unit is not None and unit.track == 0
            return unit

    def ended(self, now: float, failure: str | None) -> None:
        """The attempt or connection has ended; ``failure``: why, None where it was to end."""
        with self._lock:
            frames, size = self._confirmed
            self._before = self._before[0] + frames, self._before[1] + size
            self._queue.lost(self._handed - frames)
            self._queue.restart(keep=not self._live)
            self._handed, self._confirmed, self._key_asked = 0, (0, 0), False
            if failure is None:
                self._state.ended()
            else:
                self._state.failed(now, failure)

    def close(self) -> None:
        """What still waits is not sent any more."""
        with self._lock:
            self._queue.restart(keep=False)

    def check(self) -> None:
        """Assert that every picture is counted once."""
        with self._lock:
            self._queue.check()
            self._state.check()
            assert self._handed >= self._confirmed[0]
            assert self._state.begun or not self._handed
            assert self._queue.taken == self._before[0] + self._handed
