"""The file under a muxer: counts what is whole, names a full disk, can be frozen so that closing changes nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from common.errors import OutputError

#: What the kernel says of a full disk or a used-up quota.
FULL = (errno.ENOSPC, errno.EDQUOT)


class DiskFull(OutputError):
    """There is no space for this output now; there may be later."""


def write_error(path: Path, error: Exception) -> OutputError:
    """What to raise for FFmpeg's or the system's error."""
    kind = DiskFull if getattr(error, "errno", None) in FULL else OutputError
    return kind(f"cannot write {path}: {getattr(error, 'strerror', None) or error}")


class PartFile:
    """What PyAV takes for a file. A pipe has no ``seek``, as PyAV finds out by looking for it.

    ``mend``: each piece is written as it returns it, until it has returned something other than None.
    """

    def __init__(self, path: Path, mend: Callable[[bytes], bytes | None] | None = None) -> None:
        self.path = path
        self._mend = mend
        self._file = path.open("wb", buffering=0)
        self.regular = path.is_file()
        self._frozen = False
        self._size = 0
        self._trouble: OSError | None = None
        if self._file.seekable():
            self.seek = self._seek
            self.tell = self._file.tell

    def write(self, data: bytes) -> int:
        mended = self._mend(data) if self._mend is not None else None
        if mended is not None:
            self._mend = None
        view = memoryview(data if mended is None else mended)
        while view and not self._frozen:
            try:
                view = view[self._file.write(view) :]
            except OSError as error:
                self._trouble = error  # FFmpeg hands on a number of its own
                raise
        return len(data)

    def _seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    @property
    def trouble(self) -> OSError | None:
        """Why writing failed."""
        return self._trouble

    @property
    def size(self) -> int:
        """Bytes so far, −1 where nothing can be gone back in. Whole between two calls of the muxer."""
        if not self._file.closed:
            self._size = os.fstat(self._file.fileno()).st_size if self.regular else -1
        return self._size

    def freeze(self) -> None:
        """Leave the file as it is, whatever the muxer still writes."""
        self._frozen = True

    def close(self) -> None:
        self._size = self.size
        self._file.close()
