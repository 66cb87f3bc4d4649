"""Who may do what: one middleware before all handlers.

Reading is free on loopback; beyond it, and for all changes, the token is needed, as ``Authorization: Bearer TOKEN`` or
as a session's cookie. A change with a cookie must come from our own page, and bring the session's proof along.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

from common.address import is_loopback
from common.log import Seldom
from deploy.agent.page.pagetoken import Token
from deploy.agent.page.rules import host_of, is_foreign, is_forwarded, is_ours, right_host
from deploy.agent.page.sessions import LIFE_S, Session, Sessions, Tries

#: What anybody may have, by its route: the empty page, which asks for the token; and whether we work.
OPEN = frozenset({"/", "/static/{name}", "/favicon.ico", "/healthz", "/readyz"})
#: All clients behind one peer may together try so many times as often as one.
PEER = 20
READY = "/readyz"
#: Where one signs in.
SIGN_IN = "/api/session"
#: The header with a session's proof.
PROOF = "X-Headrace-Proof"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
#: Answers that go on as long as somebody listens.
ENDLESS = frozenset({"/api/events", "/api/previews", "/api/streams/{name}/preview.mjpg"})
_LOOKS = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = logging.getLogger(__name__)


class Refused(web.HTTPException):
    """Told as JSON. ``status``: 401 where the token would help, 403 where nothing does, 429 later."""

    def __init__(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        self.status_code = status
        super().__init__(reason=None, text=text, headers=headers)


class Guard:
    """``listen``: ``host:port``. ``name``: of the node, for its cookie: a browser keeps one jar for all ports."""

    def __init__(self, listen: str, token: Token, sessions: Sessions, name: str) -> None:
        self._listen, self._token, self.sessions = listen, token, sessions
        self.tries, self._peers = Tries(), Tries(PEER)
        self.cookie = f"headrace-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
        self._local = is_loopback(host_of(listen))
        self._seldom = Seldom(log)

    def session(self, request: web.Request) -> Session | None:
        self._token.refresh()
        secret = request.cookies.get(self.cookie)
        return self.sessions.find(secret, time.monotonic()) if secret else None

    def free(self, request: web.Request) -> bool:
        """Whether one may look without the token."""
        return self._local and not is_forwarded(request.headers)

    def may_look(self, request: web.Request) -> bool:
        """Raises Refused for a wrong token."""
        return self.free(request) or self.session(request) is not None or self._bears(request)

    def check_token(self, request: web.Request, text: str) -> None:
        """Raises Refused where it is wrong, or was too often."""
        peer, now = request.remote or "", time.monotonic()
        # A proxy's clients are told apart by what it says last, and who only says so has what all of a peer may have.
        said = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()[:64]
        address = f"{peer} for {said}" if said else peer
        if pause := max(self.tries.pause(address, now), self._peers.pause(peer, now)):
            raise Refused(429, "too many wrong tokens: wait", {"Retry-After": str(int(pause) + 1)})
        if not self._token.matches(text):
            self.tries.wrong(address, now)
            self._peers.wrong(peer, now)
            self._seldom.warn("wrong_token", f"a wrong token from {address}")
            raise Refused(401, "this is not the token", {"WWW-Authenticate": "Bearer"})

    def _bears(self, request: web.Request) -> bool:
        kind, _, text = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer":
            return False
        self.check_token(request, text.strip())
        return True

    def check(self, request: web.Request) -> None:
        """Raises Refused."""
        if not right_host(request.headers.get("Host"), self._listen):
            raise Refused(403, "this page is served to its own machine alone, by the name localhost")
        looks, place = request.method in _LOOKS, place_of(request)
        if looks and place in OPEN:
            return
        if is_foreign(request.headers):
            raise Refused(403, "another site's page asks for this")
        if place == SIGN_IN and request.method != hdrs.METH_DELETE:
            return
        if looks:
            if not self.may_look(request):
                raise Refused(401, "sign in with the node's token", {"WWW-Authenticate": "Bearer"})
        elif not self._bears(request):
            self._check_change(request)

    def _check_change(self, request: web.Request) -> None:
        session = self.session(request)
        if session is None:
            raise Refused(401, "sign in with the node's token to change something", {"WWW-Authenticate": "Bearer"})
        if not is_ours(request.headers) or not session.proves(request.headers.get(PROOF, "")):
            raise Refused(403, "this change was not asked for by the page itself: load it again")

    def let_in(self, request: web.Request, response: web.StreamResponse) -> Session:
        """Open a session; ``response`` takes its cookie along."""
        secret, session = self.sessions.open(time.monotonic())
        secure = request.secure or request.headers.get("X-Forwarded-Proto") == "https"
        response.set_cookie(
            self.cookie, secret, max_age=int(LIFE_S), httponly=True, samesite="Strict", secure=secure, path="/"
        )
        return session

    def let_out(self, request: web.Request, response: web.StreamResponse) -> None:
        self.sessions.close(request.cookies.get(self.cookie, ""))
        response.del_cookie(self.cookie, path="/", httponly=True, samesite="Strict")

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self.check(request)
            response = await handler(request)
            if place_of(request) == READY and not self.free(request) and self.session(request) is None:
                # Whether the node works is for everybody, why it does not is not.
                return web.json_response(
                    {"status": "ok" if response.status == 200 else "unready"}, status=response.status
                )
            return response
        except web.HTTPException as error:
            known = error.text if isinstance(error, Refused) else f"{error.status}: {error.reason}"
            headers = {
                name: error.headers[name]
                for name in ("Retry-After", "WWW-Authenticate", "Allow")
                if name in error.headers
            }
            return web.json_response({"error": known}, status=error.status, headers=headers)
        except ConnectionError:
            raise
        except Exception:
            log.exception("a request failed: %s %s", request.method, place_of(request))
            if place_of(request) in ENDLESS:  # it has begun, and nothing else can be said
                raise
            return web.json_response({"error": "this is a bug of ours: see headrace logs agent"}, status=500)


def place_of(request: web.Request) -> str:
    """The route that a request takes, "" where there is none: what the path is written like does not matter."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else ""


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """For the signal ``on_response_prepare``."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.pop(hdrs.SERVER, None)
