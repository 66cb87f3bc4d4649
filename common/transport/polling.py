"""Waiting for sockets, and being woken from elsewhere."""

from __future__ import annotations

import os
import time
from typing import Protocol

import zmq


class Pollable(Protocol):
    """What a :class:`Poller` watches."""

    def poll_handle(self) -> zmq.Socket[bytes] | int: ...


class Waker:
    """Wakes a :class:`Poller` from another thread or from a signal handler."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def poll_handle(self) -> int:
        return self._fd

    def wake(self) -> None:
        if self._fd >= 0:
            os.eventfd_write(self._fd, 1)

    def clear(self) -> None:
        """Forget past calls of :meth:`wake`."""
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:
            return

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class Poller:
    """Waits for endpoints and wakers."""

    def __init__(self, *watched: Pollable) -> None:
        self._poller = zmq.Poller()
        for one in watched:
            self._poller.register(one.poll_handle(), zmq.POLLIN)
        self._wakers = [one for one in watched if isinstance(one, Waker)]
        self._ready: set[object] = set()

    def wait(self, seconds: float, settle: float = 0.0) -> bool:
        """True where something can be read (wakers are cleared); False after ``seconds``.

        ``settle``: once something is there, seconds to let more arrive. Waking up costs as much as handling several
        messages, so this spares half of a busy service's CPU for a little latency.
        """
        ready = self._poller.poll(max(0, int(seconds * 1000 + 0.999)))
        if ready and settle:
            time.sleep(settle)
            ready = self._poller.poll(0)
        self._ready = {handle for handle, _ in ready}
        for waker in self._wakers:
            waker.clear()
        return bool(ready)

    def ready(self, one: Pollable) -> bool:
        """Whether the last :meth:`wait` saw something in ``one``: asking an empty socket costs more than this."""
        return one.poll_handle() in self._ready
