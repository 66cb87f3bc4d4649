"""Live pictures: the sink is asked for them while somebody watches, and each client gets the newest it can take."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import web

from common.messages import MAX_NAME
from deploy.agent.page.clients import Room, first, keep_little, write
from deploy.agent.page.guard import Guard, Refused

#: Most clients who watch, and most streams that one of them watches.
MAX_CLIENTS, MAX_STREAMS = 16, 64
#: The sink is asked every so many seconds for pictures of so many seconds, for so many streams in one message.
ASK_S, LAST_S, A_MESSAGE = 1.0, 3.0, 32
#: Who comes anew gets the last picture if it is not older than this, in seconds.
FRESH_S = 1.0
#: The first picture comes within so many seconds, or none does.
FIRST_S = 4.0
BOUNDARY = "picture"


class Watcher:
    """One client: of each stream the newest picture that it has not got yet."""

    def __init__(self, streams: Sequence[str]) -> None:
        self.streams = frozenset(streams)
        self.news = asyncio.Event()
        self._waiting: dict[str, bytes] = {}
        #: Pictures that a newer one has replaced.
        self.skipped = 0

    def put(self, stream: str, jpeg: bytes) -> None:
        self.skipped += stream in self._waiting
        self._waiting[stream] = jpeg
        self.news.set()

    def take(self) -> tuple[str, bytes] | None:
        """The picture that waits longest."""
        if not self._waiting:
            self.news.clear()
            return None
        stream = next(iter(self._waiting))
        return stream, self._waiting.pop(stream)

    def check(self) -> None:
        assert self._waiting.keys() <= self.streams
        assert self.news.is_set() or not self._waiting


class Previews:
    """``ask``: as of the agent."""

    def __init__(self, ask: Callable[[str, dict[str, Any]], bool], guard: Guard) -> None:
        self._ask, self._guard = ask, guard
        self.room = Room(MAX_CLIENTS, "live pictures")
        self._watchers: set[Watcher] = set()
        self._last: dict[str, tuple[float, bytes]] = {}
        self._asker: asyncio.Task[None] | None = None

    def hear(self, stream: str, jpeg: bytes) -> None:
        """A picture of the sink's."""
        found = [watcher for watcher in self._watchers if stream in watcher.streams]
        if found:
            self._last[stream] = time.monotonic(), jpeg
        for watcher in found:
            watcher.put(stream, jpeg)

    async def many(self, request: web.Request) -> web.StreamResponse:
        """``GET /api/previews?stream=A&stream=B``: of each picture the lengths of name and JPEG (32 bits each, the
        highest byte first), the name, the JPEG."""

        def framed(stream: str, jpeg: bytes) -> bytes:
            name = stream.encode()
            return len(name).to_bytes(4, "big") + len(jpeg).to_bytes(4, "big") + name + jpeg

        return await self._stream(request, _named(request), "application/octet-stream", framed)

    async def moving(self, request: web.Request) -> web.StreamResponse:
        """``GET /api/streams/NAME/preview.mjpg``: for other pages and players."""

        def part(stream: str, jpeg: bytes) -> bytes:
            head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            return head.encode() + jpeg + b"\r\n"

        kind = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
        return await self._stream(request, [_one(request)], kind, part)

    async def still(self, request: web.Request) -> web.StreamResponse:
        """``GET /api/streams/NAME/preview.jpg``: one picture."""
        with self.room.enter():
            watcher = self._enter([_one(request)])
            try:
                await first(watcher.news, self.room.closing, seconds=FIRST_S)
                found = watcher.take()
            finally:
                self._leave(watcher)
        if found is None:
            raise Refused(503, "no picture of this stream comes: see its state")
        return web.Response(body=found[1], content_type="image/jpeg")

    async def _stream(
        self, request: web.Request, names: Sequence[str], kind: str, form: Callable[[str, bytes], bytes]
    ) -> web.StreamResponse:
        with self.room.enter():
            response = web.StreamResponse(headers={"Content-Type": kind, "X-Accel-Buffering": "no"})
            keep_little(request)
            await response.prepare(request)
            watcher = self._enter(names)
            try:
                while not self.room.closing.is_set() and self._may(request):
                    found = watcher.take()
                    if found is None:
                        await first(watcher.news, self.room.closing, seconds=ASK_S)
                        if request.transport is None or request.transport.is_closing():
                            break
                    elif not await write(response, form(*found)):
                        break
            finally:
                self._leave(watcher)
        return response

    def close(self) -> None:
        self.room.closing.set()
        if self._asker is not None:
            self._asker.cancel()

    def _may(self, request: web.Request) -> bool:
        try:
            return self._guard.may_look(request)
        except Refused:
            return False

    def _enter(self, names: Sequence[str]) -> Watcher:
        watcher = Watcher(names)
        now = time.monotonic()
        for name in names:
            at, jpeg = self._last.get(name, (0.0, b""))
            if jpeg and now - at < FRESH_S:
                watcher.put(name, jpeg)
        self._watchers.add(watcher)
        self._tell(watcher.streams)
        if self._asker is None or self._asker.done():
            self._asker = asyncio.create_task(self._keep_asking())
        return watcher

    def _leave(self, watcher: Watcher) -> None:
        self._watchers.discard(watcher)
        watched = {name for one in self._watchers for name in one.streams}
        for name in self._last.keys() - watched:
            del self._last[name]

    async def _keep_asking(self) -> None:
        while self._watchers:
            await asyncio.sleep(ASK_S)
            self._tell({name for watcher in self._watchers for name in watcher.streams})

    def _tell(self, names: set[str] | frozenset[str]) -> None:
        ordered = sorted(names)
        for at in range(0, len(ordered), A_MESSAGE):
            self._ask("sink", {"preview": ordered[at : at + A_MESSAGE], "seconds": LAST_S})

    def check(self) -> None:
        assert len(self._watchers) <= MAX_CLIENTS
        for watcher in self._watchers:
            watcher.check()


def _one(request: web.Request) -> str:
    """Raises Refused."""
    name: str = request.match_info["name"]
    if len(name) > MAX_NAME:
        raise Refused(404, "no stream has so long a name")
    return name


def _named(request: web.Request) -> list[str]:
    """Raises Refused."""
    names = list(dict.fromkeys(request.query.getall("stream", [])))
    if not 1 <= len(names) <= MAX_STREAMS or any(len(name) > MAX_NAME for name in names):
        raise Refused(400, f"name 1 to {MAX_STREAMS} streams: ?stream=NAME")
    return names
