"""After a sudden end: cut each output back to what is whole, and look how far it comes. Files in, positions out.

A killed writer leaves half a fragment or line behind. Each file is cut at the size of the last checkpoint, where it was
whole, and then its last times are read; a new part begins after them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av

from sink.outputs.place import Mark, Position


def survey(marks: Sequence[Mark]) -> dict[str, Position]:
    """Output → where it goes on. Cuts the files."""
    return {mark.path: _survey(mark) for mark in marks}


def _survey(mark: Mark) -> Position:
    if mark.error or not mark.parts:
        return Position(parts=tuple(mark.parts), error=mark.error)
    if mark.size < 0:  # a pipe: its reader has what it has
        return Position(parts=tuple(mark.parts[:-1]))
    last = Path(mark.parts[-1].path)
    if last.is_file() and last.stat().st_size > mark.size:
        os.truncate(last, mark.size)
    if mark.lines:
        return Position(parts=tuple(mark.parts))
    parts = list(mark.parts)
    while parts:
        part = parts[-1]
        picture, sounds = _last_times(Path(part.path))
        if picture is not None:
            origin = Fraction(part.origin)
            return Position(
                parts=tuple(parts),
                after=picture + origin,
                sounds=tuple(None if time is None else time + origin for time in sounds),
            )
        parts.pop()  # it has nothing that could be shown: the next part takes its place
    return Position()


def _last_times(path: Path) -> tuple[Fraction | None, tuple[Fraction | None, ...]]:
    """Time of the last picture and of the last packet of each sound track, in seconds of the file."""
    last: dict[int, Fraction] = {}
    try:
        with av.open(f"file:{path}") as container:
            tracks = [container.streams.video[0], *container.streams.audio]
            for packet in container.demux(tracks):
                if packet.size and packet.pts is not None and packet.time_base is not None:
                    time = packet.pts * Fraction(packet.time_base)
                    last[packet.stream_index] = max(time, last.get(packet.stream_index, time))
            picture, *sounds = [last.get(track.index) for track in tracks]
            return picture, tuple(sounds)
    except (av.FFmpegError, ValueError, IndexError):
        return None, ()
