"""Who may do what on the page: the pure pieces."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.agent.page.pagetoken import SHORTEST, Token
from deploy.agent.page.rules import is_foreign, is_forwarded, is_ours, named, right_host
from deploy.agent.page.sessions import LIFE_S, MAX_ADDRESSES, MAX_SESSIONS, TRIES, TRY_S, Sessions, Tries
from deploy.node.folder import NodeFolder

LOCAL = "127.0.0.1:8750"


# -- hosts and sites ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "listen", "right"),
    [
        ("localhost:8750", LOCAL, True),
        ("127.0.0.1:8750", LOCAL, True),
        ("[::1]:8750", "[::1]:8750", True),
        ("LOCALHOST", LOCAL, True),
        ("localhost:9000", LOCAL, True),  # through a tunnel
        ("127.8.9.10", LOCAL, True),
        ("evil.example:8750", LOCAL, False),
        ("localhost.evil.example", LOCAL, False),
        ("127.0.0.1.evil.example", LOCAL, False),
        ("10.0.0.7:8750", LOCAL, False),
        ("evil.example@localhost:8750", LOCAL, True),  # names localhost; browsers send no user
        ("[::1", LOCAL, False),
        ("", LOCAL, False),
        (None, LOCAL, False),
        ("evil.example", "localhost:8750", False),
        ("evil.example:8750", "0.0.0.0:8750", True),  # the token keeps it out
        ("node-7:8750", "node-7:8750", True),
    ],
)
def test_a_loopback_page_answers_to_its_own_name_alone(host: str | None, listen: str, right: bool) -> None:
    assert right_host(host, listen) is right


@pytest.mark.parametrize(
    ("headers", "foreign", "ours"),
    [
        ({}, False, False),  # curl
        ({"Origin": "http://localhost:8750"}, False, True),
        ({"Origin": "https://localhost:8750"}, False, True),  # what encrypts stands between
        ({"Origin": "http://localhost:8751"}, True, False),
        ({"Origin": "http://evil.example"}, True, False),
        ({"Origin": "http://localhost"}, True, False),
        ({"Origin": "null"}, True, False),
        ({"Origin": "http://localhost:8750.evil.example"}, True, False),
        ({"Origin": "http://[::1"}, True, False),
        ({"Origin": "http://localhost:99999"}, True, False),
        ({"Origin": "file://localhost:8750"}, True, False),
        ({"Sec-Fetch-Site": "same-origin"}, False, True),
        ({"Sec-Fetch-Site": "none"}, False, False),
        ({"Sec-Fetch-Site": "cross-site"}, True, False),
        ({"Sec-Fetch-Site": "same-site"}, True, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost:8750"}, True, False),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://evil.example"}, True, False),
    ],
)
def test_another_sites_page_is_told_from_ours(headers: dict[str, str], foreign: bool, ours: bool) -> None:
    full = {"Host": "localhost:8750", **headers}
    assert is_foreign(full) is foreign
    assert is_ours(full) is ours


def test_the_usual_port_may_be_left_out() -> None:
    assert is_ours({"Host": "ops.example", "Origin": "https://ops.example"})
    assert is_ours({"Host": "ops.example:80", "Origin": "http://ops.example"})
    assert not is_ours({"Host": "ops.example", "Origin": "https://ops.example:8443"})


def test_what_comes_through_a_proxy_is_no_neighbour() -> None:
    assert not is_forwarded({"Host": "localhost"})
    assert is_forwarded({"Host": "localhost", "X-Forwarded-For": "203.0.113.9"})


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_header_breaks_the_rules(host: str, origin: str) -> None:
    named(host)
    right_host(host, LOCAL)
    is_foreign({"Host": host, "Origin": origin})


# -- sessions ----------------------------------------------------------------------------------------------------------


def test_a_session_lasts_and_ends() -> None:
    sessions = Sessions()
    secret, session = sessions.open(100.0)
    assert sessions.find(secret, 100.0 + LIFE_S - 1) == session
    assert sessions.find(secret, 100.0 + LIFE_S) is None
    assert sessions.find(secret + "x", 100.0) is None
    assert session.proves(session.proof)
    assert not session.proves("")
    assert not session.proves("é")
    sessions.close(secret)
    assert sessions.find(secret, 100.0) is None


def test_of_too_many_sessions_the_oldest_ends() -> None:
    sessions = Sessions()
    secrets = [sessions.open(float(number))[0] for number in range(MAX_SESSIONS + 3)]
    sessions.check()
    assert len(set(secrets)) == len(secrets)
    assert [sessions.find(one, 200.0) is None for one in secrets[:4]] == [True, True, True, False]
    sessions.clear()
    assert sessions.find(secrets[-1], 200.0) is None


def test_wrong_tokens_are_slowed_down_by_address() -> None:
    tries = Tries()
    for _ in range(TRIES):
        assert tries.pause("192.0.2.1", 50.0) == 0.0
        tries.wrong("192.0.2.1", 50.0)
    assert 0 < tries.pause("192.0.2.1", 50.0) <= TRY_S
    assert tries.pause("192.0.2.2", 50.0) == 0.0
    # One more for each span of time, and never a burst again before all of them have passed.
    later = 50.0 + TRY_S
    assert tries.pause("192.0.2.1", later) == 0.0
    tries.wrong("192.0.2.1", later)
    assert tries.pause("192.0.2.1", later) > 0.0
    assert tries.pause("192.0.2.1", later + TRIES * TRY_S) == 0.0


def test_a_whole_network_of_ipv6_counts_as_one() -> None:
    tries = Tries()
    for number in range(TRIES):
        tries.wrong(f"2001:db8:1:2::{number:x}", 0.0)
    assert tries.pause("2001:db8:1:2:ffff::1", 0.0) > 0.0
    assert tries.pause("2001:db8:1:3::1", 0.0) == 0.0


def test_addresses_do_not_pile_up() -> None:
    tries = Tries()
    for number in range(MAX_ADDRESSES + 50):
        tries.wrong(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 0.0)
    tries.check()


# -- the token ---------------------------------------------------------------------------------------------------------


def test_a_token_is_made_where_there_is_none(tmp_path: Path) -> None:
    folder = NodeFolder(tmp_path)
    token = Token(None, folder)
    text = folder.token.read_text().strip()
    assert stat.S_IMODE(os.stat(folder.token).st_mode) == 0o600
    assert len(text) >= 32
    assert token.matches(text)
    assert not token.matches(text[:-1])
    assert not token.matches("")
    assert Token(None, folder).matches(text), "another start keeps it"


def test_the_configurations_token_stands_above_the_file(tmp_path: Path) -> None:
    folder = NodeFolder(tmp_path)
    folder.write(folder.token, b"the-token-of-the-file")
    token = Token("the-token-of-the-configuration", folder)
    assert token.matches("the-token-of-the-configuration")
    assert not token.matches("the-token-of-the-file")


def test_a_new_token_ends_what_the_old_one_began(tmp_path: Path) -> None:
    folder, ended = NodeFolder(tmp_path), []
    folder.write(folder.token, b"the-first-token-of-all")
    token = Token(None, folder, lambda: ended.append(True))
    assert token.matches("the-first-token-of-all")
    folder.write(folder.token, b"another-token-altogether\n")
    assert token.matches("another-token-altogether")
    assert not token.matches("the-first-token-of-all")
    assert ended == [True]


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"short", b"x" * 300, b"\xff\xfe" * 20], ids=["empty", "line", "short", "long", "bytes"]
)
def test_a_file_without_a_token_lets_nobody_in(tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    folder = NodeFolder(tmp_path)
    folder.write(folder.token, data)
    token = Token(None, folder)
    assert not token.matches(data.decode(errors="replace").strip())
    assert not token.matches("x" * SHORTEST)
    assert "nobody can sign in" in caplog.text
