"""A node's agent for tests of the page, and the page: what it says is fixed, what it is asked is kept."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
from aiohttp import web

from common import config
from common.errors import HeadraceError
from deploy import spec
from deploy.agent.http import watch_routes
from deploy.agent.page import page_app
from deploy.agent.page.app import EVENTS
from deploy.node.folder import NodeFolder, State

TOKEN = "a-token-for-these-tests-only"
Change = tuple[str, tuple[Any, ...]]


def picture(colour: tuple[int, int, int], size: tuple[int, int] = (320, 180)) -> bytes:
    """A JPEG of one colour (BGR) with a white frame."""
    found = np.full((size[1], size[0], 3), colour, np.uint8)
    cv2.rectangle(found, (8, 8), (size[0] - 9, size[1] - 9), (255, 255, 255), 2)
    return cv2.imencode(".jpg", found)[1].tobytes()


class FakeNode:
    def __init__(self, folder: Path, roles: list[str]) -> None:
        self.state = State(run="0123456789abcdef", file=str(folder / "headrace.toml"), roles=roles)
        self._raw = spec.endpoints(folder, {"workers": {"model": "objects", "count": 3, "batch": 16}})

    def fleet(self) -> config.Fleet:
        return msgspec.convert(self._raw, config.Fleet)


class FakeAgent:
    """``said``: the snapshot. ``done``: changes that were asked for. ``fails``: what the next one raises."""

    def __init__(self, folder: Path, said: dict[str, Any]) -> None:
        self.folder = NodeFolder(folder)
        self.node = FakeNode(folder, said["roles"])
        self.said = said
        self.done: list[Change] = []
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.fails: HeadraceError | None = None
        self.gate: asyncio.Event | None = None
        self._hear: list[Callable[[str, bytes], None]] = []

    def snapshot(self) -> dict[str, Any]:
        return self.said

    def on_picture(self, hear: Callable[[str, bytes], None]) -> None:
        self._hear.append(hear)

    def ask(self, part: str, request: dict[str, Any]) -> bool:
        self.asked.append((part, request))
        return True

    async def change(self, function: Callable[..., str], *arguments: object) -> str:
        if self.gate is not None:
            await self.gate.wait()
        if self.fails is not None:
            error, self.fails = self.fails, None
            raise error
        self.done.append((function.__name__, arguments))
        return f"{function.__name__} is done"

    def show(self, stream: str, jpeg: bytes) -> None:
        for hear in self._hear:
            hear(stream, jpeg)


def make_app(agent: FakeAgent, listen: str = "127.0.0.1:8750", token: str | None = TOKEN) -> web.Application:
    settings = config.Page(listen=listen, token=token)
    return page_app(
        agent, settings, watch_routes(lambda: (b"headrace_up 1\n", "text/plain"), lambda: list(agent.said["unready"]))
    )


class Served:
    """The page in a thread of its own, for a browser. ``call`` runs something in its loop; ``stop`` and ``start`` are
    what a node does that goes and comes back."""

    def __init__(self, agent: FakeAgent, listen: str = "127.0.0.1:0", pictures: dict[str, bytes] | None = None) -> None:
        self.agent, self._listen = agent, listen
        self.pictures = pictures or {}
        self._painter: concurrent.futures.Future[None] | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="page", daemon=True)
        self._thread.start()
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def call(self, function: Callable[[], Any]) -> Any:
        async def run() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    def start(self) -> None:
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(10)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(20)

    def forget(self) -> None:
        """End all sessions."""
        self.call(self._runner.app[EVENTS]._guard.sessions.clear)

    def close(self) -> None:
        if self._painter is not None:
            self._painter.cancel()
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _open(self) -> None:
        self._runner = web.AppRunner(make_app(self.agent, self._listen), access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        host = self._listen.rpartition(":")[0]
        site = web.TCPSite(self._runner, host, self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]
        if self.pictures and self._painter is None:
            self._painter = asyncio.run_coroutine_threadsafe(self._paint(), self._loop)

    async def _paint(self) -> None:
        while True:
            for stream, jpeg in list(self.pictures.items()):
                self.agent.show(stream, jpeg)
            await asyncio.sleep(0.1)


@contextlib.contextmanager
def served(agent: FakeAgent, listen: str = "127.0.0.1:0", pictures: dict[str, bytes] | None = None) -> Iterator[Served]:
    one = Served(agent, listen, pictures)
    try:
        yield one
    finally:
        one.close()


# -- what a node says --------------------------------------------------------------------------------------------------


def output(path: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"path": path, "kind": kind, **more}


def stream(name: str, **more: Any) -> dict[str, Any]:
    """A live stream that goes well."""
    states = {"annotated": 51_234, "carried": 0, "skipped": 2_310, "late": 121, "failed": 0, "lost": 2, "pending": 12}
    return {
        "name": name, "source": f"rtsp://cam-{name}.lan/stream1", "model": "objects", "mode": "live",
        "state": "running", "why": "", "since": 0.0, "frames": sum(states.values()), "states": states,
        "annotated": 0.9546, "fps": 25.0,
        "epoch": 1, "in_flight": 9, "waits_for": "",
        "picture": {"width": 1920, "height": 1080, "rate": 25.0, "sound": ["aac"]},
        "outputs": [
            output(f"/srv/video/{name}.ts", "ts"), output(f"/srv/video/{name}.jsonl", "jsonl"),
            output(f"rtmp://relay.lan/live/{name}", "rtmp", connected=True, connections=1, failures=0, frames=53_665,
                   bytes=1_234_567_890, dropped=0, gaps=0, trouble=""),
        ],
        "sink": {
            "ages": {}, "stages": {}, "latency": {"median": 0.094, "p95": 0.163}, "annotated_fps": 23.9,
            "output_fps": 25.0,
            "stage_medians": {"producer": 0.006, "queue": 0.011, "batch": 0.013, "inference": 0.041, "reorder": 0.004,
                              "encode": 0.018, "total": 0.094, "render": 0.012},
        },
        "producer": {"fps": 25.0, "resent": 0, "gaps": 0, "announced": 53_679},
        "troubles": [], **more,
    }  # fmt: skip


def worker(number: int, **more: Any) -> dict[str, Any]:
    return {
        "name": f"worker-{number}", "device": f"cuda:{number - 1}", "models": ["objects"], "state": "working",
        "leased": 14, "room": 18, "beat_age": 0.12, "batch": 11.4, "fps": 52.3, "done": 123_456, **more,
    }  # fmt: skip


def part(name: str, pid: int, **more: Any) -> dict[str, Any]:
    return {
        "name": name, "program": name.replace(":", "-"), "state": "running", "ready": True, "pid": pid,
        "uptime": 7_384.0, "restarts": 0, "crash_loop": False, "code": 0, "why": "", "gpu": "", **more,
    }  # fmt: skip


def node(folder: Path, **more: Any) -> dict[str, Any]:
    """A node on which things go well and badly: one stream of each kind."""
    empty = {"sink": {}, "producer": {}}
    return {
        "host": "edge-03", "file": str(folder / "headrace.toml"), "folder": str(folder),
        "roles": ["broker", "sink", "workers", "producers"], "run": "0123456789abcdef", "time": 1_790_000_000.0,
        "parts": [
            part("agent", 4001), part("sink", 4002), part("broker", 4003),
            part("worker-1", 4011, gpu="0"), part("worker-2", 4012, gpu="1"),
            part("worker-3", 0, state="backoff", ready=False, uptime=0.0, restarts=7, crash_loop=True, code=5, gpu="2",
                 why="the model cannot be loaded: objects.safetensors is cut off (8 of 13 MB)"),
            part("producer:door", 4021), part("producer:yard", 4022), part("producer:gate", 4023),
            part("producer:archive", 0, state="exited", ready=False),
        ],
        "wants": {"count": 3, "model": "objects", "batch": 16},
        "streams": [
            stream("door"),
            stream("yard", state="away", why="Connection refused", since=74.0, fps=0.0,
                   producer={"fps": 0.0, "resent": 3, "gaps": 1, "announced": 20_100},
                   sink={"annotated_fps": 0.0, "output_fps": 10.0},
                   outputs=[output("/srv/video/yard.ts", "ts"),
                            output("srt://relay.lan:9000", "srt", connected=False, connections=2, failures=5,
                                   frames=1_204, bytes=1, dropped=310, gaps=2,
                                   trouble="srt://relay.lan:9000: no answer for 10 s")]),
            stream("gate", mode="lossless", source="/srv/video/in/gate-2026-03-01.mkv", model="face",
                   outputs=[output("/srv/video/gate.jsonl", "jsonl")],
                   picture={"width": 1280, "height": 720, "rate": 29.97, "sound": []}),
            stream("archive", state="ended", why="", since=4_200.0, mode="lossless", fps=0.0,
                   source="/srv/in/archive.mp4", states={"annotated": 9_000}, annotated=1.0,
                   outputs=[output("/srv/video/archive.mp4", "mp4")]),
            stream("garage", state="paused", fps=0.0, **empty, states={}, annotated=None,
                   outputs=[output("/srv/video/garage.ts", "ts")]),
        ],
        "workers": [worker(1), worker(2, batch=9.0, fps=48.1, beat_age=0.31)],
        "broker": {"part": "broker", "queued": 17, "leased": 28, "workers": 2, "streams": 3, "models": ["objects"]},
        "sink_knows": ["door", "yard"], "troubles": ["no worker serves face: 96 frames wait (31 s)"],
        "ready": True, "unready": [], **more,
    }  # fmt: skip
