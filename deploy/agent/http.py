"""What the agent serves over HTTP: metrics and health here, the page in deploy/agent/page."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from aiohttp import web

from common.errors import LinkError

#: A request's body, in bytes.
MAX_BODY = 64 * 1024
#: A connection on which nobody asks anything is closed after so many seconds.
IDLE_S = 15.0
#: Who still reads when the agent ends is waited for so many seconds.
CLOSE_S = 1.0


def watch_routes(metrics: Callable[[], tuple[bytes, str]], unready: Callable[[], list[str]]) -> list[web.RouteDef]:
    """``metrics``: the page and its content type.

    ``/metrics``; ``/healthz``: the agent answers; ``/readyz``: the node works, else 503 and the reasons.
    """

    async def show_metrics(request: web.Request) -> web.Response:
        body, kind = metrics()
        return web.Response(body=body, headers={"Content-Type": kind})

    async def health(request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def ready(request: web.Request) -> web.Response:
        reasons = unready()
        answer: dict[str, Any] = {"status": "unready" if reasons else "ok", "reasons": reasons}
        return web.json_response(answer, status=503 if reasons else 200)

    return [web.get("/metrics", show_metrics), web.get("/healthz", health), web.get("/readyz", ready)]


class Served:
    """One application at one ``host:port``."""

    def __init__(self, app: web.Application, listen: str, what: str) -> None:
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSE_S, keepalive_timeout=IDLE_S)
        self._listen, self._what = listen, what
        self._site: web.TCPSite | None = None

    async def open(self) -> None:
        """Listen, if that is not so yet. Raises LinkError where the address cannot be had: try again later."""
        if self._site is not None:
            return
        host, _, port = self._listen.rpartition(":")
        if self._runner.server is None:
            await self._runner.setup()
        site = web.TCPSite(self._runner, host.strip("[]"), int(port))
        try:
            await site.start()
            self._site = site
        except OSError as error:
            await site.stop()
            why = os.strerror(error.errno) if error.errno else str(error)
            raise LinkError(f"{self._what} cannot be served at {self._listen}: {why}; choose another address") from None

    async def close(self) -> None:
        await self._runner.cleanup()
