"""What a message may hold at most (:mod:`common.messages`). The sink refuses a message beyond that each time that it is
sent again, and with it all that follows: what is free, or grows with time, is cut where a message is made.
"""

from __future__ import annotations

from typing import Any, get_args

import msgspec

from common import messages as m


def _of(kind: Any) -> msgspec.Meta:
    return next(one for one in get_args(kind) if isinstance(one, msgspec.Meta))


#: In characters, seconds, ticks, and tracks.
MAX_TEXT, MAX_SECONDS = int(_of(m.Text).max_length or 0), float(_of(m.Seconds).le or 0)
MIN_TICKS, MAX_TICKS = int(_of(m.Ticks).ge or 0), int(_of(m.Ticks).le or 0)
MAX_TRACKS = int(_of(m.Tracks).max_length or 0)


def text(words: str) -> str:
    """``words``, or as many as fit. What is no character (of a file's name) becomes a question mark."""
    fits = words if len(words) <= MAX_TEXT else words[: MAX_TEXT - 1] + "…"
    return fits.encode(errors="replace").decode()


def seconds(value: float) -> float:
    """A length of time, or the longest."""
    return max(0.0, min(value, MAX_SECONDS))


def ticks(value: int) -> int:
    """A time, or the latest or earliest."""
    return max(MIN_TICKS, min(value, MAX_TICKS))


def ticks_or_none(value: int | None) -> int | None:
    """The same where it is known."""
    return None if value is None else ticks(value)
