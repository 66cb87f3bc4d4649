"""Which colour a label has, and what that colour is on the planes.

All colour arithmetic of drawing lives here. Pure: the same label has the same colour in every process and on every run.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.codec import luma_weights

#: Well distinguishable colours, RGB full range: sixteen of Sasha Trubetskoy's "20 simple, distinct colors"
#: (https://sashamaps.net/docs/resources/20-colors/), without those that are nearly white or nearly black; magenta is
#: darkened and teal brightened, since text could not be read on their middle luma.
RGB = (
    (230, 25, 75),
    (60, 180, 75),
    (255, 225, 25),
    (67, 99, 216),
    (245, 130, 49),
    (145, 30, 180),
    (66, 212, 244),
    (200, 25, 190),
    (191, 239, 69),
    (250, 190, 212),
    (60, 178, 168),
    (220, 190, 255),
    (154, 99, 36),
    (170, 255, 195),
    (128, 128, 0),
    (255, 216, 177),
)


class Colour(NamedTuple):
    """One colour as plane values, with the text that reads well on it."""

    y: int
    u: int
    v: int
    #: uint8, 256: coverage of a text pixel (0 none … 255 full) → luma, from ``y`` to black or white.
    ramp: NDArray[np.uint8]


def to_yuv(rgb: tuple[int, int, int], kr: float, kb: float, full: bool) -> tuple[int, int, int]:
    """8-bit Y′CbCr of 8-bit full-range R′G′B′ (ITU-T H.273, equations 38 to 43)."""
    r, g, b = (c / 255 for c in rgb)
    y = kr * r + (1 - kr - kb) * g + kb * b
    cb, cr = (b - y) / (2 * (1 - kb)), (r - y) / (2 * (1 - kr))
    luma, chroma = (255.0 * y, 255.0) if full else (16 + 219.0 * y, 224.0)
    return round(luma), min(255, round(128 + chroma * cb)), min(255, round(128 + chroma * cr))


class Palette:
    """The colours of one picture format.

    ``matrix`` is a number of ISO/IEC 23091-2 (2 unspecified), ``color_range`` 1 limited, 2 full, 0 unspecified, which
    is limited. ``height`` in pixels decides what an unspecified matrix is.
    """

    def __init__(self, color_range: int, matrix: int, height: int) -> None:
        full = color_range == 2
        self._black, self._white = (0, 255) if full else (16, 235)
        kr, kb = luma_weights(matrix, height)
        self.colours = tuple(self._colour(*to_yuv(rgb, kr, kb, full)) for rgb in RGB)

    def _colour(self, y: int, u: int, v: int) -> Colour:
        # Text shares the strip's chroma, so only luma makes it readable: take the farther of black and white.
        text = self._black if 2 * y > self._black + self._white else self._white
        return Colour(y, u, v, np.rint(np.linspace(y, text, 256)).astype(np.uint8))

    def of(self, label: str) -> Colour:
        """The label's colour. crc32, since Python's ``hash`` of a string differs from process to process."""
        return self.colours[zlib.crc32(label.encode("utf-8", "replace")) % len(self.colours)]
