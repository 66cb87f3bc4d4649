"""The private folder of a run: sockets, the configuration, the mark that it is ours.

Others tidy up where it lies: logind at a logout, systemd-tmpfiles by age, a person. What of it is gone is made again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pwd
import re
import shutil
import stat
import tempfile
from pathlib import Path

from common.errors import OutputError
from common.lifecycle import FOLDER_MARK
from deploy.text import is_text

#: How the folders are named, and the files in them that the command itself uses.
PREFIX, CONFIG, CONTROL = "headrace-", "fleet.json", "control"
#: Longest path of the folder that ours is made in, in bytes: a Unix socket's whole path may have 107.
MAX_BASE = 80
#: What logind makes for a user, and removes at the last logout, but of users that are named here.
_SESSION, _LINGER = re.compile(r"/run/user/\d+/?"), Path("/var/lib/systemd/linger")


class Home:
    """A new private folder at ``path``, of mode 0700. Raises OutputError where there is no place for one."""

    def __init__(self) -> None:
        self.path = Path(private_folder())
        self.config = self.path / CONFIG
        self._written: bytes | None = None
        self._lock = -1
        self._hold()

    def write(self, data: bytes) -> None:
        """The configuration: whole, or as it was before. Raises OSError."""
        draft = self.config.with_suffix(".new")
        try:
            draft.write_bytes(data)
            os.replace(draft, self.config)
        except OSError:
            with contextlib.suppress(OSError):  # it takes space
                draft.unlink()
            raise
        self._written = data

    def mend(self) -> bool:
        """Make again what is gone, but sockets, which are their owners' business. Returns whether something was. Raises
        OSError."""
        mark = self.path / FOLDER_MARK
        whole = mark.exists() and (self._written is None or self.config.exists())
        if whole:
            return False
        try:
            self.path.mkdir(mode=0o700)
        except FileExistsError:
            found = self.path.lstat()  # where all may write, somebody else may have been quicker
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
                raise PermissionError(errno.EPERM, f"{self.path} is not ours any more") from None
        self._hold()
        if self._written is not None:
            self.write(self._written)
        mark.touch()  # last: it says that all is there
        return True

    def close(self) -> None:
        """Remove it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._let_go()

    def _hold(self) -> None:
        """systemd-tmpfiles leaves a folder alone on which somebody has a lock."""
        self._let_go()
        with contextlib.suppress(OSError):
            self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(self._lock, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def _let_go(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def bases() -> list[Path]:
    """Where such folders may lie, the preferred place first."""
    found = (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp")
    return [Path(base) for base in dict.fromkeys(found) if base]


def private_folder() -> str:
    """A new one, of mode 0700. Raises OutputError."""
    why = ""
    # What goes with the user's last session would be taken from a run that stays.
    for base in sorted(map(str, bases()), key=_goes_at_logout):
        if len(os.fsencode(base)) <= MAX_BASE and is_text(base) and os.access(base, os.W_OK):
            try:
                folder = tempfile.mkdtemp(prefix=PREFIX, dir=base)
                (Path(folder) / FOLDER_MARK).touch()
            except OSError as error:
                why = f" ({base}: {error.strerror})"
                continue
            return folder
    raise OutputError(f"no folder for sockets can be made in XDG_RUNTIME_DIR, TMPDIR or /tmp{why}: free one")


def _goes_at_logout(base: str) -> bool:
    if not _SESSION.fullmatch(base):
        return False
    try:
        return not (_LINGER / pwd.getpwuid(os.geteuid()).pw_name).exists()
    except (KeyError, OSError):
        return True


def found() -> list[Path]:
    """Those of this user that are there, of runs that go on or have died."""
    return [folder for base in bases() for folder in sorted(base.glob(f"{PREFIX}*")) if _is_ours(folder)]


def _is_ours(folder: Path) -> bool:
    try:
        return (folder / FOLDER_MARK).exists() and folder.stat().st_uid == os.geteuid()
    except OSError:  # it is being removed, or not to be looked into
        return False
