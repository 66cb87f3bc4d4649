"""Whether pictures still come, while something does: sound may flow on when a camera's encoder has died. Pure."""

from __future__ import annotations


class PictureWatch:
    """``limit``: longest time without a picture, in seconds, None: no matter how long. Time in which nobody took
    packets does not count."""

    def __init__(self, limit: float | None, now: float) -> None:
        self._limit, self._last = limit, now

    def picture(self, now: float) -> None:
        self._last = now

    def paused(self, seconds: float) -> None:
        """Nothing was read for so long, since nobody took it."""
        self._last += seconds

    def overdue(self, now: float) -> bool:
        return self._limit is not None and now - self._last > self._limit
