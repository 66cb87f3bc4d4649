"""When to try again what has failed: after pauses that double. Pure: time and chance are arguments.

Pauses are shortened by chance, by up to half, so that many who lost the same server do not come back in step. ::

    if backoff.due(now):
        backoff.worked() if connect() else backoff.failed(now, random)
"""

from __future__ import annotations

from random import Random

#: Failures that are counted one by one; beyond, the pause is the longest anyway.
MAX_DOUBLINGS = 64


class Backoff:
    """``first``: the first pause, ``most``: the longest, both in seconds."""

    def __init__(self, first: float, most: float) -> None:
        if not 0 < first <= most:
            raise ValueError(f"pauses from {first} s to {most} s make no sense")
        self._first, self._most = first, most
        self._next: float | None = None
        #: Failures since it last worked.
        self.failures = 0

    def failed(self, now: float, random: Random) -> None:
        """An attempt has failed at ``now`` (seconds): the next one is due after a pause."""
        pause = min(self._most, self._first * 2.0 ** min(self.failures, MAX_DOUBLINGS))
        self.failures += 1
        self._next = now + pause * random.uniform(0.5, 1.0)

    def worked(self) -> None:
        """It works: the next failure is the first one again."""
        self.failures, self._next = 0, None

    def due(self, now: float) -> bool:
        """Whether the next attempt may be made."""
        return self._next is None or now >= self._next

    def pause(self, now: float) -> float:
        """Seconds until the next attempt is due, 0.0 where it is."""
        return 0.0 if self._next is None else max(0.0, self._next - now)

    def check(self) -> None:
        """Assert that there is a pause exactly after a failure."""
        assert self.failures >= 0
        assert (self._next is None) == (self.failures == 0)
