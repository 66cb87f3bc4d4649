"""Loss on RTP. FFmpeg's demuxer does not mark it, it only says so in its log: so that is listened to.

It matters for HEVC above all, whose decoder conceals what is missing inside a picture without a word.
"""

from __future__ import annotations

import logging
import re

import av.logging

#: What is said of packets that did not come, or that were thrown away (libavformat/rtpdec.c).
LOST = re.compile(r"RTP: (missed \d+ packets|.*bad cseq)")


class Losses:
    """What the demuxer says in the thread that makes this object, reads, and closes it.

    FFmpeg's log is one for the whole process; the last object decides whether it is ``wanted``. Not beside a decoder
    with several threads: what is said on a thread of FFmpeg's own waits for Python, while Python waits for that thread
    where the decoder is closed.
    """

    def __init__(self, wanted: bool) -> None:
        # What is said on other threads comes to this logger; it is of no use to anybody here.
        logging.getLogger("libav").setLevel(logging.CRITICAL + 1)
        av.logging.set_skip_repeated(False)
        av.logging.set_level(av.logging.WARNING if wanted else None)
        self._capture = av.logging.Capture()
        self._said = self._capture.__enter__()

    def heard(self) -> bool:
        """Whether something was lost since the last call: in the packet that was just read, or in the one after it."""
        lost = any(LOST.search(text) for _, _, text in self._said)
        self._said.clear()
        return lost

    def close(self) -> None:
        self._capture.__exit__(None, None, None)
