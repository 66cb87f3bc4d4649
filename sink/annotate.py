"""Draws detections on a picture, on its YUV planes, in place.

All painting lives here; where things go is ``layout``'s, what colour they have ``palette``'s, what letters look like
``glyphs``'. No detour over RGB: a byte that no shape covers is not read and not written.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from common.messages import Detection, Tag
from sink.layout import Dot, Fill, Layout, Rect, Text
from sink.palette import Palette

Plane = NDArray[np.uint8]
#: Y (H × W), U and V (each ⌈H/2⌉ × ⌈W/2⌉): uint8, writable, rows may be padded, the samples of a row lie side by side.
Planes = tuple[Plane, Plane, Plane]


#: What lay under one shape: where in Y, where in U and V, and the samples.
Saved = tuple[tuple[slice, slice], tuple[slice, slice], Plane, Plane, Plane]


def restore(planes: Planes, saved: list[Saved]) -> None:
    """Take back what :meth:`Annotator.draw` did to ``planes``; empties ``saved``."""
    y, u, v = planes
    while saved:  # in reverse: shapes overlap
        within, covered, luma, cb, cr = saved.pop()
        y[within], u[covered], v[covered] = luma, cb, cr


class Annotator:
    """Draws on 8-bit 4:2:0 pictures of one size and colour description. For one thread.

    ``width`` and ``height`` in pixels, upright. ``color_range`` 1 limited, 2 full, 0 unspecified (taken as limited);
    ``matrix`` a number of ISO/IEC 23091-2, 2 unspecified (BT.709 from 720 lines on, BT.601 below).
    """

    def __init__(self, width: int, height: int, color_range: int, matrix: int) -> None:
        self._luma = (height, width)
        self._chroma = ((height + 1) // 2, (width + 1) // 2)
        self._layout = Layout(width, height, Palette(color_range, matrix, height))

    def draw(
        self,
        planes: Planes,
        detections: Sequence[Detection],
        tags: Sequence[Tag] = (),
        stale: bool = False,
        saved: list[Saved] | None = None,
    ) -> None:
        """Outline, label and dot every detection, and list the first tags at the top left.

        Boxes and points are pixels of this picture; what lies outside is clipped, what is not a number is left out.
        ``stale`` marks boxes carried over from an earlier picture: of the outline only the corners are drawn.
        What is painted over is appended to ``saved``, for :func:`restore`.
        Raises ValueError when a plane has another shape than this annotator's.
        """
        y, u, v = planes
        if y.shape != self._luma or u.shape != self._chroma or v.shape != self._chroma:
            raise ValueError(f"planes of {y.shape}, {u.shape}, {v.shape}, not {self._luma} and {self._chroma}")
        for shape in self._layout.arrange(detections, tags, stale):
            (x0, y0, x1, y1), colour = shape.rect, shape.colour
            covered = slice(y0 // 2, (y1 + 1) // 2), slice(x0 // 2, (x1 + 1) // 2)
            if saved is not None:
                within = slice(y0, y1), slice(x0, x1)
                saved.append((within, covered, y[within].copy(), u[covered].copy(), v[covered].copy()))
            if isinstance(shape, Fill):
                y[y0:y1, x0:x1] = colour.y
                u[covered] = colour.u
                v[covered] = colour.v
            elif isinstance(shape, Text):
                y[y0:y1, x0:x1] = cv2.LUT(shape.mask, colour.ramp)[:, : x1 - x0]
            else:
                self._disc(planes, shape)

    def _disc(self, planes: Planes, dot: Dot) -> None:
        y, u, v = planes
        cv2.circle(y, (dot.x, dot.y), dot.radius, (dot.colour.y,), cv2.FILLED)
        cv2.circle(u, (dot.x // 2, dot.y // 2), dot.radius // 2, (dot.colour.u,), cv2.FILLED)
        cv2.circle(v, (dot.x // 2, dot.y // 2), dot.radius // 2, (dot.colour.v,), cv2.FILLED)

    def touched(self, detections: Sequence[Detection], tags: Sequence[Tag] = (), stale: bool = False) -> list[Rect]:
        """The rectangles, in pixels, outside which ``draw`` with the same arguments changes nothing; in a chroma
        plane they cover the samples ``x0 // 2`` to ``(x1 + 1) // 2``."""
        return [shape.rect for shape in self._layout.arrange(detections, tags, stale)]
