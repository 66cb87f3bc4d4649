"""What somebody sees of a stream who watches the node's page: a few small JPEGs a second of the annotated picture.

The render thread only makes a small copy, and only while somebody watches; a thread of its own, which gives way to all
others, makes JPEGs of the newest copies, and the main thread sends them. Whoever is slower than the one before him
misses pictures; nobody waits.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any, Protocol

import av
import cv2

from common.codec import Planes, encode_jpeg, scale
from common.messages import MAX_NAME
from common.nodelink import MAX_MESSAGE
from common.picture import planes_of

#: Pictures a second, and the longer side, in pixels.
RATE, MAX_SIDE = 8.0, 640
#: JPEG qualities, the first that makes a picture of so many bytes at most is taken.
QUALITIES, MAX_JPEG = (72, 45, 20), MAX_MESSAGE - 4096
#: Who asks is believed for so many seconds, and asks again. Most streams that are watched at a time.
MAX_SECONDS, MAX_WATCHED = 10.0, 64
#: The thread ends that has had nothing to do for so long, in seconds.
IDLE_S = 3.0
#: Its niceness, 0…19.
NICE = 10


class Receiver(Protocol):
    def picture(self, stream: str, jpeg: bytes) -> bool: ...


class Preview:
    """One stream's. It knows nothing of what owns codecs, which knows it."""

    def __init__(self, take: Callable[[Planes], None]) -> None:
        self._take = take
        #: Somebody watches until then, of the monotonic clock, in seconds.
        self.until = 0.0
        self._next = 0.0
        self.failed = 0

    def offer(self, frame: av.VideoFrame, matrix: int, sar: Fraction) -> None:
        """Show ``frame`` (8-bit 4:2:0, with its boxes, of this ``matrix`` and pixel aspect) to whoever watches.

        It may be changed afterwards. For the render thread."""
        now = time.monotonic()
        if now >= self.until or now < self._next:
            return
        step = 1 / RATE
        self._next = self._next + step if now - self._next < step else now + step
        try:
            self._take(small(planes_of(frame, matrix), sar))
        except (ValueError, MemoryError, cv2.error):
            self.failed += 1


class Previews:
    """Of all streams. ``wake``: something is to be sent. For the main thread, but where something else is said."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._all: dict[str, Preview] = {}
        self._changed = threading.Condition()
        self._copies: dict[str, Planes] = {}  # the newest of each stream that is not yet a JPEG
        self._jpegs: dict[str, bytes] = {}  # likewise, that is not yet sent
        self._thread: threading.Thread | None = None
        #: Pictures that a newer one has replaced, that were not taken, or that were too large.
        self.dropped = 0

    def of(self, stream: str) -> Preview:
        """The same for all epochs of a stream."""
        known = self._all.get(stream)
        if known is None:
            known = self._all[stream] = Preview(lambda planes: self._take(stream, planes))
        return known

    def forget(self, stream: str) -> None:
        if (known := self._all.pop(stream, None)) is not None:
            known.until = 0.0
        with self._changed:
            self._copies.pop(stream, None)
            self._jpegs.pop(stream, None)

    def hear(self, requests: Iterable[dict[str, Any]], now: float) -> None:
        """What the node's agent asks: ``{"preview": [STREAM, …], "seconds": 3}``. What makes no sense is left out."""
        for request in requests:
            names, seconds = request.get("preview"), request.get("seconds")
            if not isinstance(names, list) or not isinstance(seconds, int | float):
                continue
            for name in names[:MAX_WATCHED]:
                if isinstance(name, str) and len(name) <= MAX_NAME and (one := self._all.get(name)) is not None:
                    one.until = now + min(max(0.0, float(seconds)), MAX_SECONDS)

    def deliver(self, receiver: Receiver) -> None:
        """Send what is there."""
        if not self._jpegs:
            return
        with self._changed:
            jpegs, self._jpegs = self._jpegs, {}
        for stream, jpeg in jpegs.items():
            self.dropped += not receiver.picture(stream, jpeg)

    def check(self) -> None:
        with self._changed:
            assert len(self._copies) <= len(self._all)
            assert len(self._jpegs) <= len(self._all)

    def _take(self, stream: str, planes: Planes) -> None:
        """For a render thread."""
        with self._changed:
            self.dropped += stream in self._copies
            self._copies[stream] = planes
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="preview", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        while True:
            with self._changed:
                if not self._copies and not self._changed.wait_for(lambda: bool(self._copies), IDLE_S):
                    self._thread = None
                    return
                stream = next(iter(self._copies))
                planes = self._copies.pop(stream)
            jpeg = encoded(planes)
            with self._changed:
                if jpeg is None or stream not in self._all:
                    self.dropped += 1
                    continue
                self.dropped += stream in self._jpegs
                self._jpegs[stream] = jpeg
            self._wake()


def small(planes: Planes, sar: Fraction) -> Planes:
    """A copy with square pixels and no side above ``MAX_SIDE``; what is small stays so."""
    width, height = planes.width * max(Fraction(1), sar), planes.height * max(Fraction(1), 1 / sar)
    shrink = min(Fraction(1), Fraction(MAX_SIDE) / max(width, height))
    size = max(2, round(width * shrink / 2) * 2), max(2, round(height * shrink / 2) * 2)
    made = scale(planes, *size)
    pairs = ((made.y, planes.y), (made.u, planes.u), (made.v, planes.v))
    y, u, v = (new.copy() if new is old else new for new, old in pairs)
    return Planes(y, u, v, planes.color_range, planes.matrix)


def encoded(planes: Planes) -> bytes | None:
    """A JPEG that fits into one message, None where there is none."""
    for quality in QUALITIES:
        try:
            jpeg = encode_jpeg(planes, quality)
        except (ValueError, RuntimeError, MemoryError, cv2.error):
            return None
        if len(jpeg) <= MAX_JPEG:
            return jpeg
    return None
