"""A part's word to whoever started it: JSON lines on a pipe. A slow reader loses lines, it never holds us up."""

from __future__ import annotations

import json
import os
from typing import Any


class Status:
    """Writes to file descriptor ``fd``; with ``None`` all is swallowed."""

    def __init__(self, fd: int | None, part: str) -> None:
        self._fd = fd
        self._part = part
        self._rest = b""
        self.dropped = 0
        if fd is not None:
            os.set_blocking(fd, False)

    def say(self, event: str, **fields: Any) -> None:
        """One line. Only what does not fit into the pipe now is dropped, and never half a line."""
        if self._fd is None:
            return
        line = json.dumps({"part": self._part, "event": event, **fields}, default=str).encode() + b"\n"
        if not self._flush():
            self.dropped += 1
            return
        self._rest = line
        self._flush()

    def _flush(self) -> bool:
        try:
            while self._rest and self._fd is not None:
                self._rest = self._rest[os.write(self._fd, self._rest) :]
        except BlockingIOError:
            return False
        except OSError:  # nobody reads any more
            self._fd, self._rest = None, b""
        return True
