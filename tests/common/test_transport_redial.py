"""A dialled peer that breaks the protocol: ZeroMQ never dials it again, the endpoint does."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from common.transport import Endpoint, Hub
from tests.support import wait_for

#: Header of a ZMTP frame that claims 2⁶³ bytes and more, which is over every limit.
HUGE = b"\x02" + b"\xff" * 8


class Relay:
    """A tcp port in front of another; it can say something of its own to those that dialled."""

    def __init__(self, address: str) -> None:
        self._target = int(address.rpartition(":")[2])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.near: list[socket.socket] = []
        self._far: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self.near.append(near)
                self._far.append(far)
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    @staticmethod
    def _carry(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for one in (self._listener, *self.near, *self._far):
            one.close()


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


def until_connected(relay: Relay, count: int, bound: Endpoint, dialled: Endpoint, back: bool = False) -> None:
    """Until a message passes over connection ``count``; ``back``: from the listening side."""
    sender, receiver = (bound, dialled) if back else (dialled, bound)

    def passed() -> bool:
        sender.send(b"x")
        return receiver.receive() is not None and len(relay.near) == count

    wait_for(passed, 20, f"a message over connection {count}")


@pytest.mark.parametrize(("listens", "dials"), [("router", "dealer"), ("pull", "push"), ("pub", "sub")])
def test_dialled_again(hub: Hub, listens: str, dials: str) -> None:
    bound = hub.bind(listens, "tcp://127.0.0.1:*")
    relay = Relay(bound.address)
    dialled = hub.connect(dials, relay.address)
    if dials == "sub":
        dialled.subscribe()
    try:
        for life in range(3):
            if life:
                relay.near[-1].sendall(HUGE)
            until_connected(relay, life + 1, bound, dialled, back=dials == "sub")
            assert dialled.redialled == life
    finally:
        relay.close()


def test_not_dialled_twice(hub: Hub) -> None:
    """A connection that merely ends is left to ZeroMQ."""
    bound = hub.bind("router", "tcp://127.0.0.1:*")
    relay = Relay(bound.address)
    dialled = hub.connect("dealer", relay.address)
    try:
        for life in range(4):
            if life:
                relay.near[-1].shutdown(socket.SHUT_RDWR)
            until_connected(relay, life + 1, bound, dialled)
        assert dialled.redialled == 0
    finally:
        relay.close()
