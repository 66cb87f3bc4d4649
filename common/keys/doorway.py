"""What happens at one listening socket before a peer is in: handshakes that fail, and whose they were."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from typing import Protocol

import zmq

#: A handshake that is not done after this long, in milliseconds, is broken off.
HANDSHAKE_MS = 10_000
#: A failed handshake whose peer hung up before we knew its address is named without it after so many seconds: most
#: come again soon, and then with their address.
NAMELESS_S = 1.2
#: Most connections that are remembered while their handshake goes on.
MAX_PENDING = 1024
#: What is heard of connections to a listening socket.
EVENTS = (
    zmq.EVENT_ACCEPTED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_DISCONNECTED
)
#: Why a handshake failed → what to do about it.
_FAILURES = {
    "no_key": "it has no key; it needs [security] keys, and to be let in here: headrace keys allow",
    "no_encryption": "it has keys and we have none; give us [security] keys too",
    "server_key": "it expects another key than ours: compare [security] there with headrace keys show here",
    "handshake": "it does not speak our language",
    "left": "it hung up during the handshake: it has another idea of keys than we, or only looked whether we are there",
}


class Told(Protocol):
    """A :class:`common.keys.Gate`."""

    def count(self, name: str, kind: str) -> None: ...
    def say(self, name: str, kind: str, text: str, who: str = "") -> None: ...


class Doorway:
    """Connections to one listening socket, as its monitor tells of them. Events of a process come from one thread of
    ZeroMQ's: that a handshake has failed is followed by the end of its connection."""

    def __init__(self, socket: zmq.Socket[bytes], name: str) -> None:
        self._name = name
        self._pending: dict[int, tuple[str, float]] = {}  # descriptor → address, and when it was accepted
        self._failed = ""  # why the connection failed that is to be disconnected next
        self._nameless: dict[str, float] = {}  # kind of a failure whose peer is not known → when
        self.stopped = False
        where = f"inproc://door-{id(socket)}-{time.monotonic_ns()}"
        socket.monitor(where, EVENTS | zmq.EVENT_MONITOR_STOPPED)
        self.monitor: zmq.Socket[bytes] = socket.context.socket(zmq.PAIR)
        self.monitor.setsockopt(zmq.RCVHWM, 0)  # ZeroMQ's thread would wait for us
        self.monitor.connect(where)

    def hear(self, told: Told, keys: bool, now: float) -> None:
        with contextlib.suppress(zmq.Again):
            while not self.stopped:
                event, _ = self.monitor.recv_multipart(zmq.NOBLOCK)
                # zmq_socket_monitor(3): 16 bits are the event's number, 32 its value
                number, value = (int.from_bytes(part, sys.byteorder) for part in (event[:2], event[2:]))
                self._on(number, value, told, keys, now)
        for kind in [kind for kind, since in self._nameless.items() if now > since + NAMELESS_S]:
            del self._nameless[kind]
            self._say(told, kind, "")
        for fd in [fd for fd, (_, at) in self._pending.items() if now > at + HANDSHAKE_MS / 1000 + 1]:
            del self._pending[fd]  # it has come in, or had its end by now

    def _on(self, number: int, value: int, told: Told, keys: bool, now: float) -> None:
        if number == zmq.EVENT_MONITOR_STOPPED:
            self.stopped = True
        elif number == zmq.EVENT_ACCEPTED:
            if len(self._pending) >= MAX_PENDING:
                del self._pending[next(iter(self._pending))]
            self._pending.pop(value, None)
            self._pending[value] = (_address(value), now)
        elif number == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            # The event does not say which one. It takes milliseconds: the newest, as a rule.
            if self._pending:
                self._pending.popitem()
        elif number == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self._failed = "auth"
        elif number == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            self._failed = self._kind(value, keys)
        elif number == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            self._failed = "left"
        else:
            self._gone(value, told, now)

    @staticmethod
    def _kind(value: int, keys: bool) -> str:
        if value == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
            return "no_key" if keys else "no_encryption"
        return "server_key" if value == zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC else "handshake"

    def _gone(self, fd: int, told: Told, now: float) -> None:
        known = fd in self._pending
        address, since = self._pending.pop(fd, ("", now))
        failed, self._failed = self._failed, ""
        if not failed:
            if not known:
                return  # it had come in before
            failed = "handshake"  # what it said is not ZeroMQ's language
        if failed == "left" and now > since + 0.9 * HANDSHAKE_MS / 1000:
            failed = "handshake"  # it said nothing until ZeroMQ hung up
        if failed == "auth":
            return  # refused by name, where ZeroMQ has asked
        told.count(self._name, failed)
        if address:
            self._nameless.pop(failed, None)
            self._say(told, failed, address)
        else:
            self._nameless.setdefault(failed, now)

    def _say(self, told: Told, kind: str, address: str) -> None:
        who = address or "a peer that was gone at once"
        told.say(self._name, kind, f"refused {who} at {self._name}: {_FAILURES[kind]}", address)


def _address(fd: int) -> str:
    """The peer's address without its port, "" where the connection is gone already."""
    copy = -1
    try:
        copy = os.dup(fd)
        with socket.socket(fileno=copy) as one:  # closes it
            copy = -1
            return str(one.getpeername()[0])
    except (OSError, IndexError):
        return ""
    finally:
        if copy >= 0:  # the number is somebody else's by now, and no socket
            os.close(copy)
