"""The proxy's controls, seen by plain sockets at both ends."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.faults.proxy import Proxy
from tests.support import wait_for

#: Longer than anything here takes, in seconds.
PATIENCE_S = 20.0


class Echo:
    """Sends back what it receives, on a tcp port or a Unix socket; remembers how each connection ended."""

    def __init__(self, path: Path | None = None) -> None:
        if path is None:
            self._listener = socket.create_server(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        else:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(path))
            self._listener.listen()
            self.address = f"ipc://{path}"
        self.ends: list[str] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
                self.ends.append("end")
            except OSError:
                self.ends.append("reset")

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE_S)


@pytest.fixture
def echo() -> Iterator[Echo]:
    echo = Echo()
    yield echo
    echo.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy(echo.address, seed=1) as proxy:
        yield proxy


def dial(proxy: Proxy) -> socket.socket:
    host, _, port = proxy.address.removeprefix("tcp://").rpartition(":")
    return socket.create_connection((host, int(port)), PATIENCE_S)


def back(client: socket.socket, size: int) -> bytes:
    """Exactly ``size`` bytes, or what came before the end."""
    found = b""
    while len(found) < size and (data := client.recv(size - len(found))):
        found += data
    return found


def say(client: socket.socket, data: bytes) -> bytes:
    """Send, and return what comes back."""
    sender = threading.Thread(target=client.sendall, args=(data,))
    sender.start()
    found = back(client, len(data))
    sender.join(PATIENCE_S)
    return found


def test_bytes_pass_unchanged_and_are_counted(proxy: Proxy) -> None:
    data = os.urandom(1_000_000)
    with dial(proxy) as client, dial(proxy) as other:
        assert say(client, data) == data
        assert say(other, b"x") == b"x"
        wait_for(lambda: proxy.counts.returned == len(data) + 1, PATIENCE_S, "all bytes counted")
        assert (proxy.counts.connections, proxy.counts.open, proxy.counts.sent) == (2, 2, len(data) + 1)
    wait_for(lambda: proxy.counts.open == 0, PATIENCE_S, "the connections' end")
    assert proxy.counts.cuts == proxy.counts.corrupted == proxy.counts.refused == 0


def test_unix_socket_behind(tmp_path: Path) -> None:
    echo = Echo(tmp_path / "s")
    with Proxy(echo.address) as proxy, dial(proxy) as client:
        assert say(client, b"hello") == b"hello"
    echo.close()


def test_end_is_passed_on(proxy: Proxy, echo: Echo) -> None:
    """A side that has said all still hears the other one out."""
    with dial(proxy) as client:
        client.sendall(b"last words")
        client.shutdown(socket.SHUT_WR)
        assert back(client, 100) == b"last words"
    assert echo.ends == ["end"]


def test_nobody_behind(tmp_path: Path, proxy: Proxy) -> None:
    with Proxy(f"ipc://{tmp_path}/none") as alone:
        with pytest.raises(ConnectionResetError), dial(alone) as client:
            client.recv(1)
        assert (alone.counts.unreachable, alone.counts.connections) == (1, 0)


def test_delay_holds_the_order(proxy: Proxy) -> None:
    proxy.set(delay=0.05, jitter=0.03)
    data = bytes(range(256)) * 2000
    with dial(proxy) as client:
        started = time.monotonic()
        assert say(client, b"x") == b"x"
        assert time.monotonic() - started >= 2 * 0.02, "there and back"
        assert say(client, data) == data
        proxy.set(delay=0.0, jitter=0.0)
        assert say(client, data) == data, "what is not delayed overtakes nothing"


def test_rate(proxy: Proxy) -> None:
    proxy.set(rate=200_000.0)
    with dial(proxy) as client:
        started = time.monotonic()
        assert say(client, bytes(100_000)) == bytes(100_000)
        assert time.monotonic() - started >= 0.45


def test_cut_is_a_reset_at_both_ends(proxy: Proxy, echo: Echo) -> None:
    with dial(proxy) as client, dial(proxy) as other:
        assert say(client, b"x") == say(other, b"x") == b"x"
        assert proxy.cut() == 2
        for one in (client, other):
            with pytest.raises(ConnectionResetError):
                one.recv(1)
    wait_for(lambda: echo.ends == ["reset"] * 2, PATIENCE_S, "two resets at the other end")
    assert (proxy.counts.cuts, proxy.counts.open) == (2, 0)
    with dial(proxy) as again:
        assert say(again, b"y") == b"y", "new connections are welcome"


def test_refuse(proxy: Proxy) -> None:
    with dial(proxy) as before:
        assert say(before, b"x") == b"x"
        proxy.refuse(60)
        with pytest.raises(ConnectionResetError), dial(proxy) as client:
            client.recv(1)
        assert say(before, b"y") == b"y", "only new ones are refused"
    assert (proxy.counts.refused, proxy.counts.connections) == (1, 1)
    proxy.refuse(0)
    with dial(proxy) as client:
        assert say(client, b"z") == b"z"


def test_hole_holds_back_and_lets_go(proxy: Proxy) -> None:
    with dial(proxy) as before:
        assert say(before, b"x") == b"x"
        proxy.hole(60)
        assert proxy.holed
        with dial(proxy) as during:
            for client in (before, during):
                client.sendall(b"1234")
                client.settimeout(0.3)
                with pytest.raises(TimeoutError):
                    client.recv(1)
                client.settimeout(PATIENCE_S)
            assert (proxy.counts.connections, proxy.counts.sent) == (1, 1), "accepted, not passed on"
            proxy.hole(0)
            assert back(before, 4) == back(during, 4) == b"1234"
    assert not proxy.holed


def test_hole_ends_by_itself(proxy: Proxy) -> None:
    with dial(proxy) as client:
        proxy.hole(60)
        proxy.hole(0.2)  # the last word counts
        started = time.monotonic()
        assert say(client, b"x") == b"x"
        assert 0.1 < time.monotonic() - started < PATIENCE_S


def test_hole_bounds_what_waits(proxy: Proxy) -> None:
    proxy.hole(60)
    with dial(proxy) as client:
        client.settimeout(1.0)
        with pytest.raises(TimeoutError):
            client.sendall(bytes(64 * 2**20))


def test_corruption(proxy: Proxy) -> None:
    data = bytes(300_000)
    with dial(proxy) as client:
        proxy.set(corrupt=1.0)
        found = say(client, data)
        proxy.set(corrupt=0.0)
        assert say(client, data) == data
    flipped = sum(bin(byte).count("1") for byte in found)
    chunks = proxy.counts.corrupted
    assert chunks >= 2 * len(data) // 32768
    assert 0 < flipped <= 3 * chunks
    assert len(found) == len(data)


def test_some_corruption(proxy: Proxy) -> None:
    proxy.set(corrupt=0.3)
    with dial(proxy) as client:
        for _ in range(100):
            say(client, b"0123456789")
    assert 20 < proxy.counts.corrupted < 110, "of 200 chunks"


def test_nothing_is_left(echo: Echo) -> None:
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    clients = []
    with Proxy(echo.address) as proxy:
        for _ in range(5):
            clients.append(dial(proxy))
            assert say(clients[-1], b"x") == b"x"
        proxy.hole(60)
        clients.append(dial(proxy))
        address = proxy.address
    proxy.close()  # a second time does no harm
    for client in clients:
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        client.close()
    wait_for(
        lambda: (threading.active_count(), len(os.listdir("/proc/self/fd"))) == (threads, descriptors),
        PATIENCE_S, "threads and descriptors gone",
    )  # fmt: skip
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), 1)
