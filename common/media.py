"""Codec parameters across a process boundary: a track in a small carrier file, a decoder out of it (DESIGN §4).

Both ends open their decoders here, with the same settings, since only equal settings give identical pictures on
damaged input. Payloads of packets are not touched.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.stream import AudioStream
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from common.errors import PeerError
from common.messages import MAX_CARRIER, Packet, TrackInfo

Track = VideoStream | AudioStream
Carrier = Literal["nut", "matroska", "avi"]
#: Carriers in the order of preference: NUT knows most, the others take what it refuses or renames.
CARRIERS: tuple[Carrier, ...] = ("nut", "matroska", "avi")
#: Pictures with more pixels than this are decoded with several threads.
THREADED_PIXELS = 1920 * 1200
MAX_THREADS = 4
#: Pictures of so many pixels are large against any model's input.
SKIM_PIXELS = 1280 * 720


#: Largest picture that is decoded, in pixels: that of H.264 at its highest level, 6.2, which is what can be written
#: (ITU-T H.264 table A-1: 139,264 macroblocks; 8192 × 4352). A few bytes can claim much more.
MAX_PIXELS = 139_264 * 16 * 16


class UncarriedCodec(Exception):
    """No carrier brings this codec's parameters over."""


def pack(track: Track) -> tuple[Carrier, bytes]:
    """The codec parameters of ``track`` as a tiny file. Raises UncarriedCodec.

    A carrier is only trusted when what comes out equals what went in.
    """
    for carrier in CARRIERS:
        try:
            blob = _write(track, carrier)
            with av.open(io.BytesIO(blob), format=carrier) as container:
                if len(blob) <= MAX_CARRIER and _alike(track, container.streams[0]):  # type: ignore[arg-type]
                    return carrier, blob
        except (av.FFmpegError, ValueError, IndexError):
            continue
    raise UncarriedCodec(f"{track.codec_context.name} cannot be handed on")


def _write(track: Track, carrier: Carrier) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=carrier) as container:
        # opaque: the parameters are copied as they are; without it a decoder-only codec (AV1) is looked for in vain.
        copy = container.add_stream_from_template(track, opaque=True)
        if track.codec_context.name == "rawvideo":  # only the tag says how the pixels lie
            copy.codec_context.codec_tag = track.codec_context.codec_tag
        packet = av.Packet(b"\0" * 16)
        packet.stream = copy
        packet.time_base = Fraction(1, 1000)
        packet.pts = packet.dts = 0
        packet.is_keyframe = True
        container.mux(packet)
    return buffer.getvalue()


def _alike(track: Track, copy: Track) -> bool:
    ours, theirs = track.codec_context, copy.codec_context
    if (ours.name, ours.extradata or b"") != (theirs.name, theirs.extradata or b""):
        return False
    if isinstance(ours, AudioCodecContext) and isinstance(theirs, AudioCodecContext):
        return (ours.sample_rate, ours.channels) == (theirs.sample_rate, theirs.channels)
    if isinstance(ours, VideoCodecContext) and isinstance(theirs, VideoCodecContext):
        # A decoder that finds the format in the packets has none yet; one that has another would use it.
        same_format = theirs.pix_fmt in (None, ours.pix_fmt)
        return same_format and (ours.width, ours.height) == (theirs.width, theirs.height)
    return False


def unpack(tracks: Sequence[TrackInfo], payload: bytes | memoryview) -> list[Track]:
    """The tracks of a Hello, as templates and decoders. Raises PeerError where they do not open."""
    opened: list[Track] = []
    at = 0
    for info in tracks:
        blob = bytes(payload[at : at + info.size])
        at += info.size
        try:
            # Opening looks into the packet as well.
            limit = [{"max_pixels": str(MAX_PIXELS)}]
            container = av.open(io.BytesIO(blob), format=info.carrier, stream_options=limit)  # type: ignore[arg-type]
            track = container.streams[0]
        except (av.FFmpegError, ValueError, IndexError) as error:
            raise PeerError("tracks", f"track {len(opened)} ({info.codec}) does not open: {error}") from None
        if track.codec_context is None:
            raise PeerError("tracks", f"track {len(opened)} ({info.codec}) has a codec that is not known here")
        if track.type != info.kind:
            raise PeerError("tracks", f"track {len(opened)} is {track.type}, announced as {info.kind}")
        opened.append(track)  # type: ignore[arg-type]
    return opened


def decode_threads(width: int, height: int, wanted: int = 0) -> int:
    """Threads for a decoder: ``wanted``, or by picture size where that is 0."""
    if wanted:
        return wanted
    return 1 if width * height <= THREADED_PIXELS else min(MAX_THREADS, os.cpu_count() or 1)


def prepare_decoder(track: VideoStream, threads: int, for_model: bool = False) -> VideoCodecContext:
    """Set the decoder up before its first packet, alike at both ends.

    ``for_model``: the pictures are only scaled down for a model, so that large ones need no deblocking where no other
    picture refers to them. That changes samples, never which pictures come out, nor their times (decision 0011).
    """
    codec = track.codec_context
    codec.options = {"max_pixels": str(MAX_PIXELS)}
    if for_model and track.width * track.height >= SKIM_PIXELS:
        codec.options |= {"skip_loop_filter": "noref"}
    codec.thread_type = "NONE" if threads == 1 else "FRAME"
    codec.thread_count = threads
    codec.flags |= Flags.copy_opaque
    return codec


def padded(payload: bytes | memoryview | av.Packet) -> av.Packet:
    """A packet of its own with these bytes. Not ``av.Packet(payload)``: that one has no padding behind it, and decoders
    read on into whatever lies there."""
    packet = av.Packet(memoryview(payload).nbytes)
    if packet.size:
        packet.update(payload)  # type: ignore[arg-type]
    return packet


def to_packet(header: Packet, payload: bytes | memoryview) -> av.Packet:
    """The PyAV packet of a wire packet; ``opaque`` is its link number. An empty payload is the flush marker."""
    packet = padded(payload)
    packet.pts, packet.dts = header.pts, header.dts
    packet.duration = header.duration
    packet.time_base = Fraction(*header.time_base)
    packet.is_keyframe = header.key
    # A list, not the bare number: PyAV keys opaque objects by identity, and small numbers are one object to Python.
    packet.opaque = [header.link]
    return packet
