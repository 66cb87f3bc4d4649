"""What is wrong with a fleet's file: each mistake names file, line, column, key and value, without secrets."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from common.errors import HeadraceError, UsageError
from common.log import mask
from deploy.file.fill import Filled
from deploy.file.lines import FileLines, Path

#: Longest value that is shown, in characters, and most mistakes that are told at once.
MAX_SHOWN = 80
MAX_TOLD = 20
#: Keys whose values are not shown.
SECRET = (("token",),)
_BARE = re.compile(r"[A-Za-z0-9_-]{1,60}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Mistake:
    """``line`` and ``column`` are 0 where the file does not say that which is wrong."""

    file: str
    line: int
    column: int
    key: str
    text: str
    error: type[HeadraceError] = UsageError

    def __str__(self) -> str:
        place = f":{self.line}:{self.column}" if self.line else ""
        return f"{self.file}{place}: {self.text}"


@dataclass(slots=True)
class Mistakes:
    """Those of one file. The first one of a key counts: what comes of it later is told no more."""

    file: str
    lines: FileLines
    filled: Filled
    found: dict[Path, Mistake] = field(default_factory=dict)

    def add(
        self,
        path: Path,
        text: str,
        value: object = None,
        *,
        at_key: bool = False,
        error: type[HeadraceError] = UsageError,
    ) -> None:
        """``value``: what the key has, None where that is not to be shown. ``at_key``: the key itself is wrong."""
        if any(path[:length] in self.found for length in range(1, len(path) + 1)):
            return
        entry = self.lines.of(path)
        exact = entry is not None and entry.path == path
        spot = None if entry is None else entry.key if at_key or not exact else entry.value
        shown = self.filled.written.get(path, value)
        secret = path[-1:] in SECRET and path not in self.filled.written
        equals = "" if shown is None else f" = {'***' if secret else self._shown(shown)}"
        whole = f"{name_of(path)}{equals}: {one_line(mask(self.filled.hide(text)))}"
        self.found[path] = Mistake(
            self.file, spot.line if spot else 0, spot.column if spot else 0, name_of(path), whole, error
        )

    def _shown(self, value: object) -> str:
        if isinstance(value, dict | list) and not _is_plain(value):  # what is in it may be secret
            return "{…}" if isinstance(value, dict) else "[…]"
        try:
            text = repr(value)
        except ValueError:  # Python writes no number of thousands of digits
            return "a number of too many digits"
        return mask(self.filled.hide(text))[:MAX_SHOWN]

    def below(self, path: Path) -> bool:
        """Whether something is wrong with ``path``, or in it."""
        return any(one[: len(path)] == path or path[: len(one)] == one for one in self.found)

    def sorted(self) -> list[Mistake]:
        return sorted(self.found.values(), key=lambda one: (one.line, one.column))

    def settle(self) -> None:
        """Raises the first one, if there is one."""
        for first in self.sorted():
            raise first.error(str(first))

    def copy(self) -> Mistakes:
        return Mistakes(self.file, self.lines, self.filled, dict(self.found))


def _is_plain(value: dict[str, object] | list[object]) -> bool:
    return not value or (isinstance(value, list) and all(isinstance(one, int | float) for one in value))


def name_of(path: Path) -> str:
    """``streams[0].outputs[1].kind``"""
    name = ""
    for step in path:
        if isinstance(step, int):
            name += f"[{step}]"
        else:
            step = step if _BARE.fullmatch(step) else repr(step)[:MAX_SHOWN]
            name += f".{step}" if name else step
    return name


def one_line(text: str) -> str:
    """Names of files may hold anything."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def meant(key: str, known: Iterable[str]) -> str:
    """Which of ``known`` may have been meant."""
    close = difflib.get_close_matches(key, list(known), 1)
    return f"; is {close[0]!r} meant?" if close else ""
