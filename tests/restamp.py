"""Media files whose times are written anew, byte by byte: no muxer would write what broken servers send."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

#: The new time of a packet (seconds), None where it is to have none. Gets ``"video"`` or ``"audio"``, the packet's
#: number in its track, and its present time.
Change = Callable[[str, int, Fraction], Fraction | None]

TS_PACKET, TS_CLOCK, TS_WRAP = 188, 90_000, 2**33
FLV_HEADER, FLV_CLOCK, FLV_WRAP = 9, 1000, 2**32


def restamp(source: Path, target: Path, change: Change) -> Path:
    """Write ``source`` (MPEG-TS or FLV, that of :func:`tests.flashbeep.make_clip`) with other times to ``target``."""
    data = bytearray(source.read_bytes())
    {".ts": _ts, ".flv": _flv}[source.suffix](data, change)
    target.write_bytes(data)
    return target


def _ts(data: bytearray, change: Change) -> None:
    """A PES packet's header has PTS and DTS in five bytes each (ISO/IEC 13818-1 2.4.3.7)."""
    numbers: Counter[str] = Counter()
    for start in range(0, len(data), TS_PACKET):
        assert data[start] == 0x47
        at = start + 4 + (data[start + 4] + 1 if data[start + 3] & 0x20 else 0)
        if not data[start + 1] & 0x40 or data[at : at + 3] != b"\0\0\1":
            continue
        kind = {0xE: "video", 0xC: "audio"}.get(data[at + 3] >> 4, "")
        if not kind or not data[at + 7] & 0x80:
            continue
        pts = _read(data, at + 9)
        new = change(kind, numbers[kind], Fraction(pts, TS_CLOCK))
        numbers[kind] += 1
        if new is None:
            data[at + 7] &= 0x3F
            data[at + 9 : at + 9 + data[at + 8]] = b"\xff" * data[at + 8]  # stuffing
            continue
        by = round(new * TS_CLOCK) - pts
        for place in (at + 9, at + 14)[: 2 if data[at + 7] & 0x40 else 1]:
            _write(data, place, (_read(data, place) + by) % TS_WRAP)


def _read(data: bytearray, at: int) -> int:
    first, second, third = data[at], data[at + 1] << 8 | data[at + 2], data[at + 3] << 8 | data[at + 4]
    return (first >> 1 & 7) << 30 | second >> 1 << 15 | third >> 1


def _write(data: bytearray, at: int, stamp: int) -> None:
    data[at] = data[at] & 0xF1 | stamp >> 30 << 1
    data[at + 1 : at + 3] = ((stamp >> 15 & 0x7FFF) << 1 | 1).to_bytes(2, "big")
    data[at + 3 : at + 5] = ((stamp & 0x7FFF) << 1 | 1).to_bytes(2, "big")


def _flv(data: bytearray, change: Change) -> None:
    """A tag has 24 bits of milliseconds and 8 more above them (Adobe FLV 10.1, E.4.1)."""
    numbers: Counter[str] = Counter()
    at = FLV_HEADER + 4
    while at < len(data):
        kind = {9: "video", 8: "audio"}.get(data[at], "")
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        if kind and data[at + 12] != 0:  # not the codec's parameters
            stamp = data[at + 7] << 24 | int.from_bytes(data[at + 4 : at + 7], "big")
            new = change(kind, numbers[kind], Fraction(stamp, FLV_CLOCK))
            assert new is not None, "every tag has a time"
            numbers[kind] += 1
            stamp = round(new * FLV_CLOCK) % FLV_WRAP
            data[at + 4 : at + 8] = (stamp & 0xFFFFFF).to_bytes(3, "big") + bytes([stamp >> 24])
        at += 11 + size + 4
