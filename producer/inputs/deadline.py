"""The deadline of one read, whatever is read meanwhile.

PyAV counts a read's deadline anew for each packet that FFmpeg finds, and keeps to itself those of tracks that came up
after the opening (an encoder was restarted, and its transport stream has other numbers): while they come it would read
on for ever. So PyAV's clock is ours: in a thread whose read has taken too long it runs away, and PyAV breaks that off.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any

import av.container.core


class _Reads(threading.local):
    """The read that is under way in each thread."""

    deadline: Deadline | None = None


_reads = _Reads()


class _Clock:
    """What PyAV takes for the module ``time``."""

    def monotonic(self) -> float:
        deadline, now = _reads.deadline, time.monotonic()
        return now if deadline is None else deadline.clock(now)

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


av.container.core.time = _Clock()  # type: ignore[attr-defined]


class Deadline:
    """Around each read, in the thread that reads: ``with deadline: next(packets)``. ``seconds``: how long it may take;
    None: as long as it likes."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._began = 0.0
        self._ahead = 0.0

    def __enter__(self) -> None:
        self._began, self._ahead = time.monotonic(), 0.0
        _reads.deadline = self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        _reads.deadline = None

    def over(self, now: float) -> bool:
        return self._seconds is not None and now - self._began > self._seconds

    def clock(self, now: float) -> float:
        """The time as PyAV is told it: when the read is over, each call is past the deadline of the one before."""
        if self._seconds is not None and self.over(now):
            self._ahead += self._seconds + 1
        return now + self._ahead


def is_over() -> bool:
    """Whether the read that is under way in this thread has taken too long."""
    return _reads.deadline is not None and _reads.deadline.over(time.monotonic())
