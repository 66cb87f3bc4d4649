"""One connection: FFmpeg's muxer for the kind of address, with the least delay. Raises what PyAV raises."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.stream import VideoStream

from common.bridge import Bridge
from common.errors import OutputError
from common.media import padded
from sink.sender.clock import Clock
from sink.sender.framing import Opening, Piece, split
from sink.sender.playlist import clear, end, segment_pattern
from sink.sender.sockets import tune

#: Longest wait of one track for another, in microseconds. The sound comes ahead of its picture (LEAD_S in
#: sink/outputs/rack.py, which must be less: sound that waits longer goes first), so that pictures wait only where there
#: is none for a while.
INTERLEAVE_US = "500000"
FORMATS = {"rtmp": "flv", "rtsp": "rtsp", "srt": "mpegts", "udp": "mpegts", "hls": "hls"}
#: TS: each packet of sound at once, and not collected up to a size; lengths, so that a receiver need not wait for the
#: next picture to know that one is whole.
_TS = {"pes_payload_size": "0", "omit_video_pes_length": "0"}
OPTIONS = {
    "rtmp": {"flvflags": "no_duration_filesize"},
    "rtsp": {"rtsp_transport": "tcp"},
    "srt": _TS,
    "udp": _TS,
    # The playlist lists so many segments; two more stay for players that are late.
    "hls": {"hls_list_size": "6", "hls_delete_threshold": "2", "hls_segment_type": "mpegts"},
}
#: The playlist's end is written by us: players leave at its sight, and where another sender goes on they are to stay.
HLS_FLAGS = "delete_segments+independent_segments+program_date_time+temp_file+omit_endlist"
#: Seven TS packets: what fits into a datagram on Ethernet.
DATAGRAM = "pkt_size=1316"
#: Seconds between two looks at a bridge that is not connected yet.
_LOOK_S = 0.5

log = logging.getLogger(__name__)


class Muxer:
    """Open on return, which can take for ever. ``listening`` is called where that is for others to decide."""

    def __init__(self, opening: Opening, payload: bytes, listening: Callable[[], None]) -> None:
        self._bridge = Bridge.writing(opening.address) if opening.kind == "srt" else None
        self._playlist: Path | None = None
        try:
            if self._bridge is not None:
                _wait(self._bridge, listening)
            self._open(opening, payload)
        except BaseException:
            if self._bridge is not None:
                self._bridge.close()
            raise

    def _open(self, opening: Opening, payload: bytes) -> None:
        options = {"flush_packets": "1", "max_interleave_delta": INTERLEAVE_US, **OPTIONS[opening.kind]}
        address = opening.address if self._bridge is None else f"pipe:{self._bridge.fd}"
        if opening.kind == "udp" and "pkt_size=" not in address:
            address += ("&" if "?" in address else "?") + DATAGRAM
        if opening.kind == "hls":
            playlist = Path(address)
            options |= _hls(playlist, opening)
            # Patterns are looked for in the folder's name, and schemes before a colon.
            os.chdir(playlist.parent)
            address = f"./{playlist.name}"
            self._playlist = Path(address)
        self._container = av.open(address, "w", format=FORMATS[opening.kind], options=options)
        self._streams = [
            _add(self._container, head.carrier, head.extradata, blob)
            for head, blob in zip(opening.tracks, split(opening.tracks, payload), strict=True)
        ]
        self._container.start_encoding()
        tune()
        self._clock = Clock([Fraction(stream.time_base or Fraction(1, 90_000)) for stream in self._streams])

    def write(self, piece: Piece, payload: bytes) -> None:
        """One packet. Blocks for as long as the other side takes nothing."""
        self.check()
        base = Fraction(*piece.base)
        at = self._clock.place(piece.track, piece.time * base, piece.key)
        if at is None:
            return
        stream = self._streams[piece.track]
        packet = padded(payload)
        packet.pts = packet.dts = at
        packet.time_base = Fraction(stream.time_base or 1)
        packet.duration = round(piece.duration * base / packet.time_base)
        packet.is_keyframe = piece.key
        packet.stream = stream
        self._container.mux(packet)

    def check(self) -> None:
        """Raises OutputError where the connection is known to be gone."""
        if self._bridge is not None and not self._bridge.alive:
            raise OutputError(self._bridge.why())

    def close(self, goes_on: bool = False) -> None:
        """Write the trailer: take leave of the server; end the playlist, unless another sender ``goes_on`` with it."""
        self._container.close()
        if self._playlist is not None and not goes_on:
            end(self._playlist)
        if self._bridge is not None:
            self._bridge.close()


def _wait(bridge: Bridge, listening: Callable[[], None]) -> None:
    if "mode=listener" in bridge.address or bridge.address.startswith("srt://:"):
        listening()
    while not bridge.wait(_LOOK_S):
        if not bridge.alive:
            raise OutputError(bridge.why())


def _hls(playlist: Path, opening: Opening) -> dict[str, str]:
    before = clear(playlist, opening.again)
    log.debug("segments from number %d on", before.first)
    options = {"hls_time": str(opening.segment), "hls_segment_filename": segment_pattern(playlist)}
    if before.goes_on:  # at the number that the playlist itself tells
        return options | {"hls_flags": f"{HLS_FLAGS}+append_list"}
    return options | {"hls_flags": HLS_FLAGS, "start_number": str(before.first)}


def _add(container: OutputContainer, carrier: str, extradata: bytes, blob: bytes) -> VideoStream | AudioStream:
    with av.open(io.BytesIO(blob), format=carrier) as source:
        template = source.streams[0]
        assert isinstance(template, VideoStream | AudioStream)
        stream = container.add_stream_from_template(template)
        if isinstance(stream, VideoStream) and isinstance(template, VideoStream):
            # What was found in the dummy packet is the clock's tick.
            stream.codec_context.framerate = Fraction(0)
        if extradata:
            stream.codec_context.extradata = extradata
    return stream
