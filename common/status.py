"""A part's word to whoever looks after it: JSON lines on a pipe (``headrace run``), or on the line to the node's agent
(``headrace up``). A slow reader loses lines, it never holds us up.

What is lost is what comes again (progress); what is said once waits here until it is taken.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import termios
from collections import deque
from typing import Any

from common.nodelink import MAX_MESSAGE, NodeLink, picture_message

#: Set for the parts of a node: the agent's socket, and the part's name there.
NODE_ENV, NAME_ENV = "HEADRACE_NODE", "HEADRACE_PART"
#: Events that are said again and again, so that one that is lost is no loss. All others are said once.
REPEATED = frozenset({"progress", "opening", "troubles", "metrics"})
#: Events that describe the part, or a stream of it, as it stays: an agent that comes later is told them again.
LASTING = frozenset({"ready", "working", "source"})
#: Longest line, in bytes: of a longer one, the lists are cut.
MAX_LINE = 2**20
#: Most lines that wait, and the most they hold, in bytes; the oldest ones beyond are dropped.
MAX_WAITING, MAX_BYTES = 1024, 8 * 2**20
#: What is said again and again may fill this share of the pipe; the rest is for what is said once.
SHARE = 1 / 4


class Status:
    """Writes to descriptor ``fd``, or to the node's agent; without both all is swallowed. ``dropped`` counts lines."""

    def __init__(self, fd: int | None, part: str, node: str | None = None, name: str = "") -> None:
        """``node``: the agent's socket; ``name``: the part's on its node. They count where there is no ``fd``."""
        self._fd = fd
        self._link: NodeLink | None = None
        if fd is None and node:
            hello = {"part": part, "event": "hello", "name": name or part, "pid": os.getpid()}
            self._link = NodeLink(node, hello)
        self._lasting: dict[tuple[str, object], bytes] = {}
        self._part = part
        self._rest = b""
        self._waiting: deque[bytes] = deque()
        self._held = 0  # bytes of what waits
        self.dropped = 0
        if fd is not None:
            os.set_blocking(fd, False)

    @property
    def node(self) -> bool:
        """Whether an agent listens."""
        return self._link is not None and self._link.there

    def requests(self) -> list[dict[str, Any]]:
        """What the node's agent asks of this part."""
        return [] if self._link is None else self._link.requests()

    def picture(self, stream: str, jpeg: bytes) -> bool:
        """Show the agent a picture of ``stream``. False: it was not taken."""
        return self._link is not None and self._link.send(picture_message(stream, jpeg))

    def say(self, event: str, **fields: Any) -> None:
        """One line, never half a one. Progress that does not fit into the pipe now is dropped; what else is said comes
        with the next word, in order."""
        if self._link is not None:
            self._say_linked(self._link, event, fields)
            return
        if self._fd is None:
            return
        if event in REPEATED:
            if self._flush() and not self._crowded():
                self._rest = self._line(event, fields)
                self._flush()
            else:
                self.dropped += 1
            return
        self._keep(self._line(event, fields))
        self._flush()
        self._bound()

    def _say_linked(self, link: NodeLink, event: str, fields: dict[str, Any]) -> None:
        line = self._line(event, fields, MAX_MESSAGE)
        if event in LASTING:
            self._lasting[event, fields.get("stream")] = line  # of this part or of its one stream
        if link.dial():
            for lasting in self._lasting.values():
                link.send(lasting)
        while self._waiting and link.send(self._waiting[0]):
            self._held -= len(self._waiting.popleft())
        if not self._waiting and link.send(line):
            return
        if event in REPEATED:
            self.dropped += 1
        elif event not in LASTING or link.there:
            self._keep(line)
            self._bound()

    def _keep(self, line: bytes) -> None:
        self._waiting.append(line)
        self._held += len(line)

    def _bound(self) -> None:
        while len(self._waiting) > MAX_WAITING or self._held > MAX_BYTES:
            self._held -= len(self._waiting.popleft())
            self.dropped += 1

    def _line(self, event: str, fields: dict[str, Any], most: int = MAX_LINE) -> bytes:
        while True:
            record = {"part": self._part, "event": event, **fields}
            line = json.dumps(record, default=str, ensure_ascii=False).encode(errors="replace") + b"\n"
            lists = {key: value for key, value in fields.items() if isinstance(value, list) and value}
            if len(line) <= most or not lists:
                return line
            longest = max(lists, key=lambda key: len(json.dumps(lists[key], default=str)))
            fields = {**fields, longest: lists[longest][: len(lists[longest]) // 2]}

    def _crowded(self) -> bool:
        """Whether the pipe holds so much that only what is said once is to be added."""
        assert self._fd is not None
        try:
            (unread,) = struct.unpack("i", fcntl.ioctl(self._fd, termios.FIONREAD, b"\0" * 4))
            return bool(unread > SHARE * fcntl.fcntl(self._fd, fcntl.F_GETPIPE_SZ))
        except OSError:  # no pipe
            return False

    def _flush(self) -> bool:
        """Write what waits; False where the pipe is full before that is done."""
        try:
            while self._fd is not None and (self._rest or self._waiting):
                if not self._rest:
                    self._rest = self._waiting.popleft()
                    self._held -= len(self._rest)
                self._rest = self._rest[os.write(self._fd, self._rest) :]
        except BlockingIOError:
            return False
        except OSError:  # nobody reads any more
            self._fd, self._rest, self._held = None, b"", 0
            self._waiting.clear()
        return True


def open_status(fd: int | None, part: str) -> Status:
    """The status of this process: on the pipe ``fd``, else to the agent that its environment names, else to nobody."""
    return Status(fd, part, os.environ.get(NODE_ENV), os.environ.get(NAME_ENV, ""))
