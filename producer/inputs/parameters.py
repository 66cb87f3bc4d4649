"""New parameters of a track's decoder in mid-stream: other settings, or another size, that FFmpeg hands over beside a
packet. The sink's decoder gets packets only. Pure, but for PyAV's packets.

Of a stream that was cut together, in a file, they are put in front of the packet, as streams have them that carry their
parameters themselves; and of each keyframe that follows, since a decoder may begin there.
"""

from __future__ import annotations

from typing import Final

import av

from common.media import padded
from producer.nal import START_CODE, parameter_sets

#: FFmpeg's name of what is handed over.
SIDE: Final = "new_extradata"
#: Codecs whose keyframes have all that a decoder needs, as their containers ask for (AV1-ISOBMFF 2.4).
SELF_CONTAINED = frozenset({"av1", "vp8", "vp9"})


class Parameters:
    """Those of one track, of the codec that FFmpeg calls ``codec``, told of each packet in turn. ``extradata``: what
    its decoder begins with, at both ends."""

    def __init__(self, codec: str, extradata: bytes) -> None:
        self._codec, self._first = codec, extradata
        self._now = extradata
        self._front = b""  # what keyframes need in front, empty while they need nothing

    def carried(self, packet: av.Packet, again: bool) -> av.Packet | None:
        """The packet as a decoder needs it that sees nothing beside it. None: its parameters are new, and cannot be put
        in front, or need not, since the source can be opened ``again``."""
        new = packet.has_sidedata(SIDE)
        if new and self._learn(bytes(packet.get_sidedata(SIDE))) and (again or not self._put_in_front()):
            return None
        return self._whole(packet) if self._front and packet.size and (new or packet.is_keyframe) else packet

    def _learn(self, found: bytes) -> bool:
        """Whether they are others than the ones before."""
        # FFmpeg leaves out the end of some encoders' at the beginning, in FLV, and has it here.
        same = found == self._now or (self._codec == "aac" and self._now and found.startswith(self._now))
        if not found or same or self._codec in SELF_CONTAINED:
            return False
        self._now = found
        return True

    def _put_in_front(self) -> bool:
        form = _form(self._codec, self._now)
        if form is None or form != _form(self._codec, self._first):
            return False
        units = parameter_sets(self._codec, self._now) if form else ()
        self._front = b"".join(len(one).to_bytes(form, "big") + one for one in units) if form else self._now
        return bool(self._front)

    def _whole(self, packet: av.Packet) -> av.Packet:
        new = padded(self._front + bytes(packet))
        new.pts, new.dts, new.duration, new.time_base = packet.pts, packet.dts, packet.duration, packet.time_base
        new.is_keyframe, new.is_corrupt = packet.is_keyframe, packet.is_corrupt
        for side in packet.iter_sidedata():
            if side.data_type != SIDE:
                new.set_sidedata(side)
        return new


def _form(codec: str, extradata: bytes) -> int | None:
    """Bytes before each NAL unit that hold its length; 0: they begin with start codes; None: there are no NAL units, or
    nothing is known of them."""
    if codec not in ("h264", "hevc"):
        return None
    if extradata.startswith((START_CODE, b"\0" + START_CODE)):
        return 0
    at = 4 if codec == "h264" else 21
    if extradata[:1] != b"\1" or len(extradata) < at + 2:
        return None
    return (extradata[at] & 3) + 1
