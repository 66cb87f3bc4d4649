"""What is changed through the page, by whom, and what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from common.errors import LinkError, SourceError
from deploy.agent.http import MAX_BODY
from deploy.agent.page.api import MAX_CHANGES
from deploy.agent.page.guard import PROOF
from deploy.agent.page.sessions import TRIES
from tests.deploy.asking import BEARER, SOON_S, Client, origin, run, sign_in, until
from tests.deploy.paged import TOKEN, FakeAgent

# -- signing in --------------------------------------------------------------------------------------------------------


def test_the_cookie_is_the_browsers_alone(tmp_path: Path) -> None:
    async def case(agent: FakeAgent, client: Client) -> None:
        answer = await client.post("/api/session", json={"token": TOKEN}, headers=origin(client))
        cookie = answer.headers["Set-Cookie"]
        for word in ("HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"):
            assert word in cookie
        assert TOKEN not in cookie
        assert (await (await client.get("/api/session")).json())["proof"] == (await answer.json())["proof"]

    run(tmp_path, case)


def test_behind_tls_the_cookie_stays_there(tmp_path: Path) -> None:
    async def case(agent: FakeAgent, client: Client) -> None:
        for headers, secure in (({}, False), ({"X-Forwarded-Proto": "https"}, True)):
            answer = await client.post("/api/session", json={"token": TOKEN}, headers={**origin(client), **headers})
            assert ("Secure" in answer.headers["Set-Cookie"]) is secure

    run(tmp_path, case)


def test_two_nodes_on_one_machine_have_cookies_of_their_own(tmp_path: Path) -> None:
    names = set()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()

        async def case(agent: FakeAgent, client: Client) -> None:
            answer = await client.post("/api/session", json={"token": TOKEN}, headers=origin(client))
            names.add(answer.headers["Set-Cookie"].partition("=")[0])

        run(tmp_path / name, case)
    assert len(names) == 2


def test_a_wrong_token_is_told_and_soon_no_more_looked_at(tmp_path: Path) -> None:
    async def case(agent: FakeAgent, client: Client) -> None:
        for number in range(TRIES):
            path, sent = ("/api/session", {}) if number % 2 else ("/api/workers", {"Authorization": "Bearer nonsense"})
            body = {"token": "nonsense"} if number % 2 else {"count": 1}
            answer = await client.post(path, json=body, headers={**origin(client), **sent})
            assert answer.status == 401, await answer.text()
            assert "not the token" in (await answer.json())["error"]
        answer = await client.post("/api/session", json={"token": TOKEN}, headers=origin(client))
        assert answer.status == 429
        assert int(answer.headers["Retry-After"]) >= 1
        assert (await client.get("/api/node")).status == 200, "looking is free here"

    assert not run(tmp_path, case).done


def test_whoever_has_signed_in_stays_so_while_others_try(tmp_path: Path) -> None:
    async def case(agent: FakeAgent, client: Client) -> None:
        headers = await sign_in(client)
        for _ in range(TRIES + 2):
            await client.post("/api/session", json={"token": "nonsense"}, headers=origin(client))
        assert (await client.post("/api/workers", json={"count": 1}, headers=headers)).status == 200

    assert run(tmp_path, case).done == [("scale", (1,))]


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{}", "application/json", 400),
        (b"no json", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 5000, "application/json", 400),
        (b'{"token": 5}', "application/json", 400),
        (json.dumps({"token": TOKEN}).encode(), "text/plain", 415),
        (b"token=" + TOKEN.encode(), "application/x-www-form-urlencoded", 415),
        (json.dumps({"token": "x" * MAX_BODY}).encode(), "application/json", 413),
    ],
    ids=["empty", "words", "bytes", "deep", "number", "text", "form", "huge"],
)
def test_what_is_no_sign_in_is_refused(tmp_path: Path, body: bytes, kind: str, status: int) -> None:
    async def case(agent: FakeAgent, client: Client) -> None:
        answer = await client.post("/api/session", data=body, headers={**origin(client), "Content-Type": kind})
        assert answer.status == status
        assert (await answer.json())["error"]

    run(tmp_path, case)


# -- changing ----------------------------------------------------------------------------------------------------------

CHANGES = [
    ("POST", "/api/workers", {"count": 4}, ("scale", (4,))),
    ("POST", "/api/streams/door/pause", {}, ("pause", ("door",))),
    ("POST", "/api/streams/garage/resume", {}, ("resume", ("garage",))),
    ("DELETE", "/api/streams/door", None, ("remove", ("door", 30.0))),
    ("DELETE", "/api/streams/door?wait=5s", None, ("remove", ("door", 5.0))),
    ("DELETE", "/api/streams/door?wait=9h", None, ("remove", ("door", 600.0))),
]


@pytest.mark.parametrize(("method", "path", "body", "change"), CHANGES, ids=[one[1] for one in CHANGES])
def test_changes_with_the_token(tmp_path: Path, method: str, path: str, body: Any, change: Any) -> None:
    async def case(agent: FakeAgent, client: Client) -> None:
        answer = await client.request(method, path, json=body, headers=BEARER)
        assert answer.status == 200, await answer.text()
        assert (await answer.json())["done"].endswith("is done")

    assert run(tmp_path, case).done == [change]


@pytest.mark.parametrize(("method", "path", "body", "change"), CHANGES, ids=[one[1] for one in CHANGES])
def test_changes_with_a_session_need_our_page_and_its_proof(
    tmp_path: Path, method: str, path: str, body: Any, change: Any
) -> None:
    async def case(agent: FakeAgent, client: Client) -> None:
        async def ask(headers: dict[str, str]) -> int:
            return (await client.request(method, path, json=body, headers=headers)).status

        assert await ask({}) == 401
        assert await ask(origin(client)) == 401
        headers = await sign_in(client)
        proof = {PROOF: headers[PROOF]}
        assert await ask({}) == 403, "the cookie alone"
        assert await ask(origin(client)) == 403, "no proof"
        assert await ask({**origin(client), PROOF: "guessed"}) == 403
        assert await ask(proof) == 403, "nobody says where it comes from"
        assert await ask({**proof, "Origin": "http://evil.example"}) == 403
        assert await ask({**proof, "Origin": "null"}) == 403
        assert await ask({**headers, "Sec-Fetch-Site": "cross-site"}) == 403
        assert await ask({**headers, "Sec-Fetch-Site": "same-site"}) == 403
        assert await ask({**headers, "Authorization": "Bearer wrong"}) == 401
        assert not agent.done
        assert await ask({**headers, "Sec-Fetch-Site": "same-origin"}) == 200

    assert run(tmp_path, case).done == [change]


def test_another_sites_form_changes_nothing_even_with_the_token(tmp_path: Path) -> None:
    async def case(agent: FakeAgent, client: Client) -> None:
        headers = {**BEARER, "Origin": "http://evil.example"}
        assert (await client.post("/api/workers", json={"count": 0}, headers=headers)).status == 403
        answer = await client.options("/api/workers", headers={"Origin": "http://evil.example"})
        assert answer.status == 403
        assert "Access-Control-Allow-Origin" not in answer.headers

    assert not run(tmp_path, case).done


@pytest.mark.parametrize("count", [-1, 257, 10**30, 1.5, "3", None, True])
def test_a_number_of_workers_that_is_none(tmp_path: Path, count: Any) -> None:
    async def case(agent: FakeAgent, client: Client) -> None:
        answer = await client.post("/api/workers", json={"count": count}, headers=BEARER)
        assert answer.status == 400
        assert "count" in (await answer.json())["error"]

    assert not run(tmp_path, case).done


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(LinkError("worker-4 does not start: no room"), 503, 6), (SourceError("no such file: /x"), 400, 3)],
)
def test_why_a_change_failed_is_told(tmp_path: Path, error: Any, status: int, code: int) -> None:
    async def case(agent: FakeAgent, client: Client) -> None:
        agent.fails = error
        answer = await client.post("/api/workers", json={"count": 4}, headers=BEARER)
        assert answer.status == status
        assert await answer.json() == {"error": str(error), "exit_code": code}

    run(tmp_path, case)


def test_a_stream_that_is_not_there(tmp_path: Path) -> None:
    async def case(agent: FakeAgent, client: Client) -> None:
        for method, path in [("DELETE", "/api/streams/none"), ("POST", "/api/streams/none/pause")]:
            answer = await client.request(method, path, json={}, headers=BEARER)
            assert answer.status == 404
            assert "none" in (await answer.json())["error"]
        assert (await client.delete("/api/streams/door?wait=soon", headers=BEARER)).status == 400
        assert (await client.post("/api/streams/door/explode", json={}, headers=BEARER)).status == 404
        assert (await client.put("/api/workers", json={}, headers=BEARER)).status == 405

    assert not run(tmp_path, case).done


def test_only_so_many_changes_at_a_time(tmp_path: Path) -> None:
    async def case(agent: FakeAgent, client: Client) -> None:
        agent.gate = asyncio.Event()
        asked = [
            asyncio.create_task(client.post("/api/workers", json={"count": number}, headers=BEARER))
            for number in range(MAX_CHANGES + 1)
        ]
        done, _ = await asyncio.wait(asked, timeout=SOON_S, return_when=asyncio.FIRST_COMPLETED)
        assert [one.result().status for one in done] == [503]
        agent.gate.set()
        answers = await asyncio.gather(*asked)
        assert sorted(answer.status for answer in answers) == [200] * MAX_CHANGES + [503]

    run(tmp_path, case)


def test_a_change_goes_on_when_who_asked_has_left(tmp_path: Path) -> None:
    async def case(agent: FakeAgent, client: Client) -> None:
        agent.gate = asyncio.Event()
        asked = asyncio.create_task(client.post("/api/workers", json={"count": 2}, headers=BEARER))
        await asyncio.sleep(0.2)
        asked.cancel()
        await asyncio.sleep(0.2)
        agent.gate.set()
        await until(lambda: agent.done, "the change")

    assert run(tmp_path, case).done == [("scale", (2,))]


# -- adding ------------------------------------------------------------------------------------------------------------


def test_a_stream_is_added_as_it_would_be_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"x")

    async def case(agent: FakeAgent, client: Client) -> None:
        asked = {
            "source": "clip.mp4", "outputs": ["out.ts", "rtmp://relay/live/new"], "mode": "live", "latency": "300ms",
            "every": 2, "loop": True,
        }  # fmt: skip
        answer = await client.post("/api/streams", json=asked, headers=BEARER)
        assert answer.status == 200, await answer.text()

    ((name, ((stream,),)),) = run(tmp_path, case).done
    assert name == "add"
    assert stream.source == str(tmp_path / "clip.mp4")
    assert [(one.path, one.kind) for one in stream.outputs] == [
        (str(tmp_path / "out.ts"), "ts"), ("rtmp://relay/live/new", "rtmp"),
    ]  # fmt: skip
    assert (stream.name, stream.mode, stream.latency, stream.every, stream.loop) == ("clip", "live", 0.3, 2, True)
    assert stream.model == "objects"
    assert stream.ledger == str(tmp_path / "out.ledger.json")
    assert stream.in_flight >= 8 * 16, "room for workers that come later"


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"outputs": ["o.ts"]}, "source"),
        ({"source": "rtsp://cam/1"}, "outputs"),
        ({"source": "rtsp://cam/1", "outputs": []}, "outputs"),
        ({"source": "none.mp4", "outputs": ["o.ts"]}, "no such file"),
        ({"source": "rtsp://cam/1", "outputs": ["o.exe"]}, "ending"),
        ({"source": "rtsp://cam/1", "outputs": ["/none/o.ts"]}, "no folder"),
        ({"source": "rtsp://cam/1", "outputs": ["gopher://x/y"]}, "cannot send"),
        ({"source": "-", "outputs": ["o.ts"]}, "standard input"),
        ({"source": "rtsp://cam/1\n", "outputs": ["o.ts"]}, "cannot be shown"),
        ({"source": "rtsp://cam/1", "outputs": ["a\u202eb.ts"]}, "cannot be shown"),
        ({"source": "rtsp://cam/1", "outputs": ["o.ts"], "name": "a\nb"}, "name"),
        ({"source": "rtsp://cam/1", "outputs": ["o.ts"], "mode": "fast"}, "mode"),
        ({"source": "rtsp://cam/1", "outputs": ["o.ts"], "latency": "soon"}, "duration"),
        ({"source": "rtsp://cam/1", "outputs": ["o.ts"], "latency": 1e9}, "latency"),
        ({"source": "rtsp://cam/1", "outputs": ["o.ts"], "loop": True}, "loop"),
        ({"source": "rtsp://cam/1", "outputs": ["o.ts"], "segment": 0.1}, "segment"),
        ({"source": "rtsp://cam/1", "outputs": ["o.ts"], "ledger": "/etc/passwd"}, "ledger"),
        ({"source": "rtsp://cam/1", "outputs": ["o.ts"] * 17}, "outputs"),
        ({"source": "rtsp://cam/1", "outputs": ["o.ts", "o.ts"]}, "o.ts"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_a_stream_that_cannot_be_is_refused_in_one_line(tmp_path: Path, asked: dict[str, Any], words: str) -> None:
    async def case(agent: FakeAgent, client: Client) -> None:
        answer = await client.post("/api/streams", json=asked, headers=BEARER)
        assert answer.status == 400, await answer.text()
        error = (await answer.json())["error"]
        assert words in error
        assert "\n" not in error

    assert not run(tmp_path, case).done
    assert not list(tmp_path.glob("o.*"))


def test_no_shell_ever_sees_what_is_typed(tmp_path: Path) -> None:
    """It is kept as it is, and parts are started without a shell."""
    word = "$(touch pwned); `touch pwned` & rtsp://cam/1|'\""

    async def case(agent: FakeAgent, client: Client) -> None:
        asked = {"source": "rtsp://cam/" + word, "outputs": ["o.ts"], "name": word}
        assert (await client.post("/api/streams", json=asked, headers=BEARER)).status == 200

    ((_, ((stream,),)),) = run(tmp_path, case).done
    assert (stream.source, stream.name) == ("rtsp://cam/" + word, word)
    assert not (tmp_path / "pwned").exists()


async def _raw(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    with contextlib.suppress(ConnectionError, TimeoutError):
        return await asyncio.wait_for(reader.read(4096), 2)
    return b""


def test_garbage_is_answered_and_the_page_goes_on(tmp_path: Path) -> None:
    async def case(agent: FakeAgent, client: Client) -> None:
        assert client.port is not None
        for data in (
            b"\x16\x03\x01\x02",
            b"GET\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: " + b"a" * 20000,
        ):
            await _raw(client.port, data)
        async with ClientSession() as session, session.get(f"http://127.0.0.1:{client.port}/api/node") as answer:
            assert answer.status == 200

    run(tmp_path, case)
