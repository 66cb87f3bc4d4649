"""The only place with ZeroMQ (beside common/keys).

Every send is non-blocking and says whether it was taken; every queue has a limit in messages and in bytes. Nothing
here is to be trusted with a message that nobody acknowledges: a PUSH to nobody swallows its high-water mark.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol

import zmq

from common.address import check_address, clear_stale, is_ipv6, listening_at
from common.config import Security
from common.dialling import Dialling, Event, Step
from common.errors import LinkError
from common.guard import Guard
from common.keyfiles import Role
from common.keys import HANDSHAKE_MS, Gate, Ring
from common.log import Seldom
from common.messages import Refused
from common.wire import MAX_HEADER, MAX_PAYLOAD, encode

#: Messages that a socket holds in each direction before it says "full".
HIGH_WATER = 256
#: How long a closing socket may go on sending, in milliseconds.
LINGER_MS = 500
#: ZMTP heartbeat: a peer that is silent this long, in milliseconds, is disconnected.
HEARTBEAT_MS = 1000
HEARTBEAT_TIMEOUT_MS = 4000
#: A dialled endpoint looks at most this often, in seconds, whether its peer is there.
WATCH_S = 0.2
#: A publisher that is made anew waits so long, in seconds, for its address to come free.
REBIND_S = 1.0
#: Most refused messages that are dropped in one go before other work is done.
MAX_DROPPED = 64
#: What is heard of a dialled endpoint's connections.
_EVENTS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CONNECT_RETRIED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)

_MEANS: dict[int, Event] = {
    zmq.EVENT_HANDSHAKE_SUCCEEDED: Event.CONNECTED,
    zmq.EVENT_CONNECT_RETRIED: Event.RETRIED,
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: Event.BROKEN_OFF,
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: Event.PROTOCOL,
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: Event.REFUSED,
    zmq.EVENT_DISCONNECTED: Event.ENDED,
}

#: What a peer is told whose key is no longer let in.
REVOKED = "it is no longer on the list of allowed keys"
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
    One that is guarded takes messages only of keys that may speak to it, and sends to no others.
    """

    def __init__(
        self,
        make: Callable[[], zmq.Socket[bytes]],
        dials: str = "",
        dialling: Dialling | None = None,
        watched: bool = False,
        guard: Guard | None = None,
    ) -> None:
        self._make = make
        self._socket = make()
        self._dials, self._dialling = dials, dialling
        self._monitor = _monitor(self._socket) if dialling is not None else None
        self._watched = watched
        self._guard = guard
        self._router = self._socket.type == zmq.ROUTER
        self._look_again = 0.0
        self._seldom = Seldom(log)
        #: How often it had to dial again by itself.
        self.redialled = 0
        self.unsent = 0

    def poll_handle(self) -> zmq.Socket[bytes]:
        return self._socket

    @property
    def address(self) -> str:
        """The last bound or connected address, with the port that ``tcp://…:*`` was given."""
        return self._dials or self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    @property
    def connected(self) -> bool:
        """Whether the dialled peer's socket is there, as of ``WATCH_S`` ago at worst; its process may yet hang.

        Raises ValueError on an endpoint that is not watched.
        """
        if not self._watched or self._dialling is None:
            raise ValueError("this endpoint is not watched: connect(…, watch=True)")
        self._look()
        return self._dialling.connected

    @property
    def was_connected(self) -> bool:
        return self._dialling is not None and self._dialling.was_connected

    @property
    def refusal(self) -> str:
        """Why the dialled peer does not let us in, "" where it does, or where nothing is known."""
        self._look()
        return self._dialling.refusal if self._dialling is not None else ""

    @property
    def full(self) -> bool:
        """A send would be refused now."""
        return not int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLOUT

    def refused(self, why: str) -> None:
        """The peer has said that it does not let us in any more: it is dialled again after a pause."""
        if self._dialling is not None:
            self._dialling.refused(why, time.monotonic())
            self._look_again = 0.0
            self._look()

    def _look(self) -> None:
        """Hear what has become of the connection, now and then."""
        dialling, monitor = self._dialling, self._monitor
        if dialling is None or monitor is None or (now := time.monotonic()) < self._look_again:
            return
        self._look_again = now + WATCH_S
        before = dialling.refusal
        with contextlib.suppress(zmq.Again):
            while True:
                event, _ = monitor.recv_multipart(zmq.NOBLOCK)
                # zmq_socket_monitor(3): 16 bits are the event's number, 32 its value
                number, value = (int.from_bytes(part, sys.byteorder) for part in (event[:2], event[2:]))
                mismatch = number == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL and (
                    value == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH
                )
                dialling.heard(Event.MECHANISM if mismatch else _MEANS[number], now)
                if dialling.connected:
                    self.unsent = 0
        self._step(dialling.step(now))
        if dialling.refusal and dialling.refusal != before:
            self._seldom.warn(dialling.refusal, dialling.refusal)

    def dial(self) -> None:
        """For the first time. Raises LinkError."""
        try:
            self._socket.connect(self._dials)
        except zmq.ZMQError as error:
            raise LinkError(f"cannot dial {self._dials}: {zmq.strerror(error.errno or 0)}") from None

    def _step(self, step: Step) -> None:
        if step in (Step.HANG_UP, Step.REDIAL):
            self._socket.setsockopt(zmq.LINGER, 0)  # or ZeroMQ goes on for what is queued, which is lost here
            with contextlib.suppress(zmq.ZMQError):
                self._socket.disconnect(self._dials)
            self._socket.setsockopt(zmq.LINGER, LINGER_MS)
        if step in (Step.DIAL, Step.REDIAL):
            self._socket.connect(self._dials)
        if step is Step.REDIAL:
            self.redialled += 1
            self._seldom.warn(
                "redialled", f"{self._dials} broke the protocol, or its connection was damaged: dialled again"
            )

    def send(self, *parts: Buffer) -> bool:
        """Hand over one message. False: the queue is full. Raises Unreachable on a ROUTER whose peer is gone, or is not
        let in any more."""
        if self._guard is not None and self._router and not self._guard.reaches(bytes(parts[0])):
            raise Unreachable
        try:
            self._look()
            self._socket.send_multipart(parts, zmq.NOBLOCK)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH:
                if self._guard is not None:
                    self._guard.forget(bytes(parts[0]))
                raise Unreachable from None
            raise
        if self._watched and self._dialling is not None and not self._dialling.connected:
            self.unsent += 1
        return True

    def receive(self) -> list[bytes] | None:
        """The next message, or None where there is none."""
        self._look()
        try:
            if self._guard is None:
                return self._socket.recv_multipart(zmq.NOBLOCK)
            return self._receive_guarded(self._guard)
        except zmq.Again:
            return None

    def _receive_guarded(self, guard: Guard) -> list[bytes] | None:
        for _ in range(MAX_DROPPED):
            # Only a part that is not copied tells whose it is.
            first = self._socket.recv(zmq.NOBLOCK, copy=False)
            rest = self._socket.recv_multipart(zmq.NOBLOCK) if first.more else []
            public = _property(first, "User-Id")
            if guard.admits(public):
                if self._router:
                    guard.came(first.bytes, public)
                return [first.bytes, *rest]
            guard.refuse(public, _property(first, "Peer-Address"))
            if self._router and guard.tell(first.bytes, time.monotonic()):
                self._farewell(first.bytes)
        return None

    def _farewell(self, route: bytes) -> None:
        with contextlib.suppress(zmq.ZMQError):  # it is told again where it sends again
            self._socket.send_multipart([route, encode(Refused(reason=REVOKED))], zmq.NOBLOCK)

    def tend(self) -> None:
        """Where a key is no longer let in: tell those that are cut off, as far as that goes. A publisher cannot choose
        whom it sends to: it is made anew, and the others dial it again by themselves.

        Raises LinkError where that fails.
        """
        guard = self._guard
        if guard is None or not guard.cut():
            return
        if self._socket.type == zmq.PUB:
            self._renew()
        for route in guard.cut_off():
            if guard.tell(route, time.monotonic()):
                self._farewell(route)

    def _renew(self) -> None:
        self._shut(linger=True)
        deadline = time.monotonic() + REBIND_S
        while True:
            try:
                self._socket = self._make()
                return
            except LinkError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.005)  # ZeroMQ's thread is closing the old one

    def subscribe(self, prefix: bytes = b"") -> None:
        self._socket.setsockopt(zmq.SUBSCRIBE, prefix)

    def close(self, linger: bool = True) -> None:
        self._shut(linger)
        if self._monitor is not None:
            self._monitor.close(linger=0)

    def _shut(self, linger: bool) -> None:
        with contextlib.suppress(zmq.ZMQError):
            self._socket.disable_monitor()
        self._socket.close(None if linger else 0)


def _property(part: zmq.Frame, name: str) -> str:
    """What ZeroMQ knows of a message's sender, "" where that is nothing."""
    try:
        return str(part.get(name))
    except zmq.ZMQError:
        return ""


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
    """One process's ZeroMQ context and its sockets, closed together.

    ``ring``: our key and those of others; with it, all that goes over tcp is encrypted. ``insecure``: tcp beyond
    loopback is allowed without.
    """

    def __init__(self, insecure: bool = False, ring: Ring | None = None) -> None:
        self._context = zmq.Context()
        self._insecure, self._ring = insecure, ring
        self._random = Random()
        self._endpoints: list[Endpoint] = []
        self._gate: Gate | None = None  # from the first tcp address on that we listen at

    @classmethod
    def of(cls, security: Security, role: Role) -> Hub:
        """The one of a fleet's part. Raises LinkError where its keys are not as they must be."""
        return cls(security.insecure, Ring.of(security, role))

    def bind(
        self, kind: str, address: str, hwm: int = HIGH_WATER, name: str = "", interface: str | None = None
    ) -> Endpoint:
        """A listening socket. ``name``: as in the configuration (``frames`` …), for who may speak to it and for what
        is counted; ``interface``: listen there, at the address's port.

        Raises LinkError where the address is taken or cannot be made, UsageError where it may not be used.
        """
        self._check(address)
        place = listening_at(address, interface)
        self._check(place)
        guard = None
        if place.startswith("tcp"):
            self._gate = self._gate or Gate(self._context, self._ring)
            if self._ring is not None:
                guard = Guard(self._gate, name)
        endpoint = Endpoint(lambda: self._listening(kind, address, place, hwm, name), guard=guard)
        self._endpoints.append(endpoint)
        if place.endswith(":*"):
            place = endpoint.address  # where it is to be made anew
        return endpoint

    def connect(self, kind: str, address: str, hwm: int = HIGH_WATER, watch: bool = False, to: str = "") -> Endpoint:
        """A dialling socket; it reconnects by itself and queues meanwhile, up to ``hwm``.

        ``watch``: it says whether the peer is there. Who watches also asks, or sends: events wait until then. ``to``:
        ``broker`` or ``sink``, for its key. Raises LinkError, UsageError.
        """
        self._check(address)
        ring = self._ring if address.startswith("tcp") else None
        who = f"the {to}" if to else "the peer"
        dialling = Dialling(address, who, ring.shown if ring is not None else None, self._random)
        endpoint = Endpoint(lambda: self._dialling(kind, address, hwm, to, ring), address, dialling, watch)
        self._endpoints.append(endpoint)
        endpoint.dial()
        return endpoint

    def tend(self) -> Counter[tuple[str, str]]:
        """Call it several times a second where you listen: it follows the list of allowed keys. Returns what was
        refused since the last call, by socket and kind. Raises LinkError."""
        for endpoint in self._endpoints:
            endpoint.tend()
        return self._gate.taken() if self._gate is not None else Counter()

    @property
    def problem(self) -> str:
        """Why the list of allowed keys cannot be followed, "" where it can."""
        return self._gate.problem if self._gate is not None else ""

    def _check(self, address: str) -> None:
        check_address(address, self._insecure or self._ring is not None)

    def _listening(self, kind: str, address: str, place: str, hwm: int, name: str) -> zmq.Socket[bytes]:
        clear_stale(place)
        socket = self._socket(kind, place, hwm)
        try:
            if place.startswith("tcp"):
                assert self._gate is not None
                if self._ring is not None:
                    self._ring.serve(socket, name)
                self._gate.watch(socket, name or kind)
            socket.bind(place)
        except zmq.ZMQError as error:
            with contextlib.suppress(zmq.ZMQError):
                socket.disable_monitor()
            socket.close(0)
            at = address if address == place else f"{address} ({place})"
            raise LinkError(f"cannot listen at {at}: {zmq.strerror(error.errno or 0)}{_hint(error)}") from None
        return socket

    def _dialling(self, kind: str, address: str, hwm: int, to: str, ring: Ring | None) -> zmq.Socket[bytes]:
        socket = self._socket(kind, address, hwm)
        if ring is not None:
            try:
                ring.dial(socket, to)
            except LinkError:
                socket.close(0)
                raise
        return socket

    def _socket(self, kind: str, address: str, hwm: int) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(_KINDS[kind])
        socket.setsockopt(zmq.SNDHWM, hwm)
        socket.setsockopt(zmq.RCVHWM, hwm)
        socket.setsockopt(zmq.LINGER, LINGER_MS)
        socket.setsockopt(zmq.MAXMSGSIZE, max(MAX_HEADER, MAX_PAYLOAD))
        socket.setsockopt(zmq.RECONNECT_IVL, 50)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        if address.startswith("tcp"):
            socket.setsockopt(zmq.IPV6, is_ipv6(address))
            socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
            socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
            socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        if kind == "router":
            socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
            socket.setsockopt(zmq.ROUTER_HANDOVER, 0)
        return socket

    def close(self, linger: bool = True) -> None:
        """Close all sockets; waits at most LINGER_MS for what is under way, or not at all."""
        for endpoint in self._endpoints:
            endpoint.close(linger)
        if self._gate is not None:
            self._gate.close()
        self._context.term()

    def __enter__(self) -> Hub:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _hint(error: zmq.ZMQError) -> str:
    return "; stop what listens there, or take another port" if error.errno == zmq.EADDRINUSE else ""


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
