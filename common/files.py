"""What can be said of a file before it is opened: the same words from the command and from the part that opens it."""

from __future__ import annotations

import os
import re
from glob import has_magic, iglob
from pathlib import Path

from common.errors import OutputError, SourceError

_FILE_URL = re.compile(r"^file:(?://(?:localhost)?(?=/))?", re.IGNORECASE)
#: A capture device, with options behind it: ``/dev/video0?size=1280x720``.
_CAPTURE = re.compile(r"(/dev/(?:video\d|v4l/)[^?]*)(\?.*)?")
#: What lies under /dev and is not a device that plays.
_NO_DEVICE = ("/dev/shm/", "/dev/stdin", "/dev/fd/")


def local_path(address: str) -> Path | None:
    """The path that ``address`` names (``file:`` is understood), None for the network and for ``-``, standard input.

    The path of a device is without its options; it may be a pattern for pictures, ``frames/*.jpg``."""
    address = _FILE_URL.sub("", address)
    if "://" in address or address == "-":
        return None
    return capture_device(address) or Path(address)


def capture_device(address: str) -> Path | None:
    """The device's path where ``address`` names one that films."""
    found = _CAPTURE.fullmatch(_FILE_URL.sub("", address))
    return Path(found[1]) if found else None


def is_live(address: str) -> bool:
    """Whether a source is taken as live unless the user says otherwise: the network and devices are."""
    path = local_path(address)
    if path is None:
        return address != "-"
    return str(path).startswith("/dev/") and not str(path).startswith(_NO_DEVICE)


def is_pictures(address: str) -> bool:
    """Whether ``address`` names a folder of pictures, or is a pattern for their names and not a file's own name."""
    path = local_path(address)
    if path is None or "\0" in address:
        return False
    return path.is_dir() or (has_magic(str(path)) and not os.path.lexists(path))


def ledger_path(output: Path) -> Path:
    """Where the ledger of a stream with this first output lies: ``a.mp4`` → ``a.ledger.json``."""
    return output.with_suffix(".ledger.json")


def check_source_file(path: Path) -> None:
    """Raises SourceError for what cannot be a source. Folders and patterns of pictures are fine if there is something;
    whether it is pictures is seen when they are opened."""
    try:
        if is_pictures(str(path)):
            found = path.iterdir() if path.is_dir() else iglob(str(path), recursive=True)
            if next(found, None) is None:
                what = f"{path} is a folder without files: name a video, or a folder of pictures"
                raise SourceError(what if path.is_dir() else f"no picture matches {path}")
            return
        if not path.exists():
            raise SourceError(f"no such {'device' if capture_device(str(path)) else 'file'}: {path}")
        if not os.access(path, os.R_OK):
            cure = "join the group 'video', or run as root" if capture_device(str(path)) else "check its permissions"
            raise SourceError(f"{path} may not be read: {cure}")
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
