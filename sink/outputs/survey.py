"""After a sudden end: cut each output back to what is whole, and look how far it comes. Files in, positions out.

A killed writer leaves half a fragment or line behind. Each file is cut at the size of the last checkpoint, where it was
whole, and then its last times are read; a new part begins after them. A file that came to its end after that checkpoint
is whole as it is.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer

from sink.outputs.place import Mark, Position

#: Of a long file, only so much of its end is read, in microseconds; all of it where a track has nothing there.
TAIL_US = 20_000_000
#: What is read of a file's beginning, in bytes; Matroska's segment (its id) and the size of one that is being written.
HEAD, SEGMENT, UNKNOWN_SIZE = 4096, b"\x18\x53\x80\x67", b"\x01" + b"\xff" * 7


def survey(marks: Sequence[Mark]) -> dict[str, Position]:
    """Output → where it goes on. Cuts the files."""
    return {mark.path: _survey(mark) for mark in marks}


def _survey(mark: Mark) -> Position:
    if mark.error or not mark.parts:
        return Position(parts=tuple(mark.parts), error=mark.error)
    if mark.size < 0:  # a pipe: its reader has what it has
        return Position(parts=tuple(mark.parts[:-1]))
    last = Path(mark.parts[-1].path)
    if last.is_file() and last.stat().st_size > mark.size and (mark.lines or not _is_closed(last)):
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


def _is_closed(path: Path) -> bool:
    """Whether the muxer has written its trailer. Cut off behind that, an MP4 would have lost its only index."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    segment = head.find(SEGMENT)
    if segment >= 0:  # Matroska: the size is filled in at the end
        return head[segment + 4 : segment + 12] not in (b"", UNKNOWN_SIZE)
    at = 0
    while at + 8 <= len(head):  # MP4: the first fragment's index becomes media data at the end (hybrid_fragmented)
        size, kind = int.from_bytes(head[at : at + 4], "big"), head[at + 4 : at + 8]
        if kind not in (b"ftyp", b"free") or size < 8:
            return kind == b"mdat"
        at += size
    return False


def _last_times(path: Path) -> tuple[Fraction | None, tuple[Fraction | None, ...]]:
    """Time of the last picture and of the last packet of each sound track, in seconds of the file."""
    try:
        with av.open(f"file:{path}") as container:
            if container.duration and container.duration > 3 * TAIL_US:
                container.seek(container.duration + (container.start_time or 0) - TAIL_US)
                times = _times(container)
                if None not in times:
                    return times[0], tuple(times[1:])
        with av.open(f"file:{path}") as container:
            picture, *sounds = _times(container)
            return picture, tuple(sounds)
    except (av.FFmpegError, ValueError, IndexError):
        return None, ()


def _times(container: InputContainer) -> list[Fraction | None]:
    """Of the rest of the file: the picture's, then each sound track's."""
    last: dict[int, Fraction] = {}
    tracks = [container.streams.video[0], *container.streams.audio]
    for packet in container.demux(tracks):
        if packet.size and packet.pts is not None and packet.time_base is not None:
            time = packet.pts * Fraction(packet.time_base)
            last[packet.stream_index] = max(time, last.get(packet.stream_index, time))
    return [last.get(track.index) for track in tracks]
