"""Where an output stands: which files it has written, what they are called, and what a new one has to leave out. Pure.

A :class:`Mark` is what the running sink says of an output; a :class:`Position` is what the next one makes of it after
a look into the files (sink/outputs/survey.py).
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import msgspec

from common.config import Output

#: A size that no file reaches: all of the last file counts.
WHOLE = 2**62
#: Most segments of one output that are named in its mark and in the ledger; those before are counted.
MAX_PARTS = 200
#: Fields of strftime that a segment's name may have, and what each can become. Never a separator of folders or a dot.
FIELDS = {
    "Y": "[0-9]{4,}", "G": "[0-9]{4,}", "j": "[0-9]{3}", "u": "[0-9]", "w": "[0-9]", "s": "[0-9]+", "%": "%",
    "F": "[0-9]{4,}-[0-9]{2}-[0-9]{2}", "T": "[0-9]{2}:[0-9]{2}:[0-9]{2}", "R": "[0-9]{2}:[0-9]{2}",
    "z": "[+-][0-9]{4}", "Z": "[A-Za-z0-9+-]+",
    **dict.fromkeys("mdHMSyIUVW", "[0-9]{2}"), **dict.fromkeys("aAbBp", r"\w+"),
}  # fmt: skip
_FIELD = re.compile(f"%([{''.join(FIELDS)}])")


class Part(msgspec.Struct, frozen=True):
    """One file. ``origin``: time of the stream at the file's zero, in seconds ("12/5")."""

    path: str
    origin: Annotated[str, msgspec.Meta(pattern=r"^-?[0-9]{1,40}(/[1-9][0-9]{0,40})?$")] = "0"


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """One output at the moment of a checkpoint."""

    #: The output's :func:`mark_name`.
    path: str
    #: Its files so far, in order; the last one is being written.
    parts: list[Part] = []
    #: Bytes of the last file that are whole; −1: no regular file, which cannot be gone back in.
    size: int = 0
    #: A file of lines, which is gone on with; the others get a new part.
    lines: bool = False
    #: The files are segments, each by itself; so many more came before them.
    segments: bool = False
    before: Annotated[int, msgspec.Meta(ge=0)] = 0
    #: Why it has failed; such an output is not gone on with.
    error: str = ""


@dataclass(frozen=True, slots=True)
class Position:
    """Where an output goes on."""

    #: Finished files. The next part gets the next number.
    parts: tuple[Part, ...] = ()
    #: Segments before those.
    before: int = 0
    #: Time of their last picture, in seconds; None: there is none.
    after: Fraction | None = None
    #: Time of their last packet of each sound track, in seconds.
    sounds: tuple[Fraction | None, ...] = ()
    error: str = ""


def part_path(path: Path, number: int) -> Path:
    """``a.mp4``, ``a.part2.mp4``, ``a.part3.mp4`` …"""
    return path if number == 1 else path.with_name(f"{path.stem}.part{number}{path.suffix}")


def mark_name(output: Output) -> str:
    """What an output is called in its mark, however its path is written."""
    return output.path if "://" in output.path else str(Path(output.path))


def is_segmented(output: Output) -> bool:
    """Whether the output is cut into segments: it has a length for them, or a name for each."""
    return output.kind in ("mp4", "mkv", "ts") and (output.segment is not None or has_fields(output.path))


def has_fields(path: str) -> bool:
    """Whether strftime has something to fill in."""
    return any(match[1] != "%" for match in _FIELD.finditer(path))


class SegmentNames:
    """``rec-%Y%m%d-%H%M%S.mp4`` → ``rec-20260131-080000.mp4``, with ``-2`` where that is taken; ``rec.mp4`` →
    ``rec-000001.mp4``. Fields that are not known stay as they are."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.by_time = has_fields(str(path))
        #: The folder that has to be there; those below it have fields in their names.
        self.folder = next(folder for folder in path.parents if not has_fields(str(folder)))
        stem = str(path.with_name(path.stem))
        self._alike = re.compile(f"{_expression(stem)}(?:-[0-9]+)?{re.escape(path.suffix)}")

    def make(self, number: int, at: time.struct_time, taken: int = 0) -> Path:
        """The name of segment ``number`` (from 1), which begins at ``at``; so many alike are ``taken``."""
        if not self.by_time:
            return self._numbered(number)
        path = Path(_FIELD.sub(lambda field: "%" if field[1] == "%" else time.strftime(field[0], at), str(self._path)))
        return path.with_name(f"{path.stem}-{taken + 1}{path.suffix}") if taken else path

    def could_be(self, path: str, number: int) -> bool:
        """Whether ``path`` can be the name of segment ``number``."""
        if not self.by_time:
            return Path(path) == self._numbered(number)
        return self._alike.fullmatch(str(Path(path))) is not None

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.stem}-{number:06}{self._path.suffix}")


def _expression(pattern: str) -> str:
    """What the names made from ``pattern`` look like."""
    pieces = _FIELD.split(pattern)  # text, field, text …
    return "".join(FIELDS[piece] if number % 2 else re.escape(piece) for number, piece in enumerate(pieces))
