"""Those who stay connected: how many there may be, and how each is written to without waiting for it for ever."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

from aiohttp import web

from deploy.agent.page.guard import Refused

#: Who takes nothing for so many seconds is left.
STUCK_S = 10.0
#: Most bytes that the kernel keeps for a client and has not sent yet: what is late is to be left out instead.
UNSENT = 32 * 1024


class Room:
    """For so many at a time. ``closing`` is set when all are to leave."""

    def __init__(self, most: int, what: str) -> None:
        self._most, self._what = most, what
        self.inside = 0
        self.closing = asyncio.Event()

    @contextlib.contextmanager
    def enter(self) -> Iterator[None]:
        """Raises Refused where it is full."""
        if self.inside >= self._most or self.closing.is_set():
            raise Refused(503, f"{self.inside} clients have {self._what} already: close some", {"Retry-After": "5"})
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1


def keep_little(request: web.Request) -> None:
    """Have the kernel hold little of what a client has not taken."""
    transport = request.transport
    if transport is None:
        return
    transport.set_write_buffer_limits(high=0)
    connection = transport.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)


async def write(response: web.StreamResponse, data: bytes) -> bool:
    """False where the client is gone, or takes nothing."""
    try:
        await asyncio.wait_for(response.write(data), STUCK_S)
    except (TimeoutError, ConnectionError):
        return False
    return True


async def first(*events: asyncio.Event, seconds: float | None = None) -> None:
    """Wait until one is set, or for so long."""
    tasks = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
