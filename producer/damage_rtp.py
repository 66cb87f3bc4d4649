"""Loss on RTP. FFmpeg's demuxer does not mark it, it only says so in its log: so that is listened to.

It matters for HEVC above all, whose decoder conceals what is missing inside a picture without a word.
"""

from __future__ import annotations

import logging
import re
import threading
from typing import ClassVar

import av.logging

#: What is said of packets that did not come, or that were thrown away (libavformat/rtpdec.c).
LOST = re.compile(r"RTP: (missed \d+ packets|.*bad cseq)")


class Losses:
    """What the demuxer says in the thread that calls :meth:`listen`, reads, and calls :meth:`close`.

    FFmpeg's log is one for the whole process: it is on while somebody wants it. Not beside a decoder with several
    threads: what is said on a thread of FFmpeg's own waits for Python, while Python waits for that thread where the
    decoder is closed. So :meth:`hush` before such a decoder is opened.
    """

    _lock: ClassVar = threading.Lock()
    #: Those that want the log, and the level of the logger from before.
    _wanting: ClassVar[set[Losses]] = set()
    _level: ClassVar = logging.NOTSET

    def __init__(self, wanted: bool) -> None:
        self._capture: av.logging.Capture | None = None
        self._said: list[tuple[int, str, str]] = []
        if not wanted:
            return
        with Losses._lock:
            if not Losses._wanting:
                # What is said on other threads comes to this logger; it is of no use to anybody here.
                logger = logging.getLogger("libav")
                Losses._level = logger.level
                logger.setLevel(logging.CRITICAL + 1)
                av.logging.set_skip_repeated(False)
                av.logging.set_level(av.logging.WARNING)
            Losses._wanting.add(self)

    def listen(self) -> None:
        """From here on, in this thread."""
        with Losses._lock:
            wanted = self in Losses._wanting
        if wanted:
            self._capture = av.logging.Capture()
            self._said = self._capture.__enter__()

    def heard(self) -> bool:
        """Whether something was lost since the last call: in the packet that was just read, or in the one after it."""
        if not self._said:
            return False
        lost = any(LOST.search(text) for _, _, text in self._said)
        self._said.clear()
        return lost

    def hush(self) -> None:
        """It is not wanted any more. From any thread, as often as you like."""
        with Losses._lock:
            if self not in Losses._wanting:
                return
            Losses._wanting.remove(self)
            if not Losses._wanting:
                av.logging.set_level(None)
                av.logging.set_skip_repeated(True)
                logging.getLogger("libav").setLevel(Losses._level)

    def close(self) -> None:
        """In the thread that listens."""
        self.hush()
        if self._capture is not None:
            self._capture.__exit__(None, None, None)
            self._capture = None
