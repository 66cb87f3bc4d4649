"""ZeroMQ behind its wrapper: addresses, full queues, peers that are gone, closing."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common.address import check_address
from common.errors import LinkError, UsageError
from common.transport import LINGER_MS, Endpoint, Hub, Poller, Unreachable, Waker, drain
from common.transport import hub as transport
from tests.support import wait_for


@pytest.fixture
def hubs() -> Iterator[Callable[[], Hub]]:
    """Makes hubs; a test that leaves one open fails."""
    made: list[Hub] = []

    def make() -> Hub:
        made.append(Hub())
        return made[-1]

    yield make
    left = [hub for hub in made if not hub._context.closed]
    for hub in left:
        hub.close()
    assert not left, f"{len(left)} hubs were not closed"


def receive(endpoint: Endpoint, seconds: float = 5.0) -> list[bytes]:
    """The next message, waited for."""
    poller, deadline = Poller(endpoint), time.monotonic() + seconds
    while (message := endpoint.receive()) is None:
        assert time.monotonic() < deadline, "no message came"
        poller.wait(0.05)
    return message


@pytest.mark.parametrize(
    "address",
    ["ipc:///tmp/x/y", "tcp://127.0.0.1:5555", "tcp://127.9.9.9:1", "tcp://localhost:*", "tcp://[::1]:80", "inproc://a"],
)  # fmt: skip
def test_addresses_that_stay_here(address: str) -> None:
    check_address(address)


@pytest.mark.parametrize(
    "address",
    ["tcp://0.0.0.0:5555", "tcp://*:5555", "tcp://10.0.0.1:5555", "tcp://example.org:80", "tcp://[::]:80",
     "tcp://localhost.example.org:80", "tcp://127.0.0.1.example.org:80", "tcp://eth0:80", "tcp://10.0.0.1;127.0.0.1:5"],
)  # fmt: skip
def test_addresses_beyond_loopback_are_refused_unless_allowed(address: str) -> None:
    with pytest.raises(UsageError, match="unencrypted"):
        check_address(address)
    check_address(address, allowed=True)
    hub = Hub()
    with hub, pytest.raises(UsageError):
        hub.bind("pull", address)


@pytest.mark.parametrize(
    "address",
    ["", "tcp", "tcp://", "://x", "/tmp/x", "udp://127.0.0.1:1", "tcp://127.0.0.1", "tcp://127.0.0.1:http", "ipc://",
     "tcp://127.0.0.1:65536", "tcp://127.0.0.1:²",
     "ipc:///" + "x" * 107, "pgm://127.0.0.1:1"],
)  # fmt: skip
def test_malformed_addresses(address: str) -> None:
    for allowed in (False, True):
        with pytest.raises(UsageError):
            check_address(address, allowed)


def test_what_cannot_be_bound_is_a_clear_error(tmp_path: Path, hubs: Callable[[], Hub]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with hubs() as hub, pytest.raises(LinkError, match=r"cannot listen at tcp://127\.0\.0\.1:\d+: .*in use"):
            hub.bind("pull", f"tcp://127.0.0.1:{taken.getsockname()[1]}")
    with hubs() as hub, pytest.raises(LinkError, match="cannot listen at ipc"):
        hub.bind("pull", f"ipc://{tmp_path}/none/socket")


def test_messages_cross_whole_and_in_order(tmp_path: Path, hubs: Callable[[], Hub]) -> None:
    with hubs() as a, hubs() as b:
        pull = a.bind("pull", f"ipc://{tmp_path}/x")
        push = b.connect("push", f"ipc://{tmp_path}/x")
        for number in range(50):
            assert push.send(str(number).encode(), memoryview(b"payload"), b"")
        for number in range(50):
            assert receive(pull) == [str(number).encode(), b"payload", b""]
        assert pull.receive() is None


def test_a_wildcard_port_is_told(hubs: Callable[[], Hub]) -> None:
    with hubs() as a, hubs() as b:
        pull = a.bind("pull", "tcp://127.0.0.1:*")
        assert pull.address.rpartition(":")[2].isdigit()
        assert b.connect("push", pull.address).send(b"x")
        assert receive(pull) == [b"x"]


def test_a_full_queue_says_so_at_once(tmp_path: Path, hubs: Callable[[], Hub]) -> None:
    with hubs() as hub:
        push = hub.connect("push", f"ipc://{tmp_path}/nobody", hwm=10)
        started = time.monotonic()
        taken = [push.send(b"x") for _ in range(30)]
        assert time.monotonic() - started < 1
        assert taken == [True] * 10 + [False] * 20


def test_a_router_says_that_a_peer_is_gone(tmp_path: Path, hubs: Callable[[], Hub]) -> None:
    with hubs() as a:
        router = a.bind("router", f"ipc://{tmp_path}/r")
        with pytest.raises(Unreachable):
            router.send(b"nobody", b"x")
        with hubs() as b:
            dealer = b.connect("dealer", f"ipc://{tmp_path}/r")
            dealer.send(b"hello")
            peer, _ = receive(router)
            assert router.send(peer, b"welcome")
            assert receive(dealer) == [b"welcome"]

        def gone() -> bool:
            try:
                router.send(peer, b"x")
            except Unreachable:
                return True
            return False

        wait_for(gone, 5, "Unreachable")


def test_a_message_over_the_limit_does_not_arrive(
    tmp_path: Path, hubs: Callable[[], Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MAX_PAYLOAD", 1000)
    monkeypatch.setattr(transport, "MAX_HEADER", 100)
    with hubs() as a, hubs() as b, hubs() as c:
        pull = a.bind("pull", f"ipc://{tmp_path}/x")
        b.connect("push", f"ipc://{tmp_path}/x").send(bytes(1001))
        c.connect("push", f"ipc://{tmp_path}/x").send(bytes(1000))
        assert receive(pull) == [bytes(1000)]
        assert not Poller(pull).wait(0.1)


@pytest.mark.parametrize("kind", ["push", "dealer", "pub", "router"])
def test_closing_never_hangs_on_what_nobody_takes(tmp_path: Path, hubs: Callable[[], Hub], kind: str) -> None:
    hub = hubs()
    endpoint = hub.connect(kind, f"ipc://{tmp_path}/nobody")
    if kind != "router":
        for _ in range(100):
            endpoint.send(bytes(10_000))
    started = time.monotonic()
    hub.close()
    assert time.monotonic() - started < LINGER_MS / 1000 + 2


def test_a_publishers_news_reach_subscribers(tmp_path: Path, hubs: Callable[[], Hub]) -> None:
    with hubs() as a, hubs() as b:
        pub, sub = a.bind("pub", f"ipc://{tmp_path}/n"), b.connect("sub", f"ipc://{tmp_path}/n")
        sub.subscribe()

        def heard() -> list[bytes] | None:
            pub.send(b"news")
            return sub.receive()

        assert wait_for(heard, 5, "news") == [b"news"]


def test_drain_takes_no_more_than_asked(tmp_path: Path, hubs: Callable[[], Hub]) -> None:
    with hubs() as a, hubs() as b:
        pull, push = a.bind("pull", f"ipc://{tmp_path}/x"), b.connect("push", f"ipc://{tmp_path}/x")
        for _ in range(5):
            push.send(b"x")
        taken: list[list[bytes]] = []

        def take(most: int) -> int:
            taken.extend(drain(pull, most - len(taken)))
            return len(taken)

        assert wait_for(lambda: take(3) >= 3, 5, "three messages")
        assert len(taken) == 3
        assert wait_for(lambda: take(9) >= 5, 5, "the rest")
        assert len(taken) == 5


def test_a_waker_wakes_from_another_thread_and_is_cleared() -> None:
    waker = Waker()
    poller = Poller(waker)
    try:
        assert not poller.wait(0.0)
        threading.Timer(0.05, waker.wake).start()
        started = time.monotonic()
        assert poller.wait(10)
        assert time.monotonic() - started < 5
        assert not poller.wait(0.0), "cleared by the wait that it ended"
        waker.wake()
        waker.wake()
        assert poller.wait(0.0)
        assert not poller.wait(0.0)
        waker.clear()
    finally:
        waker.close()
    waker.close()
    waker.wake()


def test_waiting_takes_at_least_its_time() -> None:
    """A wait rounded down to 0 ms would make a loop of a sleep."""
    waker = Waker()
    started = time.monotonic()
    Poller(waker).wait(0.0104)
    assert time.monotonic() - started >= 0.0104
    waker.close()


def listener(address: str) -> subprocess.Popen[bytes]:
    """A process that listens at ``address``, and has begun to."""
    code = "import sys; from common.transport import *; h = Hub(); h.bind('pull', sys.argv[1]); print(1, flush=True)"
    process = subprocess.Popen([sys.executable, "-c", f"{code}; sys.stdin.read()", address],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"1\n"
    return process


@pytest.mark.parametrize("scheme", ["ipc", "tcp"])
def test_a_watched_endpoint_knows_whether_its_peer_is_there(
    tmp_path: Path, hubs: Callable[[], Hub], scheme: str
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}" if scheme == "tcp" else f"ipc://{tmp_path}/x"
    with hubs() as hub:
        push = hub.connect("push", address, hwm=10, watch=True)
        assert not Poller(push).wait(0.3)
        assert (push.connected, push.was_connected, push.full) == (False, False, False)
        assert push.send(b"x")
        assert push.unsent == 1
        for life in range(2):
            peer = listener(address)
            try:
                wait_for(lambda: push.connected, 10, f"a connection to listener {life}")
                assert (push.was_connected, push.unsent) == (True, 0)
                assert push.send(b"x")
                assert push.unsent == 0
            finally:
                peer.kill()
                peer.communicate()
            wait_for(lambda: not push.connected, 10, f"the end of listener {life}")
            assert push.was_connected
        taken = [push.send(b"x") for _ in range(30)]
        assert push.full
        assert push.unsent == sum(taken) <= 10


def test_what_is_not_watched_is_not_known(tmp_path: Path, hubs: Callable[[], Hub]) -> None:
    with hubs() as hub:
        push = hub.connect("push", f"ipc://{tmp_path}/x")
        with pytest.raises(ValueError, match="not watched"):
            _ = push.connected
        assert push.send(b"x")
        assert push.unsent == 0
