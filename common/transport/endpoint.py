"""One socket: sent to and received from without waiting, watched, and dialled again where ZeroMQ gives it up."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Sequence

import zmq

from common.dialling import Dialling, Event, Step
from common.errors import LinkError
from common.guard import Guard
from common.log import Seldom
from common.messages import Refused
from common.wire import encode

#: How long a closing socket may go on sending, in milliseconds.
LINGER_MS = 500
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

log = logging.getLogger(__name__)


class Unreachable(Exception):
    """A ROUTER was asked to send to a peer that is gone."""


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


def drain(endpoint: Endpoint, most: int) -> Sequence[list[bytes]]:
    """Up to ``most`` waiting messages."""
    messages: list[list[bytes]] = []
    while len(messages) < most and (message := endpoint.receive()) is not None:
        messages.append(message)
    return messages
