"""When a packet is due of what is played at its own speed: a file, or segments that come at once. Pure: time is an
argument.

What is a little late is caught up with, in no burst. What is late by more has stood still, and goes on from there: a
live playlist that has stalled brings all that follows as much later.
"""

from __future__ import annotations

#: A jump of the stream's clock by more than this, in seconds, starts the stopwatch anew.
JUMP_S = 2.0
#: So does a packet that is late by more than this, in seconds.
LATE_S = 1.0
#: How many times its own speed what is late is played at.
CATCH_UP = 1.25


class Playback:
    """Stream time against wall time, both in seconds."""

    def __init__(self) -> None:
        self._offset: float | None = None  # wall time − stream time
        self._last = 0.0  # stream time of the last packet
        self._front = 0.0  # the latest stream time since the stopwatch was started: tracks lie apart in a file
        self._gone = 0.0  # when that one went

    def delay(self, time: float, now: float) -> float:
        """How long to wait before the packet of stream time ``time`` may go; 0 where it is due, or another track is
        ahead of it."""
        if self._offset is None or abs(time - self._last) > JUMP_S:
            self._offset, self._front, self._gone = now - time, time, now
        self._last = time
        ahead = time - self._front
        if ahead <= 0:
            return max(0.0, time + self._offset - now)
        self._front = time
        if now - time - self._offset > LATE_S:
            self._offset = now - time
        self._gone = max(now, time + self._offset, self._gone + ahead / CATCH_UP)
        return self._gone - now
