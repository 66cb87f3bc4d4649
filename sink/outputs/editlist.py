"""The edit lists of an MP4 that may never be closed get a length. Pure: bytes in, bytes out.

Where the first index holds the first fragment (no delay_moov), FFmpeg's muxer writes the length 0. That means "to the
end" in a fragmented file (ISO/IEC 14496-12, 8.6.6), but FFmpeg's demuxer then hides all but a picture or two of that
fragment. A length beyond the end of any file means the same to all.
"""

from __future__ import annotations

from collections.abc import Iterator

#: Boxes on the way to an edit list.
OUTER = (b"moov", b"trak", b"edts")
#: The longest length of a version 0 entry that no reader takes for a negative one, in the movie's time scale.
FOREVER = 2**31 - 1


def lengthen(data: bytes) -> bytes | None:
    """``data`` with a length in each edit that has none; None where there is no index (moov) in it.

    ``data``: a piece of an MP4 file that holds the whole of its index, or nothing of it.
    """
    found = data.find(b"moov")
    if found < 4:
        return None
    changed = bytearray(data)
    for start, end in _edit_lists(data, found - 4, found - 4 + int.from_bytes(data[found - 4 : found], "big")):
        wide = data[start + 8] == 1  # version 1: 8 bytes a number
        width = 8 if wide else 4
        entry = start + 16
        while entry + 2 * width + 4 <= end:
            length, media = data[entry : entry + width], data[entry + width : entry + 2 * width]
            if not any(length) and media[0] < 0x80:  # a negative time in the media: an empty edit
                changed[entry : entry + width] = FOREVER.to_bytes(width, "big")
            entry += 2 * width + 4
    return bytes(changed)


def _edit_lists(data: bytes, at: int, end: int) -> Iterator[tuple[int, int]]:
    """Beginning and end of each edit list among the boxes from ``at`` to ``end``."""
    end = min(end, len(data))
    while at + 8 <= end:
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if size < 8:
            return
        if kind in OUTER:
            yield from _edit_lists(data, at + 8, at + size)
        elif kind == b"elst":
            yield at, min(at + size, end)
        at += size
