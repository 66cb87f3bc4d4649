"""What an HLS folder holds from before: where the numbers of segments go on, and which files are left over.

A playlist that a killed sender left without its end is gone on with, so that players which know it stay. One that is
ended is another stream's: its segments are removed, and the new ones get higher numbers, so that nobody takes one for
the other.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

#: Largest playlist that is looked into, in bytes.
MAX_PLAYLIST = 256 * 1024
#: So far before and behind the listed segments may files lie that a killed sender has left.
REACH = 16
#: The last line of a playlist that is ended.
END = "#EXT-X-ENDLIST"
#: Digits of a segment's number.
DIGITS = 6


@dataclass(frozen=True, slots=True)
class Before:
    """``first``: the number of the next segment. ``goes_on``: the playlist is appended to."""

    first: int
    goes_on: bool


def prefix(playlist: Path) -> str:
    """What the names of segments begin with. They are addresses in the playlist and patterns for FFmpeg."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", playlist.stem)


def segment_name(playlist: Path, number: int) -> str:
    return f"{prefix(playlist)}-{number:0{DIGITS}d}.ts"


def segment_pattern(playlist: Path) -> str:
    """FFmpeg's ``hls_segment_filename``, within the playlist's folder."""
    return f"{prefix(playlist)}-%0{DIGITS}d.ts"


def parse(text: str, playlist: Path) -> tuple[list[int], bool]:
    """Numbers of the segments that a playlist lists, and whether it is ended."""
    numbers = re.findall(rf"^{re.escape(prefix(playlist))}-(\d{{{DIGITS},}})\.ts$", text, re.MULTILINE)
    return [int(number) for number in numbers], END in text


def clear(playlist: Path, again: bool) -> Before:
    """Make the folder and remove what is left over in it. ``again``: go on even with a playlist that is ended.

    Raises OSError.
    """
    playlist.parent.mkdir(parents=True, exist_ok=True)
    numbers, ended = _read(playlist)
    if not numbers:
        return Before(0, goes_on=False)
    goes_on = again or not ended
    for number in range(max(0, numbers[0] - REACH), numbers[-1] + REACH):
        name = segment_name(playlist, number)
        listed = goes_on and number in numbers
        for leftover in ([] if listed else [name]) + [f"{name}.tmp"]:
            with contextlib.suppress(FileNotFoundError):
                (playlist.parent / leftover).unlink()
    if not goes_on:
        playlist.unlink()
    return Before(numbers[-1] + 1, goes_on)


def end(playlist: Path) -> None:
    """Say that nothing follows. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):  # there was no segment
        text = playlist.read_text()
        draft = playlist.with_name(f"{playlist.name}.tmp")
        draft.write_text(f"{text}{END}\n")
        draft.replace(playlist)


def _read(playlist: Path) -> tuple[list[int], bool]:
    try:
        with playlist.open("rb") as file:
            text = file.read(MAX_PLAYLIST).decode(errors="replace")
    except FileNotFoundError:
        return [], False
    return parse(text, playlist)
