"""Headers to bytes and back, with limits. Pure: no sockets, no clock.

Everything that arrives goes through :func:`decode`, which raises :class:`PeerError` and nothing else, whatever the
bytes are.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec

from common.errors import PeerError
from common.messages import VERSION, Head

#: Largest header in bytes. The longest honest one is a Result with 1,000 detections of 64 points and a label of 256
#: characters each, 2.4 MB; a limit below that would refuse the same frame again and again.
MAX_HEADER = 4 * 1024 * 1024
#: Largest payload in bytes (a raw 4K I420 picture is 12.4 MB, a 4K intra packet a few MB).
MAX_PAYLOAD = 64 * 1024 * 1024

#: More than any index.
_BEYOND = 2**63

T = TypeVar("T")
_encoder = msgspec.msgpack.Encoder()


class _Probe(msgspec.Struct):
    t: str = ""
    v: int = VERSION


_probe = msgspec.msgpack.Decoder(_Probe)


def encode(header: Head) -> bytes:
    """The msgpack form of ``header``."""
    return _encoder.encode(header)


class Reader(Generic[T]):
    """Validating decoder for the messages that one socket may receive.

    ``kinds`` is the union of the accepted header types.
    """

    def __init__(self, kinds: Any, max_payload: int = MAX_PAYLOAD) -> None:
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(kinds)
        self._max_payload = max_payload

    def decode(self, parts: Sequence[bytes | memoryview]) -> tuple[T, bytes | memoryview]:
        """``[header]`` or ``[header, payload]`` → header and payload (empty if absent).

        Raises PeerError: ``parts``, ``oversize``, ``version`` or ``header``.
        """
        if not 1 <= len(parts) <= 2:
            raise PeerError("parts", f"{len(parts)} message parts, expected 1 or 2")
        head, payload = parts[0], parts[1] if len(parts) == 2 else b""
        if len(head) > MAX_HEADER:
            raise PeerError("oversize", f"header of {len(head)} bytes, at most {MAX_HEADER}")
        if len(payload) > self._max_payload:
            raise PeerError("oversize", f"payload of {len(payload)} bytes, at most {self._max_payload}")
        try:
            message = self._decoder.decode(head)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
            self._check_version(head)
            raise PeerError("header", str(error)[:200]) from None
        version = getattr(message, "v", VERSION)
        if version // 100 != VERSION // 100:
            raise PeerError("version", _version_text(version))
        return message, payload

    @staticmethod
    def _check_version(head: bytes | memoryview) -> None:
        try:
            version = _probe.decode(head).v
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
            return
        if version // 100 != VERSION // 100:
            raise PeerError("version", _version_text(version))


def _version_text(version: int) -> str:
    theirs, ours = f"{version // 100}.{version % 100}", f"{VERSION // 100}.{VERSION % 100}"
    return f"peer speaks protocol {theirs}, this side {ours}: upgrade the older one"


def to_ranges(indexes: Sequence[int], limit: int = 4096) -> list[tuple[int, int]]:
    """Sorted distinct indexes → inclusive ranges, at most ``limit`` (the lowest ones)."""
    ranges: list[tuple[int, int]] = []
    for index in indexes:
        if ranges and index == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], index)
        elif len(ranges) == limit:
            break
        else:
            ranges.append((index, index))
    return ranges


def in_ranges(ranges: Sequence[tuple[int, int]], index: int) -> bool:
    """Whether ``index`` lies in one of the inclusive ranges, which are sorted and apart (as of :func:`to_ranges`)."""
    at = bisect_right(ranges, (index, _BEYOND))
    return at > 0 and ranges[at - 1][1] >= index
