"""H.264's parameter sets out of a packet. Pure."""

from __future__ import annotations

import re
from itertools import pairwise

#: Start of a NAL unit (ITU-T H.264 annex B).
_START = re.compile(rb"\x00\x00\x01")
#: NAL unit types of the sequence and picture parameter sets (ITU-T H.264 table 7-1).
_PARAMETER_SETS = (7, 8)


def parameter_sets(packet: bytes) -> bytes:
    """SPS and PPS out of a keyframe in annex B form, in that form; empty where there are none.

    A template made beside the encoder describes another stream: its own defaults'.
    """
    starts = [found.end() for found in _START.finditer(packet)] + [len(packet) + 3]
    found = b""
    for begin, end in pairwise(starts):
        unit = packet[begin : end - 3].rstrip(b"\0")
        if unit and unit[0] & 0x1F in _PARAMETER_SETS:
            found += b"\0\0\0\1" + unit
    return found
