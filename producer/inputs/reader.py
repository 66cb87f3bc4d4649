"""Bytes out of a pipe for PyAV: with a deadline, broken off at once by another thread, and given again from the
beginning until the opening has found all that it needs. (FFmpeg's own way into a pipe waits for ever.)
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque

from common.errors import SourceError
from producer.inputs.deadline import is_over

#: What is kept for being given again, in bytes; beyond, the beginning is gone.
MAX_KEPT = 32 * 2**20


class Silent(Exception):
    """Nothing came within the deadline, or nothing of what was asked for."""


class Reader:
    """A file object that PyAV reads. ``seconds``: longest wait for the next byte, None: no matter how long.

    ``close`` gives ``fd`` back where it is ours (``owns``); not before the container that reads it is closed.
    """

    name = "pipe"

    def __init__(self, fd: int, seconds: float | None, owns: bool = False) -> None:
        self._fd, self._seconds, self._owns = fd, seconds, owns
        self._wake, self._woken = os.pipe()
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)
        self._lock = threading.Lock()
        self._stopped = False
        self._kept: list[bytes] | None = []
        self._kept_bytes = 0
        self._again: deque[bytes] = deque()

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes, b"" at the end or after :meth:`stop`. Raises Silent."""
        if self._again:
            data = self._again.popleft()
            if len(data) > size:
                self._again.appendleft(data[size:])
                data = data[:size]
        else:
            data = self._next(size)
        if self._kept is not None:
            self._kept.append(data)
            self._kept_bytes += len(data)
            if self._kept_bytes > MAX_KEPT:
                self._kept = None
        return data

    def _next(self, size: int) -> bytes:
        if self._stopped:
            return b""
        if is_over():
            raise Silent
        ready = self._poll.poll(None if self._seconds is None else self._seconds * 1000)
        if self._stopped:
            return b""
        if not ready:
            raise Silent
        return os.read(self._fd, size)

    def rewind(self) -> None:
        """Give all that was read so far once more, and then what follows. Raises SourceError where it is gone."""
        if self._kept is None:
            raise SourceError(f"no picture within {MAX_KEPT >> 20} MiB: check that it is a video")
        self._again.extendleft(reversed(self._kept))
        self._kept, self._kept_bytes = [], 0

    def settled(self) -> None:
        """It will not be asked to :meth:`rewind` any more."""
        self._kept = None

    def stop(self) -> None:
        """From any thread, at any time: what waits in :meth:`read` ends, and nothing more is given."""
        with self._lock:
            if not self._stopped:
                self._stopped = True
                os.write(self._woken, b"x")

    def close(self) -> None:
        with self._lock:
            self._stopped = True
        for fd in (self._wake, self._woken, *([self._fd] if self._owns else [])):
            os.close(fd)


def open_pipe(name: str) -> int:
    """A FIFO or another pipe, without waiting for somebody who writes. Raises OSError."""
    fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(fd, True)
    return fd
