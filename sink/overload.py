"""When a live sink stops encoding frames to keep up. Pure: time is an argument.

Encoding is the dearest step, decoding has to go on in any case. A frame that has waited longer than the bound when its
turn comes is decoded and left out, so the lag hovers at the bound and frames are missing evenly: one that is encoded
puts the lag up, the few behind it bring it down again.
"""

from __future__ import annotations

#: Least bound, in seconds. A busy machine or a slow disk holds a process up for some tenths of a second now and then,
#: which the queue makes good; only what lasts costs frames.
LEAST_S = 1.0


class Overload:
    """``latency`` is the stream's, in seconds; None (lossless) never skips.

    The bound is not below the latency: all that waited behind one frame is decided at once when its deadline comes,
    and an encoder that keeps up on the whole may take just so long for it.
    """

    def __init__(self, latency: float | None) -> None:
        self.bound = None if latency is None else max(latency, LEAST_S)
        self.skipped = 0
        self._began: float | None = None  # when the first frame was through
        self._asked = 0

    def skip(self, decided: float, now: float) -> bool:
        """Whether the frame that was decided at ``decided`` and is next is left out."""
        self._asked += 1
        if self.bound is None or self._asked == 1:
            return False
        if self._began is None:
            self._began = now  # opening an encoder takes up to seconds, once: what waited meanwhile is not to blame
        late = now - max(decided, self._began) > self.bound
        self.skipped += late
        return late

    def check(self) -> None:
        assert 0 <= self.skipped <= max(0, self._asked - 1)
        assert self.bound is not None or not self.skipped
