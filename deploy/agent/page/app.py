"""The web application: who may, what there is, and the files of the page itself."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files

from aiohttp import web

from common.config import Page
from deploy.agent.http import MAX_BODY
from deploy.agent.page.agentlike import AgentLike
from deploy.agent.page.api import Api
from deploy.agent.page.events import Events
from deploy.agent.page.guard import Guard, Refused, add_headers
from deploy.agent.page.pagetoken import Token
from deploy.agent.page.previews import Previews
from deploy.agent.page.sessions import Sessions

EVENTS, PREVIEWS = web.AppKey("events", Events), web.AppKey("previews", Previews)
#: The page's own files, by their ending.
KINDS = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}


def page_app(agent: AgentLike, settings: Page, routes: Iterable[web.AbstractRouteDef]) -> web.Application:
    """The page of ``agent``, the node's agent. ``routes``: metrics and health, under the same rules. Called where the
    event loop runs; nothing of it is heard before the application is served."""
    sessions = Sessions()
    token = Token(settings.token, agent.folder, sessions.clear)
    guard = Guard(settings.listen, token, sessions, str(agent.folder.path))
    events, previews = Events(agent.snapshot, guard), Previews(agent.ask, guard)
    agent.on_picture(previews.hear)
    app = web.Application(client_max_size=MAX_BODY, middlewares=[guard.middleware])
    app[EVENTS], app[PREVIEWS] = events, previews
    app.on_response_prepare.append(add_headers)
    app.add_routes([*routes, *_pages(), *Api(agent, guard, events).routes()])
    app.add_routes(
        [
            web.get("/api/events", events.serve, allow_head=False),
            web.get("/api/previews", previews.many, allow_head=False),
            web.get("/api/streams/{name}/preview.jpg", previews.still, allow_head=False),
            web.get("/api/streams/{name}/preview.mjpg", previews.moving, allow_head=False),
        ]
    )

    async def close(app: web.Application) -> None:
        events.close()
        previews.close()

    app.on_shutdown.append(close)
    return app


def _pages() -> list[web.RouteDef]:
    """The files in ``static``, held in memory: no path of a request reaches the disk."""
    found = {
        one.name: (one.read_bytes(), KINDS[suffix])
        for one in files(__package__).joinpath("static").iterdir()
        if (suffix := "." + one.name.rpartition(".")[2]) in KINDS
    }

    async def show(request: web.Request) -> web.Response:
        name = request.match_info.get("name") or "index.html"
        if name not in found:
            raise Refused(404, "there is no such file")
        body, kind = found[name]
        return web.Response(body=body, content_type=kind, charset="utf-8")

    async def icon(request: web.Request) -> web.Response:
        body, kind = found["favicon.svg"]
        return web.Response(body=body, content_type=kind)

    return [web.get("/", show), web.get("/static/{name}", show), web.get("/favicon.ico", icon)]
