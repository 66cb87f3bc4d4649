"""How a running fleet is asked and told: one JSON line there, one JSON line back, over a Unix socket in its folder.

The folder lets nobody else in, and who connects is asked for by the kernel all the same. What comes is validated; a
peer that sends too much, or nothing, is dropped.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
from pathlib import Path
from typing import Annotated

import msgspec

from common.config import Stream
from common.errors import LinkError
from common.messages import Name, Seconds
from deploy.folder import CONTROL

#: Most peers at a time, and most bytes of a request or an answer.
MAX_PEERS, MAX_BYTES = 16, 4 * 2**20
#: A peer that has not said what it wants after so many seconds is dropped.
PATIENCE_S = 5.0


class List(msgspec.Struct, frozen=True, tag="list"):
    """What streams are there?"""


class Add(msgspec.Struct, frozen=True, tag="add", forbid_unknown_fields=True):
    """Serve these too: all of them, or none."""

    streams: Annotated[list[Stream], msgspec.Meta(min_length=1, max_length=256)]


class Remove(msgspec.Struct, frozen=True, tag="remove", forbid_unknown_fields=True):
    """End this stream. Answered when it has ended; what is still under way after ``wait`` seconds is lost."""

    stream: Name
    wait: Seconds


Request = List | Add | Remove


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
        self._selector = selectors.EpollSelector()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._listener.bind(str(folder / CONTROL))
        self._listener.listen(MAX_PEERS)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._decoder = msgspec.json.Decoder(Request)
        self._peers: dict[int, Peer] = {}

    def fileno(self) -> int:
        return self._selector.fileno()

    def poll(self, now: float) -> list[tuple[Peer, Request]]:
        """What was asked since the last call."""
        asked: list[tuple[Peer, Request]] = []
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

    def _accept(self, now: float) -> None:
        with contextlib.suppress(BlockingIOError):
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            user = struct.unpack("3i", credentials)[1]
            if len(self._peers) >= MAX_PEERS or user not in (os.geteuid(), 0):
                connection.close()
                return
            self._peers[connection.fileno()] = Peer(connection, now)
            self._selector.register(connection, selectors.EVENT_READ)

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
