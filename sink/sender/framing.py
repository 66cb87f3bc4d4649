"""What the sink writes into the standard input of a sender, and what it reads from its standard output.

In: messages, each a length of the header, a length of the payload, the header (msgpack), the payload. First an
:class:`Opening`, and again one after each that was refused; then :class:`Piece` after piece, then perhaps an
:class:`End`. Out: JSON lines of :class:`Word`.
"""

from __future__ import annotations

import os
import select
import struct
from collections.abc import Sequence

import msgspec

from common.config import SentKind

_LENGTHS = struct.Struct(">II")
#: Bytes that are read at once.
READ = 64 * 1024


class TrackHead(msgspec.Struct, frozen=True):
    """One track, whose carrier file (:func:`common.media.pack`) is part of the payload."""

    carrier: str
    #: Bytes of the carrier file.
    size: int
    #: The codec's own parameters where the carrier's are not those of the packets; empty: they are.
    extradata: bytes = b""


class Opening(msgspec.Struct, frozen=True, tag="opening"):
    """Where to send, and what: the picture is track 0."""

    kind: SentKind
    #: The address; of HLS the playlist's path, absolute.
    address: str
    tracks: list[TrackHead]
    #: HLS: length of a segment, in seconds.
    segment: float = 2.0
    #: HLS: go on with the playlist that is there, even though it is ended.
    again: bool = False


class Piece(msgspec.Struct, frozen=True, tag="piece"):
    """One packet, its bytes are the payload. Times in ``base`` (numerator, denominator) seconds of the stream."""

    track: int
    time: int
    base: tuple[int, int]
    duration: int
    key: bool


class End(msgspec.Struct, frozen=True, tag="end"):
    """Write the trailer and leave."""

    #: HLS: the playlist is not ended, another sender goes on with it.
    goes_on: bool = False


Message = Opening | Piece | End


class Word(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of the sender: it is ``calling``, or ``listening`` for others to call; it was ``refused`` and waits for
    another opening, or it is ``connected``; it has ``sent`` so much by now; it has ``ended``; and why."""

    event: str
    #: Pictures and bytes of this connection that the muxer has taken.
    frames: int = 0
    bytes: int = 0
    reason: str = ""


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(header: Message, *payload: bytes | memoryview) -> bytes:
    """One message."""
    head = _encoder.encode(header)
    return b"".join((_LENGTHS.pack(len(head), sum(len(part) for part in payload)), head, *payload))


class Incoming:
    """Messages out of a pipe."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        self._buffer = bytearray()

    def next(self, timeout: float) -> tuple[Message, bytes] | None:
        """The next message; None where none comes within ``timeout`` seconds. Raises EOFError."""
        while len(self._buffer) < self._needed():
            if not self._poll.poll(timeout * 1000):
                return None
            data = os.read(self._fd, READ)
            if not data:
                raise EOFError
            self._buffer += data
        head, size = _LENGTHS.unpack_from(self._buffer)
        at = _LENGTHS.size + head
        message, payload = _decoder.decode(self._buffer[_LENGTHS.size : at]), bytes(self._buffer[at : at + size])
        del self._buffer[: at + size]
        return message, payload

    def _needed(self) -> int:
        if len(self._buffer) < _LENGTHS.size:
            return _LENGTHS.size
        return _LENGTHS.size + sum(_LENGTHS.unpack_from(self._buffer))


def split(heads: Sequence[TrackHead], payload: bytes) -> list[bytes]:
    """The carrier files of an Opening."""
    blobs, at = [], 0
    for head in heads:
        blobs.append(payload[at : at + head.size])
        at += head.size
    return blobs
