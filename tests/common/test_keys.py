"""Keys between real sockets: who gets in, who is told what, and what a change of the list does."""

from __future__ import annotations

import logging
import os
import random
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common import messages as m
from common.config import Security
from common.errors import LinkError
from common.keyfiles import (
    ALLOWED,
    ROLES,
    SPEAKERS,
    AllowedList,
    Entry,
    KeyFile,
    Role,
    key_path,
    write_allowed,
    write_key,
)
from common.keys import Ring, new_key
from common.transport import Hub, Unreachable
from common.wire import Reader
from tests.support import wait_for

#: Socket → how it listens and who serves it, and how one dials it.
KINDS = {
    "frames": ("pull", "broker", "push"),
    "workers": ("router", "broker", "dealer"),
    "news": ("pub", "broker", "sub"),
    "media": ("router", "sink", "dealer"),
    "results": ("pull", "sink", "push"),
}


class Keys:
    """A folder with keys for all roles; and hubs with them, which are closed at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700)
        self.own = {role: new_key(role, role) for role in ROLES}
        for role, key in self.own.items():
            write_key(key_path(folder, role), key)
        self.hubs: list[Hub] = []
        self.allow(*(self.own[role].entry for role in ("producer", "worker", "broker")))

    @property
    def security(self) -> Security:
        return Security(keys=str(self.folder))

    def allow(self, *entries: Entry) -> None:
        write_allowed(self.folder / ALLOWED, entries)

    def allow_but(self, role: Role) -> None:
        self.allow(*(self.own[one].entry for one in ("producer", "worker", "broker") if one != role))

    def hub(self, role: Role | None, key: KeyFile | None = None) -> Hub:
        """``key``: another one than the folder's; without a role one without keys."""
        ring = None
        if role is not None:
            ring = Ring.of(self.security, role)
            assert ring is not None
            if key is not None:
                ring = Ring(key, ring.servers, ring.allowed)
        self.hubs.append(Hub(ring=ring))
        return self.hubs[-1]


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Keys]:
    keys = Keys(tmp_path / "keys")
    yield keys
    for hub in keys.hubs:
        hub.close(linger=False)


class Pair:
    """A listening and a dialling socket, both at work."""

    def __init__(self, keys: Keys, name: str, dials: Hub, serves: Hub | None = None) -> None:
        kind, self.server, dial = KINDS[name]
        self.hub = serves or keys.hub(self.server)  # type: ignore[arg-type]
        self.name, self.kind = name, kind
        self.there = self.hub.bind(kind, "tcp://127.0.0.1:*", name=name)
        self.here = dials.connect(dial, self.there.address, watch=True, to=self.server)
        if dial == "sub":
            self.here.subscribe()
        self.counts: Counter[str] = Counter()
        self.routes: set[bytes] = set()

    def passes(self) -> bool:
        """Let both work once. Whether a message came over."""
        for (name, kind), count in self.hub.tend().items():
            assert name == self.name
            self.counts[kind] += count
        sender, receiver = (self.there, self.here) if self.kind == "pub" else (self.here, self.there)
        sender.send(b"x")
        came = receiver.receive()
        if came is not None and self.kind == "router":
            self.routes.add(came[0])
        if self.kind == "router":
            self.here.receive()
        return came is not None

    def until(self, condition: Callable[[], object], what: str, seconds: float = 5.0) -> None:
        def happened() -> object:
            self.passes()
            return condition()

        wait_for(happened, seconds, what)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", KINDS)
def test_each_role_at_each_socket(keys: Keys, name: str, role: Role, caplog: pytest.LogCaptureFixture) -> None:
    """What may speak is heard, what may not is refused, counted, and told at both ends within 2 s."""
    caplog.set_level(logging.INFO)
    pair = Pair(keys, name, keys.hub(role))
    if role in SPEAKERS[name]:
        wait_for(pair.passes, 5, "a message")
        assert not pair.counts
        return
    pair.until(lambda: pair.here.refusal and pair.counts, "a refusal", 2.0)
    assert not any(pair.passes() for _ in range(20))
    kind = "unknown_key" if role == "sink" else "role"
    assert set(pair.counts) == {kind}
    public = keys.own[role].public
    assert pair.here.refusal.startswith(f"the {pair.server} at tcp://127.0.0.1:")
    assert (
        f"refused our key: it is not on its list; to let it in, there: headrace keys allow {role} {role}" in caplog.text
    )
    assert f"{public}" in caplog.text
    assert re.search(rf"refused the key .* of 127\.0\.0\.1 at {name}: ", caplog.text)


def test_without_a_key(keys: Keys, caplog: pytest.LogCaptureFixture) -> None:
    pair = Pair(keys, "workers", keys.hub(None))
    pair.until(lambda: pair.here.refusal and "at workers" in caplog.text, "both name it", 2.0)
    assert set(pair.counts) <= {"no_key", "left"}
    assert "wants a key and we have none" in pair.here.refusal
    pair.until(lambda: "at workers: it has no key; it needs [security] keys" in caplog.text, "the reason", 6.0)
    assert not any(pair.passes() for _ in range(20))


def test_a_server_without_keys(keys: Keys, caplog: pytest.LogCaptureFixture) -> None:
    pair = Pair(keys, "workers", keys.hub("worker"), serves=keys.hub(None))
    pair.until(lambda: pair.here.refusal and "at workers" in caplog.text, "both name it", 2.0)
    assert set(pair.counts) <= {"no_encryption", "left"}
    assert "runs without keys" in pair.here.refusal, "alone, or among what it may be where it hung up first"
    pair.until(lambda: "at workers: it has keys and we have none" in caplog.text, "the reason", 6.0)


def test_another_server_than_expected(keys: Keys, caplog: pytest.LogCaptureFixture) -> None:
    """The client does not speak to who has not the key that it knows."""
    ring = Ring.of(keys.security, "worker")
    assert ring is not None
    hub = Hub(ring=Ring(ring.own, {"broker": new_key("broker", "x").public}, None))
    keys.hubs.append(hub)
    pair = Pair(keys, "workers", hub)
    pair.until(lambda: pair.here.refusal and "at workers" in caplog.text, "both name it", 2.0)
    assert set(pair.counts) == {"server_key"}
    assert "breaks off each handshake: it has another key than we expect" in pair.here.refusal
    assert "at workers: it expects another key than ours" in caplog.text
    before = pair.counts["server_key"]
    start = time.monotonic()
    pair.until(lambda: time.monotonic() - start > 2.0, "time")
    assert pair.counts["server_key"] - before < 20, "ZeroMQ alone would knock twenty times a second"


@pytest.mark.parametrize("name", ["frames", "workers", "results", "media"])
def test_a_revoked_key_is_cut_off_and_let_in_again(keys: Keys, name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    role = SPEAKERS[name][0]
    pair = Pair(keys, name, keys.hub(role))
    wait_for(pair.passes, 5, "a message")
    keys.allow_but(role)
    start = time.monotonic()
    pair.until(lambda: pair.counts["revoked"], "its messages are refused", 2.0)
    assert time.monotonic() - start < 1.5
    assert not any(pair.passes() for _ in range(50))
    assert "it is no longer on the list" in caplog.text
    if pair.kind == "router":
        for route in pair.routes:
            with pytest.raises(Unreachable):
                pair.there.send(route, b"x")
        told = Reader[m.Refused](m.Refused)

        def heard() -> bool:
            pair.here.send(b"x")
            pair.there.receive()
            return (came := pair.here.receive()) is not None and told.decode(came)[0].reason != ""

        wait_for(heard, 3, "Refused")
        pair.here.refused("it is no longer on the list of allowed keys")
        assert "refused our key: it is no longer on the list" in pair.here.refusal
        before = pair.counts["revoked"]
        pair.until(lambda: pair.counts["revoked"] > before, "it knocks again", 4.0)
    keys.allow(*(keys.own[one].entry for one in ("producer", "worker", "broker")))
    wait_for(pair.passes, 8, "a message again")
    wait_for(lambda: pair.here.refusal == "", 2, "no refusal any more")


def test_news_reach_no_revoked_key_and_all_others(keys: Keys) -> None:
    other = new_key("producer", "other")
    keys.allow(keys.own["producer"].entry, other.entry)
    pair = Pair(keys, "news", keys.hub("producer"))
    second = keys.hub("producer", other).connect("sub", pair.there.address, watch=True, to="broker")
    second.subscribe()
    wait_for(pair.passes, 5, "news")
    wait_for(lambda: pair.passes() is not None and second.receive(), 5, "news for the other")
    keys.allow(other.entry)
    pair.until(lambda: pair.here.refusal, "the refusal", 3.0)
    assert "refused our key" in pair.here.refusal
    while pair.here.receive() is not None:
        pass
    while second.receive() is not None:
        pass
    for _ in range(20):
        assert not pair.passes()
    wait_for(lambda: pair.passes() or second.receive(), 5, "news for the other")
    assert second.refusal == ""


def test_a_new_key_disturbs_nobody(keys: Keys) -> None:
    """Not even the publisher is made anew where nobody is cut off."""
    pair = Pair(keys, "news", keys.hub("producer"))
    wait_for(pair.passes, 5, "news")
    before = pair.there.poll_handle()
    late = new_key("producer", "late")
    hub = keys.hub("producer", late)
    dialled = hub.connect("sub", pair.there.address, watch=True, to="broker")
    dialled.subscribe()
    pair.until(lambda: dialled.refusal, "the refusal", 3.0)
    keys.allow(keys.own["producer"].entry, late.entry)
    pair.until(lambda: dialled.receive(), "it connects by itself", 8.0)
    assert pair.there.poll_handle() is before


def test_a_list_that_cannot_be_read_counts_as_before(keys: Keys, caplog: pytest.LogCaptureFixture) -> None:
    pair = Pair(keys, "frames", keys.hub("producer"))
    wait_for(pair.passes, 5, "a message")
    (keys.folder / ALLOWED).write_text("[[allowed]]\nrole = ")
    pair.until(lambda: "stays as it was" in caplog.text and pair.hub.problem, "a word on the list", 3.0)
    wait_for(pair.passes, 5, "a message")
    os.unlink(keys.folder / ALLOWED)
    pair.until(lambda: "No such file" in caplog.text, "a word on the list", 3.0)
    wait_for(pair.passes, 5, "a message")


def test_a_gate_that_breaks_down_is_heard_of(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its part crashes, and is started again: nobody would be let in any more."""

    def broken(_: object) -> bool:
        raise RuntimeError("a bug")

    hub = keys.hub("broker")
    hub.bind("pull", "tcp://127.0.0.1:*", name="frames")
    hub.tend()
    monkeypatch.setattr(AllowedList, "look", broken)

    def raised() -> bool:
        try:
            hub.tend()
        except RuntimeError:
            return True
        return False

    wait_for(raised, 5, "the error")


def test_garbage_at_the_port(keys: Keys) -> None:
    """What is no ZeroMQ, or no CURVE, is counted; the others go on."""
    pair = Pair(keys, "frames", keys.hub("producer"))
    wait_for(pair.passes, 5, "a message")
    port = int(pair.there.address.rpartition(":")[2])
    greeting = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x00CURVE" + b"\0" * 15 + b"\0" * 32
    dice = random.Random(3)
    said = [b"GET / HTTP/1.1\r\n\r\n" * 8, dice.randbytes(5000), greeting + b"\x04\xc8\x05HELLO" + dice.randbytes(194),
            greeting + dice.randbytes(300), greeting.replace(b"CURVE", b"PLAIN")]  # fmt: skip
    open_ones = []
    for words in said:
        one = socket.create_connection(("127.0.0.1", port))
        one.sendall(words)
        open_ones.append(one)
        wait_for(pair.passes, 5, "a message")
    pair.until(lambda: pair.counts["handshake"] >= 2 and pair.counts["no_key"], "counted", 4)
    for one in open_ones:
        one.close()
    wait_for(pair.passes, 5, "a message")


def test_on_ipc_there_is_no_encryption(keys: Keys, tmp_path: Path) -> None:
    """The folder's mode is what keeps others out."""
    broker, nobody = keys.hub("broker"), keys.hub(None)
    pull = broker.bind("pull", f"ipc://{tmp_path}/x", name="frames")
    nobody.connect("push", f"ipc://{tmp_path}/x").send(b"x")
    assert wait_for(pull.receive, 5, "a message") == [b"x"]


def test_beyond_loopback_with_keys(keys: Keys) -> None:
    broker = keys.hub("broker")
    assert broker.bind("pull", "tcp://127.0.0.1:*", name="frames", interface="*").address.startswith("tcp://0.0.0.0:")


def test_a_server_whose_key_is_not_known(keys: Keys) -> None:
    os.unlink(key_path(keys.folder, "broker"))
    with pytest.raises(LinkError, match=r"the broker's public key is not known: write \[security\] broker"):
        keys.hub("worker").connect("dealer", "tcp://127.0.0.1:7", to="broker")


def test_what_a_part_needs_to_begin(keys: Keys, tmp_path: Path) -> None:
    assert Ring.of(Security(), "broker") is None
    known = Security(keys=str(keys.folder), broker=new_key("broker", "x").public)
    with pytest.raises(LinkError, match=r"\[security\] broker is not the public key in"):
        Ring.of(known, "worker")
    os.unlink(keys.folder / ALLOWED)
    assert Ring.of(keys.security, "worker") is not None, "who only dials needs no list"
    with pytest.raises(LinkError, match=r"allowed\.toml cannot be read: No such file"):
        Ring.of(keys.security, "sink")
    path = key_path(keys.folder, "worker")
    path.write_text(path.read_text().replace(keys.own["worker"].public, new_key("worker", "x").public))
    with pytest.raises(LinkError, match="do not belong together"):
        Ring.of(keys.security, "worker")
    os.unlink(path)
    with pytest.raises(LinkError, match=r"there is no worker\.key in"):
        Ring.of(keys.security, "worker")
    with pytest.raises(LinkError, match="cannot be read: No such file"):
        Ring.of(Security(keys=str(tmp_path / "none")), "worker")
    os.chmod(keys.folder, 0o755)
    with pytest.raises(LinkError, match="chmod 700"):
        Ring.of(keys.security, "worker")


def test_keys_are_easy_to_type() -> None:
    for _ in range(300):
        key = new_key("worker", "x")
        assert key.public[0].isalnum()
        assert "${" not in key.public
        assert "secret" not in repr(key)
        assert key.secret not in repr(key)
