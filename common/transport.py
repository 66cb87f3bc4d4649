"""The only place with ZeroMQ (beside common/keys.py).

Every send is non-blocking and says whether it was taken; every queue has a limit in messages and in bytes. Nothing
here is to be trusted with a message that nobody acknowledges: a PUSH to nobody swallows its high-water mark.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Sequence
from typing import Protocol

import zmq

from common.address import check_address
from common.errors import LinkError
from common.log import Seldom
from common.wire import MAX_HEADER, MAX_PAYLOAD

#: Messages that a socket holds in each direction before it says "full".
HIGH_WATER = 256
#: How long a closing socket may go on sending, in milliseconds.
LINGER_MS = 500
#: ZMTP heartbeat: a peer that is silent this long, in milliseconds, is disconnected.
HEARTBEAT_MS = 1000
HEARTBEAT_TIMEOUT_MS = 4000
#: A dialled endpoint looks at most this often, in seconds, whether its peer is there.
WATCH_S = 0.2
#: ZeroMQ dials again at once after a connection has ended; where it has not done so after this long, in seconds, it
#: never will: it takes the peer for one that speaks something else (a frame over the limit, a flipped bit, a bad key).
DEAD_S = 1.0
#: What is heard of a dialled endpoint's connections.
_EVENTS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CONNECT_RETRIED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)

Buffer = bytes | memoryview
_KINDS = {
    "push": zmq.PUSH,
    "pull": zmq.PULL,
    "pub": zmq.PUB,
    "sub": zmq.SUB,
    "router": zmq.ROUTER,
    "dealer": zmq.DEALER,
}


log = logging.getLogger(__name__)


class Unreachable(Exception):
    """A ROUTER was asked to send to a peer that is gone."""


class Pollable(Protocol):
    """What a :class:`Poller` watches."""

    def poll_handle(self) -> zmq.Socket[bytes] | int: ...


class Endpoint:
    """One socket. Made by :meth:`Hub.bind` and :meth:`Hub.connect`.

    One that dials and whose connection ZeroMQ has given up for good dials again, when it next sends or receives.
    One that is watched also says whether its peer is there (``connected``), whether it ever was (``was_connected``),
    and in ``unsent`` how many messages the queue took since it is not: they wait for its return, and are lost with us.
    """

    def __init__(self, socket: zmq.Socket[bytes], dials: str = "", watched: bool = False) -> None:
        self._socket = socket
        self._dials = dials
        self._monitor = _monitor(socket) if dials else None
        self._watched = watched
        self._connected = False
        self._look_again = 0.0
        self._ended: float | None = None  # when the connection ended, where nothing has followed
        self._seldom = Seldom(log)
        #: How often it had to dial again by itself.
        self.redialled = 0
        self.was_connected = False
        self.unsent = 0

    def poll_handle(self) -> zmq.Socket[bytes]:
        return self._socket

    @property
    def address(self) -> str:
        """The last bound or connected address, with the port that ``tcp://…:*`` was given."""
        return self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    @property
    def connected(self) -> bool:
        """Whether the dialled peer's socket is there, as of ``WATCH_S`` ago at worst; its process may yet hang.

        Raises ValueError on an endpoint that is not watched.
        """
        if not self._watched:
            raise ValueError("this endpoint is not watched: connect(…, watch=True)")
        self._look()
        return self._connected

    @property
    def full(self) -> bool:
        """A send would be refused now."""
        return not int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLOUT

    def _look(self) -> None:
        """Hear what has become of the connection, now and then."""
        if self._monitor is None or (now := time.monotonic()) < self._look_again:
            return
        self._look_again = now + WATCH_S
        with contextlib.suppress(zmq.Again):
            while True:
                event, _ = self._monitor.recv_multipart(zmq.NOBLOCK)  # zmq_socket_monitor(3): 16 bits are its number
                number = int.from_bytes(event[:2], sys.byteorder)
                self._connected = number == zmq.EVENT_HANDSHAKE_SUCCEEDED
                self._ended = None if self._connected or number == zmq.EVENT_CONNECT_RETRIED else now
                if self._connected:
                    self.was_connected, self.unsent = True, 0
        if self._ended is not None and now >= self._ended + DEAD_S:
            self._redial()

    def _redial(self) -> None:
        """ZeroMQ has given the connection up for good: begin another. What was queued for it is lost."""
        self._ended = None
        self.redialled += 1
        with contextlib.suppress(zmq.ZMQError):
            self._socket.disconnect(self._dials)
        self._socket.connect(self._dials)
        self._seldom.warn(
            "redialled", f"{self._dials} broke the protocol, or its connection was damaged: dialled again"
        )

    def send(self, *parts: Buffer) -> bool:
        """Hand over one message. False: the queue is full. Raises Unreachable on a ROUTER whose peer is gone."""
        try:
            self._look()
            self._socket.send_multipart(parts, zmq.NOBLOCK)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH:
                raise Unreachable from None
            raise
        if self._watched and not self._connected:
            self.unsent += 1
        return True

    def receive(self) -> list[bytes] | None:
        """The next message, or None where there is none."""
        self._look()
        try:
            return self._socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None

    def subscribe(self, prefix: bytes = b"") -> None:
        self._socket.setsockopt(zmq.SUBSCRIBE, prefix)

    def close(self, linger: bool = True) -> None:
        self._socket.close(None if linger else 0)
        if self._monitor is not None:
            self._monitor.close(linger=0)


def _monitor(socket: zmq.Socket[bytes]) -> zmq.Socket[bytes]:
    """The socket that hears of ``socket``'s connections. A few events a reconnection, at most one a second, of which
    none may be refused: ZeroMQ's I/O thread would wait."""
    address = f"inproc://watch-{id(socket)}"
    socket.monitor(address, _EVENTS)
    monitor: zmq.Socket[bytes] = socket.context.socket(zmq.PAIR)
    monitor.setsockopt(zmq.RCVHWM, 0)
    monitor.connect(address)
    return monitor


class Hub:
    """One process's ZeroMQ context and its sockets, closed together."""

    def __init__(self, insecure: bool = False) -> None:
        self._context = zmq.Context()
        self._insecure = insecure
        self._endpoints: list[Endpoint] = []

    def bind(self, kind: str, address: str, hwm: int = HIGH_WATER) -> Endpoint:
        """A listening socket. Raises LinkError where the address is taken or cannot be made."""
        return self._open(kind, address, hwm, bind=True)

    def connect(self, kind: str, address: str, hwm: int = HIGH_WATER, watch: bool = False) -> Endpoint:
        """A dialling socket; it reconnects by itself and queues meanwhile, up to ``hwm``.

        ``watch``: it says whether the peer is there. Who watches also asks, or sends: events wait until then.
        """
        return self._open(kind, address, hwm, bind=False, watch=watch)

    def _open(self, kind: str, address: str, hwm: int, bind: bool, watch: bool = False) -> Endpoint:
        check_address(address, self._insecure)
        socket: zmq.Socket[bytes] = self._context.socket(_KINDS[kind])
        socket.setsockopt(zmq.SNDHWM, hwm)
        socket.setsockopt(zmq.RCVHWM, hwm)
        socket.setsockopt(zmq.LINGER, LINGER_MS)
        socket.setsockopt(zmq.MAXMSGSIZE, max(MAX_HEADER, MAX_PAYLOAD))
        socket.setsockopt(zmq.RECONNECT_IVL, 50)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        if address.startswith("tcp"):
            socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
            socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
        if kind == "router":
            socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
            socket.setsockopt(zmq.ROUTER_HANDOVER, 0)
        endpoint = Endpoint(socket, "" if bind else address, watch)
        try:
            (socket.bind if bind else socket.connect)(address)
        except zmq.ZMQError as error:
            endpoint.close(linger=False)
            verb = "listen at" if bind else "dial"
            raise LinkError(f"cannot {verb} {address}: {error.strerror or error}") from None
        self._endpoints.append(endpoint)
        return endpoint

    def close(self, linger: bool = True) -> None:
        """Close all sockets; waits at most LINGER_MS for what is under way, or not at all."""
        for endpoint in self._endpoints:
            endpoint.close(linger)
        self._context.term()

    def __enter__(self) -> Hub:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Waker:
    """Wakes a :class:`Poller` from another thread or from a signal handler."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def poll_handle(self) -> int:
        return self._fd

    def wake(self) -> None:
        if self._fd >= 0:
            os.eventfd_write(self._fd, 1)

    def clear(self) -> None:
        """Forget past calls of :meth:`wake`."""
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:
            return

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class Poller:
    """Waits for endpoints and wakers."""

    def __init__(self, *watched: Pollable) -> None:
        self._poller = zmq.Poller()
        for one in watched:
            self._poller.register(one.poll_handle(), zmq.POLLIN)
        self._wakers = [one for one in watched if isinstance(one, Waker)]
        self._ready: set[object] = set()

    def wait(self, seconds: float, settle: float = 0.0) -> bool:
        """True where something can be read (wakers are cleared); False after ``seconds``.

        ``settle``: once something is there, seconds to let more arrive. Waking up costs as much as handling several
        messages, so this spares half of a busy service's CPU for a little latency.
        """
        ready = self._poller.poll(max(0, int(seconds * 1000 + 0.999)))
        if ready and settle:
            time.sleep(settle)
            ready = self._poller.poll(0)
        self._ready = {handle for handle, _ in ready}
        for waker in self._wakers:
            waker.clear()
        return bool(ready)

    def ready(self, one: Pollable) -> bool:
        """Whether the last :meth:`wait` saw something in ``one``: asking an empty socket costs more than this."""
        return one.poll_handle() in self._ready


def drain(endpoint: Endpoint, most: int) -> Sequence[list[bytes]]:
    """Up to ``most`` waiting messages."""
    messages: list[list[bytes]] = []
    while len(messages) < most and (message := endpoint.receive()) is not None:
        messages.append(message)
    return messages
