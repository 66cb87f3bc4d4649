"""Live: which packets stay at home when the media link is full, and which pictures the sink then cannot have. Pure.

From the packet that finds the link full up to the next keyframe, packets are left out. Pictures are gaps when their own
packet was left out, or when it follows such a one and they come before that keyframe's picture: they may refer to what
was left out.
"""

from __future__ import annotations


class Gaps:
    """Packets are known by their numbers, which rise."""

    def __init__(self) -> None:
        self._open = False  # packets are left out
        self._from: int | None = None  # the keyframe that ended the last gap, while its picture has not come
        self._first = 0  # the first packet that was left out since such a picture came

    def leaves_out(self, number: int, starts: bool, full: bool) -> bool:
        """Whether packet ``number`` stays at home. ``starts``: a decoder can start with it."""
        if full:
            if not self._open and self._from is None:
                self._first = number
            self._open = True
        elif self._open and starts:
            self._open, self._from = False, number
        return self._open

    def hides(self, number: int, starts: bool, forwarded: bool) -> bool:
        """Whether the picture of packet ``number`` is a gap. Pictures come in the order in which they are shown."""
        if not forwarded:
            return True
        if self._from is not None and starts and number >= self._from:
            self._from = None
        return self._from is not None and number > self._first

    def check(self) -> None:
        assert self._from is None or self._from > self._first >= 0
