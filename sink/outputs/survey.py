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

from sink.outputs.matroska import is_closed, matroska_tail
from sink.outputs.partfile import write_error
from sink.outputs.place import Mark, Part, Position

#: Of a long file, only so much of its end is read, in microseconds; all of it where a track has nothing there.
TAIL_US = 20_000_000
#: The same of a Matroska file that is not closed, in bytes: it does not say how long it is.
TAIL_BYTES = 32 * 2**20
#: Sound may come so much later than its pictures, in seconds.
LAG_S = 10
#: What is read of a file's beginning, in bytes.
HEAD = 4096


def survey(marks: Sequence[Mark]) -> dict[str, Position]:
    """Output → where it goes on. Cuts the files. One that cannot be cut or read has failed; the others go on."""
    return {mark.path: _guarded(mark) for mark in marks}


def _guarded(mark: Mark) -> Position:
    try:
        return _survey(mark)
    except OSError as error:
        path = Path(mark.parts[-1].path)
        return Position(parts=tuple(mark.parts), before=mark.before, error=str(write_error(path, error)))


def _survey(mark: Mark) -> Position:
    if mark.error or not mark.parts:
        return Position(parts=tuple(mark.parts), before=mark.before, error=mark.error)
    if mark.size < 0:  # a pipe: its reader has what it has
        return Position(parts=tuple(mark.parts[:-1]), before=mark.before)
    last = Path(mark.parts[-1].path)
    was_open = last.is_file() and (mark.lines or not _is_closed(last))
    if was_open and last.stat().st_size > mark.size:
        os.truncate(last, mark.size)
    if mark.lines:
        return Position(parts=tuple(mark.parts))
    parts = list(mark.parts)
    while parts:
        part = parts[-1]
        picture, sounds = _last_times(Path(part.path))
        if picture is not None:
            after = picture + Fraction(part.origin)
            return Position(tuple(parts), mark.before, after, _with_earlier(parts, sounds, after - LAG_S))
        if mark.segments and part != mark.parts[-1]:
            break  # it was whole, and somebody has taken it away since
        parts.pop()  # it has nothing that could be shown: the next part takes its place
        if mark.segments and was_open:  # which has another name
            last.unlink(missing_ok=True)
    return Position(parts=tuple(parts), before=mark.before)


def _with_earlier(
    parts: Sequence[Part], last: tuple[Fraction | None, ...], since: Fraction
) -> tuple[Fraction | None, ...]:
    """Time of the last packet of each sound track, in seconds of the stream. ``last``: in the last file; a track that
    it has nothing of may have ended in one before, which reaches beyond ``since``."""
    ends = _moved(last, parts[-1])
    for earlier, part in zip(parts[-2::-1], parts[:0:-1], strict=True):
        if None not in ends or Fraction(part.origin) < since:
            break
        found = _moved(_last_times(Path(earlier.path))[1], earlier)
        ends = [one if one is not None else found[number] if number < len(found) else None
                for number, one in enumerate(ends)]  # fmt: skip
    return tuple(ends)


def _moved(times: Sequence[Fraction | None], part: Part) -> list[Fraction | None]:
    return [None if time is None else time + Fraction(part.origin) for time in times]


def _is_closed(path: Path) -> bool:
    """Whether the muxer has written its trailer. Cut off behind that, an MP4 would have lost its only index."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if (closed := is_closed(head)) is not None:
        return closed
    at = 0
    while at + 8 <= len(head):  # MP4: the first fragment's index becomes media data at the end (hybrid_fragmented)
        size, kind = int.from_bytes(head[at : at + 4], "big"), head[at + 4 : at + 8]
        if kind not in (b"ftyp", b"free") or size < 8:
            return kind == b"mdat"
        at += size
    return False


def _last_times(path: Path) -> tuple[Fraction | None, tuple[Fraction | None, ...]]:
    """Time of the last picture and of the last packet of each sound track, in seconds of the file. Raises OSError where
    it cannot be read."""
    try:
        if (tail := matroska_tail(path, TAIL_BYTES)) is not None:
            with av.open(tail, "r") as container:
                times = _times(container)
            if None not in times:
                return times[0], tuple(times[1:])
        with av.open(f"file:{path}") as container:
            if container.duration and container.duration > 3 * TAIL_US:
                container.seek(container.duration + (container.start_time or 0) - TAIL_US)
                times = _times(container)
                if None not in times:
                    return times[0], tuple(times[1:])
        with av.open(f"file:{path}") as container:
            picture, *sounds = _times(container)
            return picture, tuple(sounds)
    except FileNotFoundError:
        return None, ()
    except (av.FFmpegError, ValueError, IndexError) as error:
        if isinstance(error, OSError):  # what is in it is not known, and not to be written over
            raise
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
