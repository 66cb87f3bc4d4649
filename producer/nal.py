"""NAL units: how H.264 and HEVC lie in packets and in what a container says of their decoder. Pure."""

from __future__ import annotations

from collections.abc import Iterator

START_CODE = b"\0\0\1"


def parameter_sets(codec: str, extradata: bytes) -> Iterator[bytes]:
    """Those of a record of parameters (ISO/IEC 14496-15: avcC and hvcC), as far as it is whole; empty ones are left
    out. ``codec``: ``h264`` or ``hevc``."""
    # H.264 has a list of each of two kinds, HEVC says how many lists there are.
    at, lists = (5, 2) if codec == "h264" else (23, extradata[22])
    for which in range(lists):
        if codec == "h264":
            count = extradata[at] & (31 if which == 0 else 255) if at < len(extradata) else 0
            at += 1
        else:
            count = int.from_bytes(extradata[at + 1 : at + 3], "big")
            at += 3
        for _ in range(count):
            size = int.from_bytes(extradata[at : at + 2], "big")
            if unit := extradata[at + 2 : at + 2 + size]:
                yield unit
            at += 2 + size


def after_lengths(data: bytes, length: int) -> Iterator[bytes]:
    """The NAL units of a packet, each behind its size in ``length`` bytes; empty ones are left out."""
    at = 0
    while at + length < len(data):
        size = int.from_bytes(data[at : at + length], "big")
        if unit := data[at + length : at + length + size]:
            yield unit
        at += length + size


def after_start_codes(data: bytes) -> Iterator[bytes]:
    """The same, of a byte stream."""
    at = data.find(START_CODE)
    while 0 <= at < len(data) - 3:
        following = data.find(START_CODE, at + 3)
        if unit := data[at + 3 : following if following >= 0 else len(data)]:
            yield unit
        at = following
