"""The agent's end of the parts' lines (common/nodelink.py): who is there, what they say, what is asked of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.nodelink import MAX_MESSAGE, MAX_REQUEST, read_message
from deploy.control import who

#: Most parts that are listened to, and most messages that are read of one before the others get their turn.
MAX_PARTS, MAX_READ = 1024, 64
#: Where nobody can be let in, for want of descriptors, the next try is so many seconds later.
DEAF_S = 1.0

Heard = Callable[[str, dict[str, Any], bytes], None]
Gone = Callable[[str], None]


class Part:
    """One connection. ``name``: "" until it has introduced itself."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.name = ""
        self.pid = 0


class Links:
    """Listens at ``path``. ``heard`` gets each record with the part's name, ``gone`` the name of a part that leaves."""

    def __init__(self, path: Path, heard: Heard, gone: Gone) -> None:
        self._heard, self._gone = heard, gone
        self._parts: dict[int, Part] = {}
        self._loop = asyncio.get_running_loop()
        self._path = path
        self.refused = 0
        with contextlib.suppress(FileNotFoundError):
            path.unlink()  # an agent before us: the folder's lock says that there is one supervisord, and so one agent
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self._listener.bind(str(path))
        self._listener.listen(128)
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def ask(self, name: str, request: dict[str, Any]) -> bool:
        """False where the part is not there, or takes nothing now."""
        data = json.dumps(request).encode()
        if len(data) > MAX_REQUEST:
            return False
        for part in self._parts.values():
            if part.name == name:
                with contextlib.suppress(OSError):
                    part.connection.send(data, socket.MSG_NOSIGNAL)
                    return True
        return False

    def pid(self, name: str) -> int:
        """The process that speaks for a part; 0 where none does."""
        return next((part.pid for part in self._parts.values() if part.name == name), 0)

    def close(self) -> None:
        for part in list(self._parts.values()):
            self._drop(part)
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:  # no descriptor is left: who waits would wake us again and again
            self._loop.remove_reader(self._listener.fileno())
            self._loop.call_later(DEAF_S, self._hear_again)
            return
        connection.setblocking(False)
        pid, ours = who(connection)
        if len(self._parts) >= MAX_PARTS or not ours:
            connection.close()
            self.refused += 1
            return
        part = self._parts[connection.fileno()] = Part(connection)
        part.pid = pid
        self._loop.add_reader(connection.fileno(), self._read, part)

    def _hear_again(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener.fileno(), self._accept)

    def _read(self, part: Part) -> None:
        for _ in range(MAX_READ):
            try:
                data = part.connection.recv(MAX_MESSAGE + 1)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._drop(part)
                return
            try:
                record, jpeg = read_message(data)
            except (ValueError, RecursionError):
                self.refused += 1
                continue
            if not part.name:
                part.name = str(record.get("name", ""))[:300]
                if not part.name:
                    self._drop(part)
                    return
            self._heard(part.name, record, jpeg)

    def _drop(self, part: Part) -> None:
        self._parts.pop(part.connection.fileno(), None)
        self._loop.remove_reader(part.connection.fileno())
        part.connection.close()
        # One that was started again may have introduced itself already.
        if part.name and not self.pid(part.name):
            self._gone(part.name)
