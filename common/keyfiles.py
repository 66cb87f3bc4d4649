"""Keys on disk: a folder with a secret key file for each part, and the list of public keys that are let in.

A key file (``worker.key``) is read by its part alone: it must be of mode 0600. The list (``allowed.toml``) belongs to
whoever serves, broker and sink; it is read again while they run. No sockets here.
"""

from __future__ import annotations

import os
import stat
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar, get_args

import msgspec

from common.config import PublicKey
from common.errors import LinkError

Role = Literal["broker", "sink", "producer", "worker"]
ROLES: tuple[Role, ...] = get_args(Role)
#: Who may speak to each socket. A key has exactly one role.
SPEAKERS: Mapping[str, tuple[Role, ...]] = {
    "frames": ("producer",),
    "workers": ("worker",),
    "news": ("producer",),
    "media": ("producer",),
    "results": ("worker", "broker"),
}
#: Roles that dial somebody: only these need to be let in.
DIALS: tuple[Role, ...] = ("producer", "worker", "broker")
#: The list's name in the folder.
ALLOWED = "allowed.toml"
#: Longest file that is read, in bytes: some ten thousand keys.
MAX_FILE = 2**20

KeyName = Annotated[str, msgspec.Meta(max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*\Z")]
T = TypeVar("T")


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A public key that is let in, and as what."""

    role: Role
    name: KeyName
    public: PublicKey

    def __str__(self) -> str:
        return f"{self.role} {self.name!r} ({self.public})"


class KeyFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One part's own key."""

    role: Role
    name: KeyName
    public: PublicKey
    #: Never shown.
    secret: PublicKey

    def __repr__(self) -> str:
        return f"KeyFile({self.role} {self.name} {self.public})"

    @property
    def entry(self) -> Entry:
        return Entry(role=self.role, name=self.name, public=self.public)


class _List(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    allowed: list[Entry] = []


def key_path(folder: Path, role: Role) -> Path:
    return folder / f"{role}.key"


def check_folder(folder: Path) -> None:
    """Refuse a folder into which others may look or write. Raises LinkError."""
    try:
        found = folder.stat()
    except OSError as error:
        why = f"{error.strerror}; headrace keys new makes it"
        raise LinkError(f"the folder of keys {folder} cannot be read: {why}") from None
    if not stat.S_ISDIR(found.st_mode):
        raise LinkError(f"{folder} is no folder: [security] keys names the folder with the key files")
    if found.st_mode & 0o077:
        raise LinkError(f"others can look into the folder of keys {folder}: chmod 700 {folder}")


def read_key(path: Path) -> KeyFile:
    """A part's own key. Raises LinkError, with one line that says what to do."""
    text = _read(path, 0o077, "its secret key is open to others: chmod 600")
    key = _parse(path, text, KeyFile)
    if path.name == f"{path.stem}.key" and path.stem in ROLES and path.stem != key.role:
        raise LinkError(f"{path} holds the key of a {key.role}: a key has one role, and the file's name is its role")
    return key


def read_allowed(path: Path) -> dict[str, Entry]:
    """The list: public key → entry. Raises LinkError."""
    text = _read(path, 0o022, "others can write to the list of allowed keys: chmod 600")
    table: dict[str, Entry] = {}
    names: dict[str, Entry] = {}
    for entry in _parse(path, text, _List).allowed:
        if (twice := table.get(entry.public)) is not None:
            raise LinkError(f"{path}: {twice.role} {twice.name!r} and {entry.role} {entry.name!r} are one key: "
                            "each has exactly one role and one name")  # fmt: skip
        if entry.name in names:
            raise LinkError(f"{path}: two keys have the name {entry.name!r}: names are there to tell them apart")
        if entry.role not in DIALS:
            raise LinkError(f"{path}: {entry.name!r} is a {entry.role}, which dials nobody: take it out of the list")
        table[entry.public] = names[entry.name] = entry
    return table


def write_key(path: Path, key: KeyFile) -> None:
    """A new file of mode 0600; nothing is ever written over. Raises FileExistsError, OSError."""
    text = (
        f"# Secret key of a Headrace {key.role}. Who has this file can pass for it: keep it to this machine.\n"
        f'role = "{key.role}"\nname = "{key.name}"\npublic = "{key.public}"\nsecret = "{key.secret}"\n'
    )
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(fd)
    except BaseException:  # half of it would stand in the way of the next try
        os.unlink(path)
        raise


def write_allowed(path: Path, entries: Iterable[Entry]) -> None:
    """The list, whole or as it was before. Raises OSError."""
    lines = ["# Public keys that broker and sink let in. Changes count within a second: headrace keys allow, revoke.\n"]
    lines += [f'\n[[allowed]]\nrole = "{one.role}"\nname = "{one.name}"\npublic = "{one.public}"\n' for one in entries]
    fd, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # of mode 0600
    try:
        with open(fd, "w", encoding="utf-8") as file:
            file.write("".join(lines))
            file.flush()
            os.fsync(fd)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise


def _read(path: Path, mask: int, complaint: str) -> str:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # a pipe would hold us up
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise LinkError(f"{path} is no file")
            if found.st_mode & mask:
                raise LinkError(f"{path}: {complaint} {path}")
            raw = file.read(MAX_FILE + 1)
    except OSError as error:
        raise LinkError(f"{path} cannot be read: {error.strerror}; see headrace keys") from None
    if len(raw) > MAX_FILE:
        raise LinkError(f"{path} is longer than {MAX_FILE} bytes: that is none of ours")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise LinkError(f"{path} is no text: that is none of ours") from None


def _parse(path: Path, text: str, kind: type[T]) -> T:
    try:
        return msgspec.convert(tomllib.loads(text), kind)
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        # msgspec names the key, never its value: a secret does not get out here.
        raise LinkError(f"{path}: {error}") from None


class AllowedList:
    """The list as it is now: :meth:`look` follows the file. What cannot be read counts as it was before."""

    def __init__(self, path: Path) -> None:
        """Raises LinkError where there is no list to begin with."""
        self.path = path
        self._seen = self._mark()
        #: Public key → entry. Replaced whole, never changed: other threads read it.
        self.table: Mapping[str, Entry] = read_allowed(path)
        #: Why the file cannot be followed, "" where it can.
        self.problem = ""

    def look(self) -> bool:
        """Whether the table has changed since the last call."""
        mark = self._mark()
        if mark == self._seen:
            return False
        self._seen = mark
        try:
            table = read_allowed(self.path)
        except LinkError as error:
            self.problem = str(error)
            return False
        self.problem = ""
        changed = table != self.table
        self.table = table
        return changed

    def _mark(self) -> tuple[int, ...]:
        try:
            found = self.path.stat()
        except OSError:
            return ()
        return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
