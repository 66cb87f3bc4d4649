"""Where an output stands: which files it has written, and what a new part of it has to leave out. Plain data.

A :class:`Mark` is what the running sink says of an output; a :class:`Position` is what the next one makes of it after
a look into the files (sink/outputs/survey.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import msgspec

#: A size that no file reaches: all of the last file counts.
WHOLE = 2**62


class Part(msgspec.Struct, frozen=True):
    """One file. ``origin``: time of the stream at the file's zero, in seconds ("12/5")."""

    path: str
    origin: Annotated[str, msgspec.Meta(pattern=r"^-?[0-9]{1,40}(/[1-9][0-9]{0,40})?$")] = "0"


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """One output at the moment of a checkpoint."""

    #: The path that the configuration names; it identifies the output.
    path: str
    #: Its files so far, in order; the last one is being written.
    parts: list[Part] = []
    #: Bytes of the last file that are whole; −1: no regular file, which cannot be gone back in.
    size: int = 0
    #: A file of lines, which is gone on with; the others get a new part.
    lines: bool = False
    #: Why it has failed; such an output is not gone on with.
    error: str = ""


@dataclass(frozen=True, slots=True)
class Position:
    """Where an output goes on."""

    #: Finished files. The next part gets the next number.
    parts: tuple[Part, ...] = ()
    #: Time of their last picture, in seconds; None: there is none.
    after: Fraction | None = None
    #: Time of their last packet of each sound track, in seconds.
    sounds: tuple[Fraction | None, ...] = ()
    error: str = ""


def part_path(path: Path, number: int) -> Path:
    """``a.mp4``, ``a.part2.mp4``, ``a.part3.mp4`` …"""
    return path if number == 1 else path.with_name(f"{path.stem}.part{number}{path.suffix}")
