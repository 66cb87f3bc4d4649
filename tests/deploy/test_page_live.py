"""Snapshots and pictures that come by themselves: nobody holds them up, and nobody pays who does not look."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse

from deploy.agent.page import clients, events, previews
from deploy.agent.page.app import EVENTS, PREVIEWS
from tests.deploy.asking import BEARER, SOON_S, WIDE, Client, page, run, sign_in, until
from tests.deploy.paged import FakeAgent, picture

# -- events ------------------------------------------------------------------------------------------------------------


async def event(answer: ClientResponse) -> dict[str, Any]:
    """The next snapshot."""
    while True:
        line = await asyncio.wait_for(answer.content.readline(), SOON_S)
        assert line, "the stream has ended"
        if line.startswith(b"data: "):
            found: dict[str, Any] = json.loads(line[6:])
            return found


def test_snapshots_come_by_themselves_and_soon_after_a_change(tmp_path: Path) -> None:
    async def case(agent: FakeAgent, client: Client) -> None:
        async with client.get("/api/events") as answer:
            assert answer.content_type == "text/event-stream"
            assert (await event(answer))["host"] == "edge-03"
            agent.said = {**agent.said, "host": "edge-04"}
            began = asyncio.get_running_loop().time()
            assert (await event(answer))["host"] == "edge-04"
            assert asyncio.get_running_loop().time() - began < events.EVERY_S + 1
            await client.post("/api/workers", json={"count": 2}, headers=BEARER)
            began = asyncio.get_running_loop().time()
            await event(answer)
            assert asyncio.get_running_loop().time() - began < events.EVERY_S * 0.9

    run(tmp_path, case)


def test_a_snapshot_is_made_once_for_all_and_for_nobody_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "EVERY_S", 0.3)

    async def case(agent: FakeAgent, client: Client) -> None:
        made = 0
        said = agent.said

        def snapshot() -> dict[str, Any]:
            nonlocal made
            made += 1
            return said

        agent.snapshot = snapshot  # type: ignore[method-assign]
        async with page(agent, "127.0.0.1:8750") as client:
            async with contextlib.AsyncExitStack() as stack:
                answers = [await stack.enter_async_context(client.get("/api/events")) for _ in range(5)]
                for answer in answers:
                    await event(answer)
                before = made
                for answer in answers:
                    await event(answer)
                assert made <= before + 2
            await until(lambda: not client.app[EVENTS].room.inside, "all gone")
            await asyncio.sleep(2.2 * events.EVERY_S)
            rest = made
            await asyncio.sleep(1.2 * events.EVERY_S)
            assert made == rest

    run(tmp_path, case)


def test_a_session_that_ends_ends_what_it_looks_at(tmp_path: Path) -> None:
    async def case(agent: FakeAgent, client: Client) -> None:
        headers = await sign_in(client)
        async with client.get("/api/events") as answer, client.get("/api/previews?stream=door") as pictures:
            await event(answer)
            assert (await client.delete("/api/session", headers=headers)).status == 200
            await asyncio.wait_for(answer.content.read(), SOON_S)
            await asyncio.wait_for(pictures.content.read(), SOON_S)

    run(tmp_path, case, WIDE)


# -- pictures ----------------------------------------------------------------------------------------------------------


async def framed(answer: ClientResponse) -> tuple[str, bytes]:
    async def read(size: int) -> bytes:
        return await asyncio.wait_for(answer.content.readexactly(size), SOON_S)

    name, jpeg = int.from_bytes(await read(4), "big"), int.from_bytes(await read(4), "big")
    return (await read(name)).decode(), await read(jpeg)


def test_the_sink_is_asked_only_while_somebody_watches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(previews, "ASK_S", 0.3)

    async def case(agent: FakeAgent, client: Client) -> None:
        assert not agent.asked
        async with client.get("/api/previews?stream=door&stream=yard") as answer:
            await until(lambda: agent.asked, "a request")
            assert agent.asked[0] == ("sink", {"preview": ["door", "yard"], "seconds": previews.LAST_S})
            agent.show("gate", b"not asked for")
            agent.show("door", b"of the door")
            assert await framed(answer) == ("door", b"of the door")
            await until(lambda: len(agent.asked) >= 3, "it is asked again")
        await until(lambda: not client.app[PREVIEWS].room.inside, "the client gone")
        await asyncio.sleep(1.2 * previews.ASK_S)
        asked = len(agent.asked)
        await asyncio.sleep(1.2 * previews.ASK_S)
        assert len(agent.asked) == asked

    run(tmp_path, case)


def test_many_streams_are_asked_for_in_messages_that_fit(tmp_path: Path) -> None:
    async def case(agent: FakeAgent, client: Client) -> None:
        query = "&".join(f"stream=s{number}" for number in range(previews.MAX_STREAMS))
        async with client.get(f"/api/previews?{query}") as answer:
            assert answer.status == 200
            await until(lambda: len(agent.asked) >= 2, "requests")
        names = [name for _, request in agent.asked[:2] for name in request["preview"]]
        assert sorted(names) == sorted(f"s{number}" for number in range(previews.MAX_STREAMS))
        assert max(len(request["preview"]) for _, request in agent.asked) == previews.A_MESSAGE
        assert (await client.get(f"/api/previews?{query}&stream=more")).status == 400
        assert (await client.get("/api/previews")).status == 400
        assert (await client.get(f"/api/previews?stream={'x' * 300}")).status == 400

    run(tmp_path, case)


def test_one_picture_and_moving_ones(tmp_path: Path) -> None:
    async def case(agent: FakeAgent, client: Client) -> None:
        jpeg = picture((0, 0, 255))

        async def paint() -> None:
            while True:
                agent.show("a/b <c>", jpeg)
                await asyncio.sleep(0.05)

        painter = asyncio.create_task(paint())
        answer = await client.get("/api/streams/a%2Fb%20%3Cc%3E/preview.jpg")
        assert (answer.status, answer.content_type, await answer.read()) == (200, "image/jpeg", jpeg)
        async with client.get("/api/streams/a%2Fb%20%3Cc%3E/preview.mjpg") as moving:
            assert moving.content_type == "multipart/x-mixed-replace"
            head = await asyncio.wait_for(moving.content.readuntil(b"\r\n\r\n"), SOON_S)
            assert head.startswith(b"--picture\r\nContent-Type: image/jpeg\r\n")
            assert await asyncio.wait_for(moving.content.readexactly(len(jpeg)), SOON_S) == jpeg
        painter.cancel()

    run(tmp_path, case)


def test_where_no_picture_comes_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(previews, "FIRST_S", 0.1)

    async def case(agent: FakeAgent, client: Client) -> None:
        answer = await client.get("/api/streams/door/preview.jpg")
        assert answer.status == 503
        assert "no picture" in (await answer.json())["error"]

    run(tmp_path, case)


def test_a_slow_client_misses_pictures_and_keeps_no_others_waiting(tmp_path: Path) -> None:
    """One never reads: what waits for it is one picture a stream and what the kernel keeps."""

    async def case(agent: FakeAgent, client: Client) -> None:
        jpeg = bytes(60_000)
        with socket.create_connection(("127.0.0.1", client.port)) as lazy:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            request = f"GET /api/previews?stream=door HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\n\r\n"
            lazy.sendall(request.encode())
            async with client.get("/api/previews?stream=door") as answer:
                watchers = client.app[PREVIEWS]
                await until(lambda: watchers.room.inside == 2, "both watch")
                for number in range(100):
                    agent.show("door", jpeg + bytes([number]))
                    assert (await framed(answer))[1][-1] == number
                watchers.check()
                skipped = sorted(one.skipped for one in watchers._watchers)
                assert skipped[0] == 0
                assert skipped[1] > 60
                agent.show("door", b"last")
                assert (await framed(answer))[1] == b"last"

    run(tmp_path, case)


def test_who_takes_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "STUCK_S", 0.3)

    async def case(agent: FakeAgent, client: Client) -> None:
        room = client.app[PREVIEWS].room
        with socket.create_connection(("127.0.0.1", client.port)) as lazy:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lazy.sendall(f"GET /api/previews?stream=a HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\n\r\n".encode())
            await until(lambda: room.inside == 1, "it watches")

            def gone() -> bool:
                agent.show("a", bytes(100_000))
                return not room.inside

            await until(gone, "it is left")

    run(tmp_path, case)


@pytest.mark.parametrize(
    ("path", "most"),
    [("/api/previews?stream=a", previews.MAX_CLIENTS), ("/api/events", events.MAX_CLIENTS)],
    ids=["pictures", "events"],
)
def test_there_is_room_for_so_many_clients(tmp_path: Path, path: str, most: int) -> None:
    async def case(agent: FakeAgent, client: Client) -> None:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(most):
                answer = await stack.enter_async_context(client.get(path))
                assert answer.status == 200
            refused = await client.get(path)
            assert refused.status == 503
            assert "Retry-After" in refused.headers
        for _ in range(200):
            async with client.get(path) as answer:
                if answer.status == 200:
                    return
            await asyncio.sleep(0.05)
        raise AssertionError("no room came free")

    run(tmp_path, case)


def test_the_page_closes_at_once_whoever_looks(tmp_path: Path) -> None:
    async def case(agent: FakeAgent, client: Client) -> None:
        async with contextlib.AsyncExitStack() as stack:
            for path in ("/api/events", "/api/previews?stream=a", "/api/streams/a/preview.mjpg"):
                await stack.enter_async_context(client.get(path))
            began = asyncio.get_running_loop().time()
            await client.server.close()
            assert asyncio.get_running_loop().time() - began < 3

    run(tmp_path, case)
