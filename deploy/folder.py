"""The private folder of a run: sockets, the configuration, the mark that it is ours."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from common.errors import OutputError
from common.lifecycle import FOLDER_MARK

#: How the folders are named, and the files in them that the command itself uses.
PREFIX, CONFIG, CONTROL = "headrace-", "fleet.json", "control"
#: Longest path of the folder that ours is made in, in bytes: a Unix socket's whole path may have 107.
MAX_BASE = 80


def bases() -> list[Path]:
    """Where such folders may lie, the preferred place first."""
    found = (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp")
    return [Path(base) for base in dict.fromkeys(found) if base]


def private_folder() -> str:
    """A new one, of mode 0700. Raises OutputError."""
    for base in map(str, bases()):
        if len(os.fsencode(base)) <= MAX_BASE and os.access(base, os.W_OK):
            folder = tempfile.mkdtemp(prefix=PREFIX, dir=base)
            (Path(folder) / FOLDER_MARK).touch()
            return folder
    raise OutputError("no folder for sockets can be made in XDG_RUNTIME_DIR, TMPDIR or /tmp: free one")


def found() -> list[Path]:
    """Those of this user that are there, of runs that go on or have died."""
    return [folder for base in bases() for folder in sorted(base.glob(f"{PREFIX}*")) if _is_ours(folder)]


def _is_ours(folder: Path) -> bool:
    try:
        return (folder / FOLDER_MARK).exists() and folder.stat().st_uid == os.geteuid()
    except OSError:  # it is being removed, or not to be looked into
        return False
