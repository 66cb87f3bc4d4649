"""Asking the page what a browser or another program asks, in one event loop with it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import CookieJar
from aiohttp.test_utils import TestClient, TestServer

from deploy.agent.page.guard import PROOF
from tests.deploy.paged import TOKEN, FakeAgent, make_app, node

BEARER = {"Authorization": f"Bearer {TOKEN}"}
WIDE = "0.0.0.0:8750"
#: Whatever is waited for comes within so many seconds, or never does.
SOON_S = 10.0

Client = TestClient[Any, Any]
Case = Callable[[FakeAgent, Client], Awaitable[None]]


@contextlib.asynccontextmanager
async def page(agent: FakeAgent, listen: str, token: str | None = TOKEN) -> AsyncIterator[Client]:
    async with TestClient(TestServer(make_app(agent, listen, token)), cookie_jar=CookieJar(unsafe=True)) as client:
        yield client


def run(tmp_path: Path, case: Case, listen: str = "127.0.0.1:8750", **said: Any) -> FakeAgent:
    """``case`` with a page that believes to listen at ``listen``."""
    agent = FakeAgent(tmp_path, node(tmp_path, **said))

    async def go() -> None:
        async with page(agent, listen) as client:
            await asyncio.wait_for(case(agent, client), 60)

    asyncio.run(go())
    return agent


def origin(client: Client) -> dict[str, str]:
    return {"Origin": f"http://127.0.0.1:{client.port}"}


async def sign_in(client: Client, token: str = TOKEN) -> dict[str, str]:
    """Returns the headers that changes need; the client keeps the cookie."""
    answer = await client.post("/api/session", json={"token": token}, headers=origin(client))
    assert answer.status == 200, await answer.text()
    return {**origin(client), PROOF: (await answer.json())["proof"]}


async def until(condition: Callable[[], Any], what: str) -> None:
    for _ in range(int(SOON_S / 0.02)):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{what} did not happen within {SOON_S} s")
