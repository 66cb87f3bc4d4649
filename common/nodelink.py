"""A part's line to the node's agent: a Unix SOCK_SEQPACKET socket, one JSON object a message, both ways.

The agent may come later, and go and come again: nobody waits for it. What is said again and again is dropped meanwhile,
what is said once is kept by :class:`common.status.Status`, and what describes the part stays true and is told anew.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from typing import Any

#: Longest message, in bytes; the kernel's default for what a socket holds is 208 KiB.
MAX_MESSAGE = 150_000
#: Longest message of the agent, in bytes, and most of them that are read at a time.
MAX_REQUEST, MAX_REQUESTS = 65_536, 16
#: The agent is looked for again after so many seconds.
RETRY_S = 0.5
#: A message of this first byte is a picture: a line of JSON follows, and after its end the JPEG.
PICTURE = b"\0"


class NodeLink:
    """Dials the agent's socket at ``path`` and introduces itself with ``hello``."""

    def __init__(self, path: str, hello: dict[str, Any]) -> None:
        self._path = path
        self._hello = json.dumps(hello).encode()
        self._socket: socket.socket | None = None
        self._next_try = 0.0

    @property
    def there(self) -> bool:
        return self._socket is not None

    def dial(self) -> bool:
        """Whether a connection is new: what describes the part is to be told."""
        if self._socket is not None or (now := time.monotonic()) < self._next_try:
            return False
        self._next_try = now + RETRY_S
        one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            one.connect(self._path)
            one.send(self._hello)
        except OSError:
            one.close()
            return False
        self._socket = one
        return True

    def send(self, message: bytes) -> bool:
        """False where it cannot be taken now. One that is too long is never taken, and counts as sent."""
        if self._socket is None:
            return False
        if len(message) > MAX_MESSAGE:
            return True
        try:
            self._socket.send(message, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return False
        except OSError:
            self.close()
            return False
        return True

    def requests(self) -> list[dict[str, Any]]:
        """What the agent has asked since the last call."""
        asked: list[dict[str, Any]] = []
        while self._socket is not None and len(asked) < MAX_REQUESTS:
            try:
                data = self._socket.recv(MAX_REQUEST)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:  # the agent has gone
                self.close()
                break
            with contextlib.suppress(ValueError, RecursionError):
                request = json.loads(data)
                if isinstance(request, dict):
                    asked.append(request)
        return asked

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def picture_message(stream: str, jpeg: bytes) -> bytes:
    return PICTURE + json.dumps({"stream": stream}).encode() + b"\n" + jpeg


def read_message(data: bytes) -> tuple[dict[str, Any], bytes]:
    """A part's message: its record, and the JPEG where it is a picture. Raises ValueError."""
    jpeg = b""
    if data.startswith(PICTURE):
        data, found, jpeg = data[1:].partition(b"\n")
        if not found:
            raise ValueError("a picture without its line")
    record = json.loads(data)
    if not isinstance(record, dict):
        raise ValueError("no record")
    return record, jpeg
