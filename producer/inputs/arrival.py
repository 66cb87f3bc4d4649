"""Times for streams that have none, such as MJPEG over HTTP: a packet's time is that of its arrival. Pure."""

from __future__ import annotations

from fractions import Fraction

#: Time base of these times, in seconds.
BASE = Fraction(1, 90_000)


class Arrival:
    """Times rise strictly, from 0 on."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._last = -1

    def stamp(self, now: float) -> int:
        """The time of the packet that arrives at ``now`` (seconds), in units of :data:`BASE`."""
        if self._began is None:
            self._began = now
        self._last = max(self._last + 1, round((now - self._began) / BASE))
        return self._last

    def check(self) -> None:
        assert self._last >= -1
        assert (self._began is None) == (self._last == -1)
