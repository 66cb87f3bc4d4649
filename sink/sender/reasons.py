"""Why a connection failed, in words for a person. Pure.

FFmpeg's error number is often less than what it has logged: "Input/output error" for a name that does not resolve,
"Operation not permitted" for a stream that somebody else publishes.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from common.log import mask

#: Numbers that say all there is to say; anything else is a consequence.
_CLEAR = {
    errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS,
    errno.ENOENT, errno.ENOTDIR,
}  # fmt: skip
#: Numbers whose own words mislead.
_WORDS = {
    errno.EPIPE: "the server has closed the connection",
    errno.ECONNRESET: "the server has closed the connection",
    errno.EIO: "the server does not accept the stream, or has closed the connection",
    errno.ETIMEDOUT: "the server does not answer any more",
}
#: Lines that repeat what another one says better.
_DULL = ("Cannot open connection", "Failed to update header", "Conversion failed", "Error writing", "Last message")
MAX_REASON = 300


def reason(error: BaseException, logged: Sequence[str]) -> str:
    """One line; ``logged``: what FFmpeg has said since the last thing that worked, in order."""
    number = getattr(error, "errno", None)
    own = str(getattr(error, "strerror", None) or error or type(error).__name__)
    if number in _CLEAR:
        return _line(own)
    lines = [line.strip() for line in logged]
    telling = [line for line in lines if line and not line.startswith(_DULL)]
    if telling:
        return _line(telling[-1])
    return _line(_WORDS.get(number, own) if number is not None else own)


def _line(text: str) -> str:
    return " ".join(mask(text).split())[:MAX_REASON]
