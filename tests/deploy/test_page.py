"""What the page shows, to whom, and that every answer is kept to itself."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path

import msgspec
import pytest
from yarl import URL

from deploy.agent.page import previews
from deploy.agent.page.adding import NewStream
from deploy.agent.page.guard import HEADERS
from tests.deploy.asking import BEARER, WIDE, Client, run, sign_in
from tests.deploy.paged import TOKEN, FakeAgent, make_app, node

# -- looking -----------------------------------------------------------------------------------------------------------

LOOKS = ["/api/node", "/api/events", "/metrics", "/api/previews?stream=door", "/api/streams/door/preview.mjpg"]


def test_on_loopback_everybody_may_look(tmp_path: Path) -> None:
    async def case(agent: FakeAgent, client: Client) -> None:
        for path in ["/", "/static/app.js", "/favicon.ico", "/healthz", "/readyz", *LOOKS]:
            async with client.get(path) as answer:
                assert answer.status == 200, path
        async with client.get("/api/node") as answer:
            assert await answer.json() == agent.said
        async with client.get("/api/session") as answer:
            assert await answer.json() == {"looks": True, "proof": None}

    run(tmp_path, case)


def test_beyond_loopback_looking_needs_the_token(tmp_path: Path) -> None:
    async def case(agent: FakeAgent, client: Client) -> None:
        for path in ["/", "/static/app.js", "/healthz", "/readyz"]:
            assert (await client.get(path)).status == 200, path
        assert (await (await client.get("/api/session")).json()) == {"looks": False, "proof": None}
        for path in [*LOOKS, "/api/streams/door/preview.jpg"]:
            answer = await client.get(path)
            assert answer.status == 401, path
            assert "edge-03" not in await answer.text()
        for path in LOOKS:
            async with client.get(path, headers=BEARER) as answer:
                assert answer.status == 200, path
        await sign_in(client)
        for path in LOOKS:
            async with client.get(path) as answer:
                assert answer.status == 200, path

    run(tmp_path, case, WIDE)


def test_what_a_proxy_brings_to_loopback_needs_the_token(tmp_path: Path) -> None:
    async def case(agent: FakeAgent, client: Client) -> None:
        assert (await client.get("/api/node", headers={"X-Forwarded-For": "203.0.113.9"})).status == 401

    run(tmp_path, case)


def test_another_name_of_loopback_is_refused(tmp_path: Path) -> None:
    """DNS rebinding: a site's name that suddenly leads here."""

    async def case(agent: FakeAgent, client: Client) -> None:
        for path in ["/", "/healthz", "/static/app.js", *LOOKS]:
            answer = await client.get(path, headers={"Host": "evil.example"})
            assert answer.status == 403, path
        answer = await client.post("/api/workers", json={"count": 1}, headers={"Host": "evil.example", **BEARER})
        assert answer.status == 403

    assert not run(tmp_path, case).done


def test_another_sites_page_gets_nothing(tmp_path: Path) -> None:
    async def case(agent: FakeAgent, client: Client) -> None:
        for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}):
            for path in [*LOOKS, "/api/session"]:
                assert (await client.get(path, headers=headers)).status == 403, path
            assert (await client.get("/", headers=headers)).status == 200, "a link to the page is fine"

    run(tmp_path, case)


def test_every_answer_is_kept_to_itself(tmp_path: Path) -> None:
    async def case(agent: FakeAgent, client: Client) -> None:
        for path in ["/", "/static/app.js", "/api/node", "/api/events", "/nothing", "/api/streams/x/preview.mjpg"]:
            async with client.get(path) as answer:
                for name, value in HEADERS.items():
                    assert answer.headers.get(name) == value, (path, name)
                assert "Access-Control-Allow-Origin" not in answer.headers
                assert "Python" not in answer.headers.get("Server", "")

    run(tmp_path, case)


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static/%2Fetc%2Fpasswd", "/static/nothing.js"]
)
def test_only_the_pages_own_files_are_served(tmp_path: Path, path: str) -> None:
    async def case(agent: FakeAgent, client: Client) -> None:
        answer = await client.session.get(URL(f"http://127.0.0.1:{client.port}/static/{path}", encoded=True))
        assert answer.status == 404
        assert "import" not in await answer.text()

    run(tmp_path, case)


ROUNDABOUT = ("/static/../api/node", "/static/%2e%2e/api/node", "//api/node", "/api//node", "/%61pi/node", "/api/node/")


@pytest.mark.parametrize("path", ROUNDABOUT)
def test_no_way_of_writing_a_path_goes_round_the_token(tmp_path: Path, path: str) -> None:
    async def case(agent: FakeAgent, client: Client) -> None:
        answer = await client.session.get(URL(f"http://127.0.0.1:{client.port}{path}", encoded=True))
        assert answer.status in (401, 404)
        assert "edge-03" not in await answer.text()

    run(tmp_path, case, WIDE)


def test_a_bug_of_ours_is_one_line_for_whoever_asked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def case(agent: FakeAgent, client: Client) -> None:
        del agent.said
        answer = await client.get("/api/node")
        assert answer.status == 500
        assert "bug of ours" in (await answer.json())["error"]
        assert answer.headers["X-Frame-Options"] == "DENY"

    run(tmp_path, case)
    assert "AttributeError" in caplog.text


def test_nothing_is_loaded_from_outside() -> None:
    static = Path(previews.__file__).parent / "static"
    files = sorted(static.iterdir())
    assert len(files) > 8
    for file in files:
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, file.name
        assert "https://" not in text, file.name
        assert "innerHTML" not in text, file.name
        assert "onclick=" not in text, file.name
        assert " style=" not in text, file.name


# -- its description ---------------------------------------------------------------------------------------------------

PAGE_MD = Path(__file__).resolve().parents[2] / "docs" / "page.md"


def test_every_request_is_documented(tmp_path: Path) -> None:
    text = PAGE_MD.read_text(encoding="utf-8").replace("…", "/api/streams/NAME")
    app = make_app(FakeAgent(tmp_path, node(tmp_path)))
    paths = {route.resource.canonical for route in app.router.routes() if route.resource is not None}
    assert len(paths) > 12
    for path in paths - {"/", "/static/{name}", "/favicon.ico"}:
        assert path.replace("{name}", "NAME") in text, path
    for field in msgspec.structs.fields(NewStream):
        assert f"`{field.name}`" in text, field.name


def test_every_documented_command_works(tmp_path: Path) -> None:
    lines = [line for line in PAGE_MD.read_text(encoding="utf-8").splitlines() if line.startswith("curl ")]
    assert len(lines) >= 8

    async def case(agent: FakeAgent, client: Client) -> None:
        agent.said["streams"][0]["name"] = "cam"
        for line in lines:
            words = shlex.split(line.replace("$TOKEN", TOKEN))
            url = next(word for word in words if word.startswith("http://"))
            method = words[words.index("-X") + 1] if "-X" in words else "GET"
            headers = dict(words[at + 1].split(": ", 1) for at, word in enumerate(words) if word == "-H")
            data = words[words.index("-d") + 1] if "-d" in words else None
            path = url.removeprefix("http://localhost:8750")
            painter = asyncio.get_running_loop().call_later(0.2, agent.show, "cam", b"jpeg")
            async with client.request(method, path, headers=headers, data=data) as answer:
                assert answer.status == 200, (line, await answer.text())
            painter.cancel()

    done = run(tmp_path, case).done
    assert [name for name, _ in done] == ["scale", "add", "pause", "resume", "remove"]
