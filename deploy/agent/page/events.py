"""``GET /api/events``: the node's snapshot once a second, as server-sent events. Made once for all who look."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web

from deploy.agent.page.clients import Room, first, keep_little, write
from deploy.agent.page.guard import Guard, Refused

#: Seconds between two snapshots, and most clients.
EVERY_S, MAX_CLIENTS = 1.0, 32
#: After a change, the next snapshot comes so many seconds later.
SOON_S = 0.1


class Events:
    def __init__(self, snapshot: Callable[[], dict[str, Any]], guard: Guard) -> None:
        self._snapshot, self._guard = snapshot, guard
        self.room = Room(MAX_CLIENTS, "the page open")
        self._made = asyncio.Event()
        self._soon = asyncio.Event()
        self._latest = b""
        self._maker: asyncio.Task[None] | None = None

    def changed(self) -> None:
        """Something was changed: no need to wait for the second."""
        self._soon.set()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        with self.room.enter():
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
            keep_little(request)
            await response.prepare(request)
            message = b"retry: 1000\n" + self._message()
            while await write(response, message) and not self.room.closing.is_set():
                if self._maker is None or self._maker.done():
                    self._maker = asyncio.create_task(self._make())
                made = self._made
                await first(made, self.room.closing)
                try:
                    if not self._guard.may_look(request):  # the session is over
                        break
                except Refused:
                    break
                message = self._latest
        return response

    def close(self) -> None:
        self.room.closing.set()
        if self._maker is not None:
            self._maker.cancel()

    async def _make(self) -> None:
        """As long as somebody looks."""
        while self.room.inside:
            await first(self._soon, seconds=EVERY_S)
            if self._soon.is_set():
                self._soon.clear()
                await asyncio.sleep(SOON_S)
            self._latest = self._message()
            made, self._made = self._made, asyncio.Event()
            made.set()

    def _message(self) -> bytes:
        return b"event: node\ndata: " + msgspec.json.encode(self._snapshot()) + b"\n\n"
