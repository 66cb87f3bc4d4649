"""Text as coverage masks, drawn once and remembered.

All font handling lives here. A mask depends on the text and the size alone; the memory of masks is bounded in count.
No text, however strange, may crash the process: what the font engine is handed has been cleaned first.
"""

from __future__ import annotations

import functools
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

#: uint8, height × width: 0 no ink … 255 full ink.
Mask = NDArray[np.uint8]

#: Masks kept: all scores (101), the labels of a large model (80), and tracks.
MAX_MASKS = 320
#: Characters of a piece looked at; more would not fit a picture anyway.
MAX_CHARS = 96
#: Font weight, 100 thin … 900 black: semibold keeps its stems at 11 pixels.
WEIGHT = 600
#: Parts of the font size that letters rise above and hang below the baseline; measured on "Ågj人" of the built-in font.
ASCENT, DESCENT = 1.0, 0.25
#: Columns left free at each side of a mask, for letters that lean out of their advance.
MARGIN = 1


class Font(Protocol):
    """What draws text of one size."""

    ellipsis: str

    def width(self, text: str) -> int:
        """Advance in pixels."""

    def paint(self, mask: Mask, text: str, x: int, baseline: int) -> None:
        """Add the text's ink to a mask."""


class TrueType:
    """OpenCV 5's built-in font: any script that its own or its fallback font has, "?" for the rest."""

    ellipsis = "…"

    def __init__(self, size: int) -> None:
        self._size = size
        self._face: Any = cv2.FontFace("sans")

    def width(self, text: str) -> int:
        return int(cv2.getTextSize((0, 0), text, (0, 0), self._face, self._size, WEIGHT)[2])

    def paint(self, mask: Mask, text: str, x: int, baseline: int) -> None:
        cv2.putText(mask, text, (x, baseline), (255,), self._face, self._size, WEIGHT)


class Hershey:
    """The stroke font of OpenCV 4: ASCII only, "?" for the rest."""

    ellipsis = "..."

    def __init__(self, size: int) -> None:
        # Capitals of the built-in font are 0.7 of its size high; so shall these be.
        self._stroke = max(1, round(size / 14))
        self._scale = cv2.getFontScaleFromHeight(cv2.FONT_HERSHEY_SIMPLEX, max(7, round(size * 0.7)), self._stroke)

    def width(self, text: str) -> int:
        return int(cv2.getTextSize(_ascii(text), cv2.FONT_HERSHEY_SIMPLEX, self._scale, self._stroke)[0][0])

    def paint(self, mask: Mask, text: str, x: int, baseline: int) -> None:
        face = cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(mask, _ascii(text), (x, baseline), face, self._scale, (255,), self._stroke, cv2.LINE_AA)


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()


def clean(text: str) -> str:
    """Printable text of one line: a lone surrogate crashes OpenCV 5's ``putText``, a newline would leave the strip."""
    text = text[: 4 * MAX_CHARS].encode("utf-8", "replace").decode()
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


class Glyphs:
    """Masks of one font size (pixels), each at most ``max_width`` pixels wide; longer text ends in an ellipsis."""

    def __init__(self, size: int, max_width: int, font: Font | None = None) -> None:
        self._font: Font = font or (TrueType(size) if hasattr(cv2, "FontFace") else Hershey(size))
        self._max_width = max_width
        self._baseline = round(size * ASCENT)
        #: Rows of every mask; even, so that a strip covers whole chroma samples.
        self.height = (round(size * (ASCENT + DESCENT)) + 1) & ~1
        #: Columns between two pieces of a label.
        self.space = max(1, round(size * 0.25) - MARGIN)
        self.piece = functools.lru_cache(maxsize=MAX_MASKS)(self._piece)

    def _piece(self, text: str) -> Mask:
        """Mask of a piece of text, read-only, uint8, ``height`` × its width; nothing visible is one empty column."""
        text = clean(text)
        shown = text[:MAX_CHARS]
        width = self._font.width(shown)
        room = self._max_width - 2 * MARGIN
        if shown != text or width > room:
            keep = len(shown)
            while True:
                shown = text[:keep].rstrip() + self._font.ellipsis
                width = self._font.width(shown)
                if width <= room or keep == 0:
                    break
                keep = min(keep - 1, keep * room // width)
        mask: Mask = np.zeros((self.height, min(max(1, width), max(1, room)) + 2 * MARGIN), np.uint8)
        if shown:
            self._font.paint(mask, shown, MARGIN, self._baseline)
        mask.flags.writeable = False
        return mask
