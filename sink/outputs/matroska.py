"""The end of a long Matroska file that its writer has not closed: it has no index and no length, so that FFmpeg would
read all of it. IDs are those of RFC 9559."""

from __future__ import annotations

import io
import re
from pathlib import Path

#: The segment's id, and the size of one that is being written.
SEGMENT, UNKNOWN_SIZE = b"\x18\x53\x80\x67", b"\x01" + b"\xff" * 7
#: A cluster: its id, its size (1 to 8 bytes, as the first of them tells), perhaps a checksum, the id of its time.
_CLUSTER = re.compile(
    rb"\x1f\x43\xb6\x75(?:[\x80-\xff]|[\x40-\x7f].|[\x20-\x3f]..|[\x10-\x1f].{3}|[\x08-\x0f].{4}"
    rb"|[\x04-\x07].{5}|[\x02\x03].{6}|\x01.{7})(?:\xbf\x84.{4})?\xe7",
    re.DOTALL,
)
#: Before the first cluster stand the tracks, within so many bytes.
_HEAD = 2**20


def is_closed(head: bytes) -> bool | None:
    """Whether the writer has filled in the segment's size, as it does at the end. ``head``: the file's beginning. None:
    it is no Matroska file."""
    segment = head.find(SEGMENT)
    return None if segment < 0 else head[segment + 4 : segment + 12] not in (b"", UNKNOWN_SIZE)


def matroska_tail(path: Path, size: int) -> io.BytesIO | None:
    """A Matroska file with the tracks of ``path`` and its last clusters: of the last ``size`` bytes. Their times are
    those of the whole file.

    None: it is no such file, it is closed, or it is not much longer than that. Raises OSError.
    """
    with path.open("rb") as file:
        length = file.seek(0, io.SEEK_END)
        if length < _HEAD + 2 * size:
            return None
        file.seek(0)
        head = file.read(_HEAD)
        first = _CLUSTER.search(head)
        if first is None or is_closed(head[:4096]) is not False:
            return None
        file.seek(length - size)
        tail = file.read(size)
    cluster = _CLUSTER.search(tail)
    return io.BytesIO(head[: first.start()] + tail[cluster.start() :]) if cluster is not None else None
