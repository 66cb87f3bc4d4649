"""What is asked of the node in JSON, and done to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from aiohttp import web

from common.errors import Exit, HeadraceError
from deploy import spec
from deploy.agent.page.adding import NewStream, stream_of
from deploy.agent.page.agentlike import AgentLike
from deploy.agent.page.events import Events
from deploy.agent.page.guard import Guard, Refused
from deploy.agent.page.pagetoken import LONGEST
from deploy.node import changes
from deploy.node.changes import MAX_WORKERS

#: Most changes that are under way, or wait for each other.
MAX_CHANGES = 8
#: How long what is under way in a stream that is removed may take, unless it is said, in seconds.
REMOVE_S, REMOVE_MAX_S = 30.0, 600.0

T = TypeVar("T")

log = logging.getLogger(__name__)


class SignIn(msgspec.Struct, forbid_unknown_fields=True):
    token: Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST)]


class Scale(msgspec.Struct, forbid_unknown_fields=True):
    count: Annotated[int, msgspec.Meta(ge=0, le=MAX_WORKERS)]


class Api:
    def __init__(self, agent: AgentLike, guard: Guard, events: Events) -> None:
        self._agent, self._guard, self._events = agent, guard, events
        self._tasks: set[asyncio.Task[web.Response]] = set()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/session", self.session),
            web.post("/api/session", self.sign_in),
            web.delete("/api/session", self.sign_out),
            web.get("/api/node", self.node),
            web.post("/api/workers", self.scale),
            web.post("/api/streams", self.add),
            web.delete("/api/streams/{name}", self.remove),
            web.post("/api/streams/{name}/pause", self.pause),
            web.post("/api/streams/{name}/resume", self.resume),
        ]

    async def session(self, request: web.Request) -> web.Response:
        """Whether one may look, and change; with the proof that changes need."""
        session = self._guard.session(request)
        looks = self._guard.may_look(request)
        return web.json_response({"looks": looks, "proof": session.proof if session is not None else None})

    async def sign_in(self, request: web.Request) -> web.Response:
        asked = await _body(request, SignIn)
        self._guard.check_token(request, asked.token)
        response = web.json_response({})
        session = self._guard.let_in(request, response)
        response.text = msgspec.json.encode({"looks": True, "proof": session.proof}).decode()
        log.info("somebody signed in from %s", request.remote, extra={"kind": "sign_in"})
        return response

    async def sign_out(self, request: web.Request) -> web.Response:
        response = web.json_response({"done": "signed out"})
        self._guard.let_out(request, response)
        return response

    async def node(self, request: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(self._agent.snapshot()), content_type="application/json")

    async def scale(self, request: web.Request) -> web.Response:
        return await self._do(changes.scale, (await _body(request, Scale)).count)

    async def add(self, request: web.Request) -> web.Response:
        asked = await _body(request, NewStream)
        return await self._do(changes.add, prepare=lambda: [[self._stream(asked)]])

    async def remove(self, request: web.Request) -> web.Response:
        try:
            seconds = spec.seconds(request.query.get("wait", str(REMOVE_S)))
        except HeadraceError as error:
            raise Refused(400, str(error)) from None
        return await self._do(changes.remove, self._known(request), min(seconds, REMOVE_MAX_S))

    async def pause(self, request: web.Request) -> web.Response:
        return await self._do(changes.pause, self._known(request))

    async def resume(self, request: web.Request) -> web.Response:
        return await self._do(changes.resume, self._known(request))

    def _known(self, request: web.Request) -> str:
        name = request.match_info["name"]
        if name not in {stream["name"] for stream in self._agent.snapshot()["streams"]}:
            raise Refused(404, f"no stream {name!r} on this node")
        return name

    def _stream(self, asked: NewStream) -> Any:
        node = self._agent.node
        state = node.state
        return stream_of(asked, node.fleet(), state.roles, Path(state.file).parent, self._agent.folder.path)

    async def _do(
        self,
        function: Callable[..., str],
        *arguments: object,
        prepare: Callable[[], list[Any]] | None = None,
    ) -> web.Response:
        """``prepare`` makes the arguments, in a thread. A change goes on when who asked for it is gone."""
        if len(self._tasks) >= MAX_CHANGES:
            raise Refused(503, "other changes are under way: wait for them", {"Retry-After": "5"})
        task = asyncio.create_task(self._perform(function, arguments, prepare))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _perform(
        self, function: Callable[..., str], arguments: tuple[object, ...], prepare: Callable[[], list[Any]] | None
    ) -> web.Response:
        try:
            more = await asyncio.to_thread(prepare) if prepare is not None else []
            done = await self._agent.change(function, *arguments, *more)
        except HeadraceError as error:
            status = 503 if error.exit_code == Exit.LINK else 400
            return web.json_response({"error": str(error), "exit_code": int(error.exit_code)}, status=status)
        finally:
            self._events.changed()
        return web.json_response({"done": done})


async def _body(request: web.Request, kind: type[T]) -> T:
    """The request's JSON. Raises Refused."""
    if request.content_type != "application/json":
        raise Refused(415, "send JSON, as application/json")
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, str(error)) from None
