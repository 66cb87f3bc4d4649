"""A named pipe as an output, and its reader, which can pause."""

from __future__ import annotations

import os
import select
import threading
from pathlib import Path


class PipeReader:
    """Makes the pipe ``path`` and copies what is written into it to ``copy``, in a thread."""

    def __init__(self, path: Path, copy: Path) -> None:
        os.mkfifo(path)
        self._reads = threading.Event()
        self._reads.set()
        self._done = threading.Event()
        self._pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._copy = copy.open("wb")
        self._thread = threading.Thread(target=self._read, name="pipe-reader", daemon=True)
        self._thread.start()

    def pause(self) -> None:
        self._reads.clear()

    def resume(self) -> None:
        self._reads.set()

    def close(self) -> None:
        """Read what is left, then leave."""
        self._reads.set()
        self._done.set()
        self._thread.join()
        os.close(self._pipe)
        self._copy.close()

    def _read(self) -> None:
        while True:
            self._reads.wait()
            ready = select.select([self._pipe], [], [], 0.05)[0]
            try:
                data = os.read(self._pipe, 16384) if ready else b""
            except BlockingIOError:
                data = b""
            self._copy.write(data)
            if not data:
                if self._done.is_set():
                    return
                self._done.wait(0.02)  # nobody writes yet, or any more
