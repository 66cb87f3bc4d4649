"""What can be said of a file before it is opened: the same words from the command and from the part that opens it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from common.errors import OutputError, SourceError

_FILE_URL = re.compile(r"^file:(?://(?:localhost)?(?=/))?", re.IGNORECASE)


def local_path(address: str) -> Path | None:
    """The path that ``address`` names (``file:`` is understood), None for the network."""
    address = _FILE_URL.sub("", address)
    return None if "://" in address else Path(address)


def is_live(address: str) -> bool:
    """Whether a source is taken as live unless the user says otherwise: the network and devices are."""
    path = local_path(address)
    return path is None or str(path).startswith("/dev/")


def ledger_path(output: Path) -> Path:
    """Where the ledger of a stream with this first output lies: ``a.mp4`` → ``a.ledger.json``."""
    return output.with_suffix(".ledger.json")


def check_source_file(path: Path) -> None:
    """Raises SourceError for what cannot be a source."""
    try:
        if not path.exists():
            raise SourceError(f"no such file: {path}")
        if path.is_dir():
            raise SourceError(f"{path} is a folder: name a video file or a stream's address")
        if not os.access(path, os.R_OK):
            raise SourceError(f"{path} may not be read: check its permissions")
        if path.is_file() and path.stat().st_size == 0:
            raise SourceError(f"{path} is empty (0 bytes)")
    except (OSError, ValueError) as error:  # a name that is too long, or holds a zero byte
        raise SourceError(f"{path} cannot be opened: {getattr(error, 'strerror', None) or error}") from None


def check_output_file(path: Path) -> None:
    """Raises OutputError where ``path`` cannot be written. Leaves no file behind and none changed."""
    folder = path.absolute().parent
    try:
        if not folder.is_dir():
            raise OutputError(f"cannot write {path}: there is no folder {folder}")
        if path.is_dir():
            raise OutputError(f"cannot write {path}: it is a folder")
        fresh = not path.exists()
        if fresh or path.is_file():
            # Asked of the kernel: permissions do not tell of a read-only disk.
            with path.open("ab"):
                pass
        if fresh:
            path.unlink()
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from None
