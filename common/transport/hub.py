"""One process's sockets: how each is set up, who may speak to it, and that they are closed together."""

from __future__ import annotations

import contextlib
from collections import Counter
from random import Random

import zmq

from common.address import check_address, clear_stale, is_ipv6, listening_at, needs_ipv6
from common.config import Security
from common.dialling import Dialling
from common.errors import LinkError
from common.guard import Guard
from common.keyfiles import Role
from common.keys import HANDSHAKE_MS, Gate, Ring
from common.transport.endpoint import LINGER_MS, Endpoint
from common.wire import MAX_HEADER, MAX_PAYLOAD

#: Messages that a socket holds in each direction before it says "full".
HIGH_WATER = 256
#: ZMTP heartbeat: a peer that is silent this long, in milliseconds, is disconnected.
HEARTBEAT_MS = 1000
HEARTBEAT_TIMEOUT_MS = 4000
_KINDS = {
    "push": zmq.PUSH,
    "pull": zmq.PULL,
    "pub": zmq.PUB,
    "sub": zmq.SUB,
    "router": zmq.ROUTER,
    "dealer": zmq.DEALER,
}


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
        if address.startswith("tcp"):
            socket.setsockopt(zmq.IPV6, needs_ipv6(address))
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
