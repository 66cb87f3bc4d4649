"""The agent's shell: listens to the parts, looks at supervisor, answers the control socket, serves HTTP.

It holds nothing that is needed: it may be killed and started again at any time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from common import config
from common.errors import HeadraceError, LinkError
from common.lifecycle import PARENT_ENV, die_with_parent
from common.log import Seldom
from deploy.agent.http import MAX_BODY, Served, watch_routes
from deploy.agent.links import Links
from deploy.agent.metrics import Exposed
from deploy.agent.model import Model
from deploy.control import Add, Answer, List, Look, OutputRow, Pause, Peer, Remove, Request, Row, Server
from deploy.folder import CONTROL
from deploy.node import changes
from deploy.node.endings import Endings
from deploy.node.folder import NodeFolder
from deploy.node.node import Node
from deploy.node.plan import program_of
from deploy.node.revive import Revive
from deploy.node.supervisor import Process
from deploy.streams import part_of

#: Between two looks at supervisor and at the node's files, in seconds.
LOOK_S = 0.5
#: Who asks us to change something hears after so many seconds that somebody else does so.
PATIENCE_S = 20.0

log = logging.getLogger(__name__)


class Agent:
    """The agent of the node in ``folder``."""

    def __init__(self, folder: NodeFolder) -> None:
        self.folder = folder
        self.node = Node(folder)
        self.model = Model(os.getpid())
        self.metrics = Exposed()
        self._endings, self._revive = Endings(), Revive()
        self._stamp: tuple[int, ...] = ()
        self._served: list[Served] = []
        self._unserved: dict[Served, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._changing = asyncio.Lock()
        self._pictures: list[Callable[[str, bytes], None]] = []
        self._look_failed = ""
        self._host = ""
        self._seldom = Seldom(log)
        folder.patience = PATIENCE_S

    # -- for the page --------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        found = self.model.snapshot(time.monotonic(), time.time())
        unready = self.unready()
        more = {"host": self._host, "folder": str(self.folder.path), "unready": unready, "ready": not unready}
        return found | more

    def unready(self) -> list[str]:
        """What keeps the node from working, a line each."""
        return [*self.model.unready(), *self._unserved.values()]

    def on_picture(self, hear: Callable[[str, bytes], None]) -> None:
        """``hear`` gets each preview picture: the stream's name, a JPEG."""
        self._pictures.append(hear)

    def ask(self, part: str, request: dict[str, Any]) -> bool:
        return self._links.ask(part, request)

    async def change(self, function: Callable[..., str], *arguments: object) -> str:
        """One of deploy/node/changes.py, on this node. Raises HeadraceError."""
        told = ", ".join(str(one) for one in arguments if isinstance(one, str | int))  # streams hold passwords
        log.info("asked to %s %s", function.__name__, told, extra={"kind": "change"})
        async with self._changing:  # one thread for all of them: who looks at supervisor needs one, too
            return await asyncio.to_thread(function, self.node, *arguments)

    # -- life ----------------------------------------------------------------------------------------------------------

    async def run(self) -> int:
        """Until it is told to stop. Raises HeadraceError."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            loop.add_signal_handler(number, stop.set)
        parent = int(os.environ.get(PARENT_ENV, "0"))
        if parent:
            die_with_parent(parent)
        self._configure()
        self._links = Links(self.folder.agent_socket, self._hear, self._gone)
        self._server = self._listen()
        loop.add_reader(self._server.fileno(), self._serve)
        try:
            await self._open(self.node.fleet())
            while not stop.is_set():
                await self._look()
                if self._unserved:
                    await self._serve_all()
                self._serve()
                try:
                    await asyncio.wait_for(stop.wait(), LOOK_S)
                except TimeoutError:
                    continue
        finally:
            loop.remove_reader(self._server.fileno())
            self._server.close()
            self._links.close()
            for served in self._served:
                await served.close()
        return 0

    def _listen(self) -> Server:
        (self.folder.path / CONTROL).unlink(missing_ok=True)
        return Server(self.folder.path)

    async def _open(self, fleet: config.Fleet) -> None:
        """What cannot be served now is named, and tried again: nobody shall miss ``headrace status`` for it."""
        self._served = []
        routes = watch_routes(self.metrics.text, self.unready)
        if fleet.metrics.listen is not None:
            app = web.Application(client_max_size=MAX_BODY)
            app.add_routes(routes)
            self._served.append(Served(app, fleet.metrics.listen, "metrics"))
        if fleet.page.enabled:
            from deploy.agent.page import page_app

            self._served.append(Served(page_app(self, fleet.page, routes), fleet.page.listen, "the page"))
        await self._serve_all()

    async def _serve_all(self) -> None:
        for served in self._served:
            try:
                await served.open()
                self._unserved.pop(served, None)
            except LinkError as error:
                if served not in self._unserved:
                    log.error("%s", error)
                self._unserved[served] = str(error)

    # -- what is heard -------------------------------------------------------------------------------------------------

    def _hear(self, name: str, record: dict[str, Any], jpeg: bytes) -> None:
        now = time.monotonic()
        if jpeg:
            for hear in self._pictures:
                hear(str(record.get("stream", "")), jpeg)
        elif record.get("event") == "metrics":
            self.metrics.hear(name, record)
        else:
            self.model.hear(name, record, self._links.pid(name), now)
            self._endings.hear(name, record, time.time())

    def _gone(self, name: str) -> None:
        self.model.gone(name)
        self.metrics.forget(name)

    def _configure(self) -> None:
        """Read what the node is to be, where that has changed."""
        stamps = [os.stat(path) for path in (self.folder.config, self.folder.parts, self.folder.state_file)]
        stamp = tuple(one.st_mtime_ns for one in stamps) + tuple(one.st_ino for one in stamps)
        if stamp != self._stamp:
            fleet = self.node.fleet()
            self._host = fleet.node.name or socket.gethostname()
            self.model.configure(fleet, self.node.state, self.node.parts(), time.monotonic())
            self._stamp = stamp

    async def _look(self) -> None:
        try:
            self._configure()
            processes = await asyncio.to_thread(self.node.supervisor.processes)
        except (HeadraceError, OSError) as error:
            if str(error) != self._look_failed:
                log.warning("the node cannot be looked at: %s", error)
            self._look_failed = str(error)
            return
        self._look_failed = ""
        now, wall = time.monotonic(), time.time()
        for life in self.model.parts.values():
            since = life.process.started if life.process is not None else 0.0
            if life.seen(processes.get(life.part.program), self.folder.told(life.part.program, since), now):
                life.why = self.node.why(life.part)
            row = life.row(now, wall)
            self.metrics.part(life.part.name, row["state"], row["restarts"], row["uptime"])
        try:
            await self._look_after(processes, now, wall)
        except (HeadraceError, OSError) as error:  # a full disk, or somebody was quicker: the next look will do
            self._seldom.warn("look_after", f"the node cannot be looked after: {error}")

    async def _look_after(self, processes: dict[str, Process], now: float, wall: float) -> None:
        for name in self._endings.look(self.model.parts.values(), now, wall):
            # One that was too short for supervisor would be started again.
            await asyncio.to_thread(self.node.supervisor.stop, [program_of(part_of(name))])
        await asyncio.to_thread(self._endings.write, self.node)
        for program in self._revive.due(processes.values(), now):
            log.warning("%s is tried again", program, extra={"kind": "revive"})
            await asyncio.to_thread(self.node.supervisor.start, program)

    # -- the control socket --------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        for peer, request in self._server.poll(time.monotonic()):
            if isinstance(request, Look):
                with contextlib.suppress(HeadraceError, OSError):
                    self._configure()
                self._server.answer(peer, Answer(node=self.snapshot()))
            elif isinstance(request, List):
                self._server.answer(peer, Answer(fleet=self._name, pid=os.getpid(), streams=self._rows()))
            else:
                task = asyncio.ensure_future(self._do(peer, request))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _do(self, peer: Peer, request: Request) -> None:
        try:
            if isinstance(request, Add):
                done = await self.change(changes.add, request.streams)
            elif isinstance(request, Pause):
                done = await self.change(changes.pause if request.on else changes.resume, request.stream)
            else:
                assert isinstance(request, Remove)
                done = await self.change(changes.remove, request.stream, request.wait)
            answer = Answer(done=done)
        except HeadraceError as error:
            answer = Answer(error=str(error), exit_code=int(error.exit_code))
        except Exception as error:  # whoever asked is told, and we go on
            log.exception("a change failed")
            answer = Answer(error=f"{type(error).__name__}: {error}", exit_code=int(LinkError.exit_code))
        self._server.answer(peer, answer)

    @property
    def _name(self) -> str:
        return Path(self.model.file).stem

    def _rows(self) -> list[Row]:
        rows = []
        for one in self.snapshot()["streams"]:
            outputs = [OutputRow(output["path"], output["kind"]) for output in one["outputs"]]
            kept = {name: one[name] for name in (field.name for field in msgspec.structs.fields(Row)) if name in one}
            rows.append(Row(**{**kept, "outputs": outputs}))
        return rows
