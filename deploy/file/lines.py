"""Where in a TOML file each key and each value stands. Pure.

tomllib tells what a file says and not where. It judges the file; what is read here is taken for valid, and of a file
that is not, what stands before its mistake is told. Whatever TOML allows is followed: dotted and quoted keys, tables in
one line, arrays of tables, arrays and texts over several lines.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

#: Names of keys, and numbers in arrays: ``("streams", 0, "name")``.
Path = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
#: A text, of one line or several; the longer quotes first.
_TEXT = re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'', re.DOTALL)
_SCALAR = re.compile(r"[^,\]}#\n]*")


@dataclass(frozen=True, slots=True)
class Spot:
    """A place in the file. Lines and columns count from 1, columns in characters."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Entry:
    """``path`` and its value, where they begin; ``text``: the value as it is written. Of the head of a table: the head.

    Of an element of an array, ``key`` and ``value`` are the same."""

    path: Path
    key: Spot
    value: Spot
    text: str


class _NotTomlError(Exception):
    """Here the file is no TOML."""


class FileLines:
    """The places of what ``text`` says."""

    def __init__(self, text: str) -> None:
        self._entries: dict[Path, Entry] = {}
        #: Tables that are there by what is in them alone, with the first of that.
        self._implied: dict[Path, Entry] = {}
        for entry in entries(text):
            self._entries.setdefault(entry.path, entry)
            for length in range(1, len(entry.path)):
                self._implied.setdefault(entry.path[:length], entry)

    def of(self, path: Path) -> Entry | None:
        """The entry of ``path``; where it is not written itself, of the innermost table around it, or the first in
        that."""
        for length in range(len(path), 0, -1):
            if (entry := self._entries.get(path[:length]) or self._implied.get(path[:length])) is not None:
                return entry
        return None

    def __iter__(self) -> Iterator[Path]:
        return iter(self._entries)


def entries(text: str) -> Iterator[Entry]:
    """All keys in the order of the file, a key that is written twice twice."""
    scanner = _Scanner(text)
    try:
        yield from scanner.file()
    except (_NotTomlError, RecursionError):
        return


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._starts = [0, *(found.end() for found in re.finditer("\n", text))]
        #: Arrays of tables, and how many tables they have so far.
        self._arrays: dict[Path, int] = {}

    def file(self) -> Iterator[Entry]:
        table: Path = ()
        while self._skip(_BLANK) < len(self._text):
            if not self._next("["):
                yield from self._pair(table)
                continue
            start = self._at
            several = self._next("[[")
            self._at += 2 if several else 1
            names = self._names()
            self._expect("]]" if several else "]")
            table = self._table(names, several)
            spot = self._spot(start)
            head = self._text[start : self._at]
            if several:
                yield Entry(table[:-1], spot, spot, head)
            yield Entry(table, spot, spot, head)

    def _table(self, names: list[str], several: bool) -> Path:
        path: Path = ()
        for number, name in enumerate(names):
            path += (name,)
            if several and number == len(names) - 1:
                self._arrays[path] = self._arrays.get(path, 0) + 1
            if path in self._arrays:  # of several tables, the last one is meant
                path += (self._arrays[path] - 1,)
        return path

    def _pair(self, table: Path) -> Iterator[Entry]:
        start = self._at
        path = (*table, *self._names())
        self._expect("=")
        self._skip(_SPACE)
        yield from self._value(path, self._spot(start))

    def _value(self, path: Path, key: Spot | None = None) -> Iterator[Entry]:
        start = self._at
        inner: list[Entry] = []
        if self._next("["):
            inner += self._array(path)
        elif self._next("{"):
            inner += self._inline(path)
        elif found := _TEXT.match(self._text, start):
            self._at = found.end()
        else:
            found = _SCALAR.match(self._text, start)
            assert found is not None
            self._at = start + len(found[0].rstrip())
            if self._at == start:
                raise _NotTomlError
        spot = self._spot(start)
        yield Entry(path, key or spot, spot, self._text[start : self._at])
        yield from inner

    def _array(self, path: Path) -> Iterator[Entry]:
        self._at += 1
        number = 0
        while self._skip(_BLANK) < len(self._text) and not self._next("]"):
            yield from self._value((*path, number))
            number += 1
            self._comma("]")
        self._expect("]")

    def _inline(self, path: Path) -> Iterator[Entry]:
        self._at += 1
        while self._skip(_BLANK) < len(self._text) and not self._next("}"):
            yield from self._pair(path)
            self._comma("}")
        self._expect("}")

    def _comma(self, end: str) -> None:
        self._skip(_BLANK)
        if not self._next(end):
            self._expect(",")

    def _names(self) -> list[str]:
        """A key, with all of its dots."""
        names = []
        while True:
            self._skip(_SPACE)
            if (found := _BARE.match(self._text, self._at)) is not None:
                names.append(found[0])
            elif (found := _TEXT.match(self._text, self._at)) is not None:
                try:
                    names.append(str(tomllib.loads(f"x = {found[0]}")["x"]))
                except ValueError:
                    raise _NotTomlError from None
            else:
                raise _NotTomlError
            self._at = found.end()
            self._skip(_SPACE)
            if not self._next("."):
                return names
            self._at += 1

    def _next(self, what: str) -> bool:
        return self._text.startswith(what, self._at)

    def _expect(self, what: str) -> None:
        self._skip(_SPACE)
        if not self._next(what):
            raise _NotTomlError
        self._at += len(what)

    def _skip(self, what: re.Pattern[str]) -> int:
        found = what.match(self._text, self._at)
        assert found is not None
        self._at = found.end()
        return self._at

    def _spot(self, at: int) -> Spot:
        line = bisect_right(self._starts, at)
        return Spot(line, at - self._starts[line - 1] + 1)
