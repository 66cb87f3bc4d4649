"""A JPEG's header, read before any decoder works on it: what it claims must be possible. Pure: bytes in.

Decoding costs time and memory by what the header claims, not by the bytes that are there. These checks keep both within
what the bytes can pay for. (ITU-T T.81 describes the segments, in annex B.)
"""

from __future__ import annotations

from dataclasses import dataclass

#: Most segments before the first scan. A picture with a large profile in it has under 100.
MAX_SEGMENTS = 256
#: Most scans in one picture: each costs a pass over all pixels. libjpeg's progressive pictures have 10.
MAX_SCANS = 32
#: Most pixels that one byte can stand for: Huffman codes spend at least one bit on each block of 8 × 8.
PIXELS_A_BYTE = 8 * 64

_SOI, _SOS, _FILL, _MARKER = 0xD8, 0xDA, 0xFF, 0xFF
#: Start of frame, in its thirteen kinds (T.81 table B.1).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
#: Of them, those whose picture comes in many scans.
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
#: TEM, RST0 … RST7, SOI, EOI: they have no length, and no business here.
_BARE = frozenset({0x01, *range(0xD0, 0xDA)})


@dataclass(frozen=True, slots=True)
class Header:
    """Size in pixels, colour components, and whether the picture comes in more scans than one."""

    width: int
    height: int
    components: int
    many_scans: bool


def read_header(data: bytes | memoryview) -> Header:
    """The header up to the first scan. Raises ValueError where it is none."""
    try:
        return _walk(data)
    except IndexError:
        raise ValueError("the header is cut off") from None


def _walk(data: bytes | memoryview) -> Header:
    if data[0] != _MARKER or data[1] != _SOI:
        raise ValueError("no JPEG begins like this")
    frame = 0  # where the frame's segment begins
    at = 2
    for _ in range(MAX_SEGMENTS):
        if data[at] != _MARKER:
            raise ValueError(f"no segment at byte {at}")
        code = data[at + 1]
        if code == _FILL:
            at += 1
            continue
        if code in _BARE:
            raise ValueError(f"marker {code:02x} before the first scan")
        length = data[at + 2] << 8 | data[at + 3]
        if length < 2:
            raise ValueError(f"a segment of {length} bytes")
        if code == _SOS:
            if not frame:
                raise ValueError("a scan before its frame")
            components = data[frame + 9]
            many = data[frame + 1] in _PROGRESSIVE or data[at + 4] < components
            height, width = data[frame + 5] << 8 | data[frame + 6], data[frame + 7] << 8 | data[frame + 8]
            return Header(width, height, components, many)
        if code in _FRAMES:
            if frame:
                raise ValueError("two frames")
            frame = at
        at += 2 + length
    raise ValueError(f"more than {MAX_SEGMENTS} segments before the first scan")


def check_cost(data: bytes | memoryview, header: Header) -> None:
    """Raises ValueError where decoding would cost more than ``data`` can be worth."""
    pixels = header.width * header.height
    if pixels > PIXELS_A_BYTE * len(data):
        raise ValueError(f"{len(data)} bytes cannot hold {header.width}×{header.height} pixels")
    if header.many_scans:
        # In a scan the marker's first byte is always followed by a zero, so this counts markers (and, at worst, what
        # looks like one in a comment).
        scans = bytes(data).count(b"\xff\xda")
        if scans > MAX_SCANS:
            raise ValueError(f"{scans} scans, at most {MAX_SCANS}")
