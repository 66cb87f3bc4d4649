"""How long a worker's batches take, by their size, and which size is worth its while. Pure: time is an argument.

Sizes are told apart by powers of two: a network on a CPU takes so long a frame, whatever the batch, and one on a GPU
takes as long for many frames as for one. What was not seen lately is forgotten, so that it is tried again.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Weight of the newest batch in the averages.
NEWEST = 0.2
#: What is older than this, in seconds, is forgotten.
MEMORY_S = 30.0
#: A larger batch is worth its while where it takes at most so many times as long for each frame as smaller ones.
GAIN = 0.8


@dataclass(slots=True)
class _Size:
    """Batches of about one size: average seconds and frames, and when the last one ended."""

    seconds: float
    frames: float
    at: float


class Speed:
    """Of one worker."""

    def __init__(self) -> None:
        self._sizes: dict[int, _Size] = {}
        #: Average seconds of a batch, and of a frame in it; None before the first one.
        self.batch_s: float | None = None
        self.frame_s = 0.0

    def measure(self, seconds: float, frames: int, now: float) -> None:
        """A batch of ``frames`` has taken ``seconds``."""
        if self.batch_s is None:
            self.batch_s, self.frame_s = seconds, seconds / frames
        else:
            self.batch_s += NEWEST * (seconds - self.batch_s)
            self.frame_s += NEWEST * (seconds / frames - self.frame_s)
        known = self._sizes.get(_size(frames))
        if known is None:
            self._sizes[_size(frames)] = _Size(seconds, frames, now)
        else:
            known.seconds += NEWEST * (seconds - known.seconds)
            known.frames += NEWEST * (frames - known.frames)
            known.at = now
        self._sizes = {size: one for size, one in self._sizes.items() if now - one.at <= MEMORY_S}

    def expect(self, frames: int) -> float:
        """Seconds that a batch of so many frames will take; 0.0 where nothing is known."""
        if not self._sizes:
            return 0.0
        if (known := self._sizes.get(_size(frames))) is not None:
            return known.seconds
        # The nearest smaller size, or the smallest of all: it is tried, and then known.
        nearest = max((size for size in self._sizes if size < _size(frames)), default=min(self._sizes))
        return self._sizes[nearest].seconds

    def suits(self, frames: int, most: float) -> bool:
        """Whether a batch of so many frames is a good idea: it takes at most ``most`` seconds, or gains much, or has
        not been tried lately."""
        size = _size(frames)
        known = self._sizes.get(size)
        if known is None:  # it is tried when the size below is known
            return size == 1 or size // 2 in self._sizes
        if known.seconds <= most:
            return True
        rates = [one.seconds / one.frames for other, one in self._sizes.items() if other < size]
        return not rates or known.seconds / known.frames <= GAIN * min(rates)


def _size(frames: int) -> int:
    return 1 << (frames - 1).bit_length()
