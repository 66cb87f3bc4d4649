"""The folder of keys, as ``headrace keys`` makes and changes it. Nothing is printed here."""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from common.config import PublicKey
from common.errors import LinkError, OutputError, UsageError
from common.keyfiles import (
    ALLOWED,
    DIALS,
    ROLES,
    Entry,
    KeyFile,
    KeyName,
    Role,
    check_folder,
    key_path,
    read_allowed,
    read_key,
    write_allowed,
    write_key,
)
from common.keys import new_key
from deploy.file import FILE
from deploy.file.toml import read_toml

#: Where keys are looked for when nobody says it.
FOLDER = "keys"


def find_folder(file: Path | None, folder: Path | None) -> Path:
    """The folder ``folder``, else what ``file`` names in ``[security] keys``, else the same of ./headrace.toml, else
    ./keys. Raises UsageError."""
    if file is not None and folder is not None:
        raise UsageError("-c and --keys exclude each other: leave one out")
    if folder is not None:
        return folder
    if file is None and not Path(FILE).exists():
        return Path(FOLDER)
    path = file or Path(FILE)
    raw, _ = read_toml(path)
    security = raw.get("security", {})
    named = security.get("keys") if isinstance(security, dict) else None
    if isinstance(named, str) and named:
        return Path(os.path.normpath(path.parent / named))
    if file is None:
        return Path(FOLDER)
    raise UsageError(f'{file} names no folder of keys: write keys = "{FOLDER}" below [security]')


def check_role(role: str, among: tuple[Role, ...] = ROLES) -> Role:
    """Raises UsageError."""
    if role not in among:
        why = " (it dials nobody)" if role in ROLES else ""
        close = difflib.get_close_matches(role, among, 1)
        meant = f"; is {close[0]!r} meant?" if close else ""
        raise UsageError(f"{role!r}{why} is no role here: choose one of {', '.join(among)}{meant}")
    return role


def check_name(name: str) -> str:
    """Raises UsageError."""
    try:
        return msgspec.convert(name, KeyName)
    except msgspec.ValidationError:
        text = f"{name!r} is no name for a key: up to 64 letters, digits, dots, dashes and underscores"
        raise UsageError(text) from None


def check_public(public: str) -> str:
    """Raises UsageError."""
    try:
        return msgspec.convert(public, PublicKey)
    except msgspec.ValidationError:
        text = f"{public!r} is no public key: it has 40 characters; write it in single quotes"
        raise UsageError(text) from None


def make_all(folder: Path) -> list[KeyFile]:
    """The keys of a whole fleet, and the list that lets them in. Raises UsageError, LinkError, OutputError."""
    for path in [key_path(folder, role) for role in ROLES]:
        if path.exists():
            raise UsageError(f"{path} is there already, and nothing is written over; for another node: headrace keys "
                             "new --role ROLE --name NAME; to begin anew, move that folder away")  # fmt: skip
    if folder.exists():
        _check_owner(folder)
        check_folder(folder)
    made = [new_key(role, role) for role in ROLES]
    with _made_whole(folder) as done:
        for key in made:
            _write(key_path(folder, key.role), key)
            done.append(key_path(folder, key.role))
        with _changing(folder, create=True) as table:
            for key in made:
                if key.role in DIALS:
                    _free_name(table, key.name, folder)
                    table[key.public] = key.entry
    return made


def make_one(role: Role, name: str, target: Path) -> tuple[KeyFile, Path]:
    """A key for another node, in the file ``target`` (``….key``) or in the folder of that name. Raises UsageError,
    OutputError."""
    path = target if target.suffix == ".key" and not target.is_dir() else key_path(target, role)
    key = new_key(role, name)
    with _made_whole(path.parent) as done:
        _write(path, key)
        done.append(path)
    return key, path


@dataclass(frozen=True, slots=True)
class Held:
    """A key file of the folder; ``problem``: why it cannot be used."""

    path: Path
    key: Entry | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a folder has. ``problem``: of the folder or the list."""

    own: list[Held]
    allowed: list[Entry]
    problem: str = ""


def look(folder: Path) -> Shown:
    """All public keys in ``folder``. Raises UsageError where it is none."""
    if not folder.is_dir():
        raise UsageError(f"there is no folder of keys {folder}: make one with headrace keys new")
    problem = ""
    own, allowed = [], []
    try:
        check_folder(folder)
    except LinkError as error:
        problem = str(error)
    for path in sorted(folder.glob("*.key")):
        try:
            own.append(Held(path, read_key(path).entry))
        except LinkError as error:
            own.append(Held(path, None, str(error)))
    if (folder / ALLOWED).exists():
        try:
            allowed = list(read_allowed(folder / ALLOWED).values())
        except LinkError as error:
            problem = problem or str(error)
    return Shown(own, allowed, problem)


def allow(folder: Path, entry: Entry) -> bool:
    """Let a key in; False: it is already. Raises UsageError, LinkError, OutputError."""
    with _changing(folder) as table:
        known = table.get(entry.public)
        if known == entry:
            return False
        if known is not None:
            raise UsageError(f"this key is let in already, as {known.role} {known.name!r}: a key has one role and one "
                             f"name; first: headrace keys revoke {known.name}")  # fmt: skip
        _free_name(table, entry.name, folder)
        table[entry.public] = entry
    return True


def revoke(folder: Path, which: str) -> Entry:
    """No longer let in the key of that name, or that key. Raises UsageError, LinkError, OutputError."""
    with _changing(folder) as table:
        for public, entry in table.items():
            if which in (public, entry.name):
                del table[public]
                return entry
        names = [entry.name for entry in table.values()]
        raise UsageError(f"no key {which!r} is let in: the list has {', '.join(names) or 'none'}")


def _free_name(table: dict[str, Entry], name: str, folder: Path) -> None:
    for entry in table.values():
        if entry.name == name:
            raise UsageError(f"another key has the name {name!r} in {folder / ALLOWED}: choose another name, or first: "
                             f"headrace keys revoke {name}")  # fmt: skip


def _write(path: Path, key: KeyFile) -> None:
    try:
        write_key(path, key)
    except FileExistsError:
        raise UsageError(f"{path} is there already, and nothing is written over: name another place with -o") from None
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from None


@contextlib.contextmanager
def _made_whole(folder: Path) -> Iterator[list[Path]]:
    """The folder is made where it is not there. All that was made in it, or nothing."""
    done: list[Path] = []
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror}") from None
    try:
        yield done
    except BaseException:
        for path in done:
            path.unlink(missing_ok=True)
        raise


def _check_owner(folder: Path) -> None:
    """What we write is ours alone: parts of another user could not read it. Raises UsageError."""
    if folder.exists() and folder.stat().st_uid != os.geteuid():
        raise UsageError(f"{folder} is another user's: change it as that user (sudo -u …)")


@contextlib.contextmanager
def _changing(folder: Path, create: bool = False) -> Iterator[dict[str, Entry]]:
    """The list, to be changed; what changes it at the same time waits. It is written where it was changed."""
    path = folder / ALLOWED
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        text = f"there is no folder of keys {folder} ({error.strerror}): headrace keys new makes it"
        raise UsageError(text) from None
    try:
        _check_owner(folder)
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = read_allowed(path) if path.exists() or not create else {}
        table = dict(before)
        yield table
        if table != before or not path.exists():
            write_allowed(path, table.values())
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        os.close(lock)
