"""How a running fleet is asked and told: one JSON line there, one JSON line back, over a Unix socket in its folder.

The folder lets nobody else in, and who connects is asked for by the kernel all the same. What comes is validated; a
peer that sends too much, or nothing, is dropped.
"""

from __future__ import annotations

import os
import selectors
import socket
import struct
from pathlib import Path
from typing import Annotated, Any

import msgspec

from common.config import Stream
from common.errors import LinkError
from common.messages import Name, Seconds
from deploy.folder import CONTROL

#: Most peers that have not asked yet, and most bytes of a request or an answer.
MAX_PEERS, MAX_BYTES = 16, 4 * 2**20
#: Most peers who wait to be let in.
BACKLOG = 128
#: Most peers whose question is under way: a stream that is removed takes its time.
MAX_WAITING = 256
#: A peer that has not said what it wants after so many seconds is dropped.
PATIENCE_S = 5.0
#: Where nobody can be let in, for want of descriptors, the next try is so many seconds later.
DEAF_S = 0.5
BUSY = "the fleet has too many questions to answer: ask again"


class List(msgspec.Struct, frozen=True, tag="list"):
    """What streams are there?"""


class Add(msgspec.Struct, frozen=True, tag="add", forbid_unknown_fields=True):
    """Serve these too: all of them, or none."""

    streams: Annotated[list[Stream], msgspec.Meta(min_length=1, max_length=256)]


class Remove(msgspec.Struct, frozen=True, tag="remove", forbid_unknown_fields=True):
    """End this stream. Answered when it has ended; what is still under way after ``wait`` seconds is lost."""

    stream: Name
    wait: Seconds


class Pause(msgspec.Struct, frozen=True, tag="pause", forbid_unknown_fields=True):
    """Let this stream rest, or (``on`` is False) go on with it."""

    stream: Name
    on: bool = True


class Look(msgspec.Struct, frozen=True, tag="look"):
    """What does the node's agent know?"""


Request = List | Add | Remove | Pause | Look


class OutputRow(msgspec.Struct, frozen=True):
    #: Without passwords.
    path: str
    kind: str


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One stream, as ``headrace streams list`` shows it."""

    name: str
    #: Without passwords.
    source: str
    model: str
    mode: str
    #: ``starting``, ``running``, ``away``, ``leaving`` or ``ended``.
    state: str
    #: Why it is away, or how it ended.
    why: str
    #: For how many seconds it is away, or over.
    since: float
    frames: int
    #: Frames by the ledger's states.
    states: dict[str, int]
    #: Share of the frames that show their own results, 0…1.
    annotated: float | None
    #: Frames a second, lately.
    fps: float
    outputs: list[OutputRow]
    troubles: list[str]


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``error``: why it was not done, with its exit code; else what was done, for a person."""

    error: str = ""
    exit_code: int = 0
    done: str = ""
    #: The fleet's name and process, with :class:`List`.
    fleet: str = ""
    pid: int = 0
    streams: list[Row] = []
    #: With :class:`Look`: see deploy/agent/picture.py.
    node: dict[str, Any] = {}


def who(connection: socket.socket) -> tuple[int, bool]:
    """The process at the other end of a Unix socket, and whether it is our user's or root's. Raises OSError."""
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, user, _ = struct.unpack("3i", found)
    return pid, user in (os.geteuid(), 0)


class Peer:
    """Somebody who has connected. Use :meth:`Server.answer`."""

    def __init__(self, connection: socket.socket, now: float) -> None:
        self.connection = connection
        self.since = now
        self.inbox, self.outbox = bytearray(), b""
        self.asked = False


class Server:
    """The fleet's end. Never blocks; ``fileno`` is readable when :meth:`poll` has something to do."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / CONTROL
        self._selector = selectors.EpollSelector()
        self._deaf_until: float | None = None
        self._listen()
        self._decoder = msgspec.json.Decoder(Request)
        self._peers: dict[int, Peer] = {}

    def fileno(self) -> int:
        return self._selector.fileno()

    def mend(self) -> bool:
        """Listen anew where the socket's file is gone. Returns whether it was. Raises OSError."""
        if self._path.exists():
            return False
        old = self._listener
        self._listen()
        if self._deaf_until is None:
            self._selector.unregister(old)
        self._deaf_until = None
        old.close()
        return True

    def poll(self, now: float) -> list[tuple[Peer, Request]]:
        """What was asked since the last call."""
        asked: list[tuple[Peer, Request]] = []
        if self._deaf_until is not None and now >= self._deaf_until:
            self._deaf_until = None
            self._selector.register(self._listener, selectors.EVENT_READ)
        for key, events in self._selector.select(0):
            if key.fd == self._listener.fileno():
                self._accept(now)
            elif (peer := self._peers.get(key.fd)) is not None:
                if events & selectors.EVENT_WRITE:
                    self._write(peer)
                elif (request := self._read(peer)) is not None:
                    asked.append((peer, request))
        for peer in [one for one in self._peers.values() if not one.asked and now > one.since + PATIENCE_S]:
            self._drop(peer)
        return asked

    def answer(self, peer: Peer, answer: Answer) -> None:
        """Send ``answer`` and close."""
        if peer.connection.fileno() in self._peers:
            peer.outbox = msgspec.json.encode(answer) + b"\n"
            self._write(peer)

    def close(self) -> None:
        for peer in list(self._peers.values()):
            self._drop(peer)
        self._selector.close()
        self._listener.close()

    def _listen(self) -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            listener.bind(str(self._path))
            listener.listen(BACKLOG)
            self._selector.register(listener, selectors.EVENT_READ)
        except OSError:
            listener.close()
            raise
        self._listener = listener

    def _accept(self, now: float) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:  # no descriptor is left: whoever waits would wake us again and again
            self._selector.unregister(self._listener)
            self._deaf_until = now + DEAF_S
            return
        peer = Peer(connection, now)
        try:
            connection.setblocking(False)
            _, ours = who(connection)
            silent = sum(not one.asked for one in self._peers.values())
            if silent >= MAX_PEERS or not ours:
                connection.close()
                return
            self._selector.register(connection, selectors.EVENT_READ)
        except OSError:
            connection.close()
            return
        self._peers[connection.fileno()] = peer

    def _read(self, peer: Peer) -> Request | None:
        try:
            data = peer.connection.recv(65536)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data or peer.asked or len(peer.inbox) > MAX_BYTES:
            self._drop(peer)
            return None
        peer.inbox += data
        line, found, _ = peer.inbox.partition(b"\n")
        if not found:
            return None
        peer.asked = True
        peer.inbox.clear()
        if sum(one.asked for one in self._peers.values()) > MAX_WAITING:
            self.answer(peer, Answer(error=BUSY, exit_code=LinkError.exit_code))
            return None
        try:
            return self._decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            self.answer(peer, Answer(error=f"the fleet does not understand: {error}", exit_code=LinkError.exit_code))
            return None

    def _write(self, peer: Peer) -> None:
        try:
            peer.outbox = peer.outbox[peer.connection.send(peer.outbox) :]
        except BlockingIOError:
            pass
        except OSError:
            peer.outbox = b""
        if peer.outbox:
            self._selector.modify(peer.connection, selectors.EVENT_WRITE)
        else:
            self._drop(peer)

    def _drop(self, peer: Peer) -> None:
        del self._peers[peer.connection.fileno()]
        self._selector.unregister(peer.connection)
        peer.connection.close()
