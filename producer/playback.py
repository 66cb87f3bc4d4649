"""When a packet of a file is due that is played at its own speed. Pure: time is an argument."""

from __future__ import annotations

#: A jump of the file's clock by more than this, in seconds, starts the stopwatch anew.
JUMP_S = 2.0


class Playback:
    """Stream time against wall time, both in seconds."""

    def __init__(self) -> None:
        self._offset: float | None = None  # wall time − stream time
        self._last = 0.0

    def delay(self, time: float, now: float) -> float:
        """How long to wait before the packet of stream time ``time`` may go; 0 where it is due or overdue."""
        if self._offset is None or abs(time - self._last) > JUMP_S:
            self._offset = now - time
        self._last = time
        return max(0.0, time + self._offset - now)
