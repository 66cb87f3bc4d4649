"""Where a frame lies in the picture that the model is given, and the way back to the source. Pure; numpy and cv2 only.

Three sizes: the upright *source*, the *sent* picture (the whole source scaled) and the *canvas* (the model's picture).
Boxes and points come in canvas pixels and leave in source pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from workers.model import Detection, Findings, Pictures

#: Value of the letterbox bars: black, as the detectors here were trained with.
BAR = 0
#: A box narrower or lower than this in source pixels is nothing to draw.
LEAST_SIDE = 1e-3

#: ``(width, height)`` in pixels.
Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Placement:
    """The content's rectangle in the canvas: ``width`` × ``height`` at ``(x, y)``, all in canvas pixels."""

    source: Size
    canvas: Size
    x: int
    y: int
    width: int
    height: int

    @classmethod
    def of(cls, source: Size, size: Size, canvas: Size, letterbox: bool) -> Placement:
        """The placement of a frame whose sent picture is ``size``.

        Letterbox: the largest scale that fits, centred; the odd pixel of a bar goes right or below. Otherwise the
        content fills the canvas. Raises ValueError where a side is not positive.
        """
        if min(*source, *size, *canvas) < 1:
            raise ValueError(f"sides must be positive: source {source}, size {size}, canvas {canvas}")
        if not letterbox:
            return cls(source, canvas, 0, 0, *canvas)
        width, height = fit(size, canvas)
        return cls(source, canvas, (canvas[0] - width) // 2, (canvas[1] - height) // 2, width, height)

    def paste(self, picture: NDArray[np.uint8], canvas: NDArray[np.uint8]) -> None:
        """Write a sent ``picture`` (h × w × 3) into ``canvas`` (H × W × 3), scaled where sizes differ; bars black."""
        width, height = self.canvas
        if canvas.shape != (height, width, 3) or picture.ndim != 3 or picture.shape[2] != 3:
            raise ValueError(f"canvas {canvas.shape} and picture {picture.shape} do not suit a {width}x{height} canvas")
        right, below = self.x + self.width, self.y + self.height
        canvas[: self.y], canvas[below:] = BAR, BAR
        canvas[self.y : below, : self.x], canvas[self.y : below, right:] = BAR, BAR
        inside = canvas[self.y : below, self.x : right]
        if picture.shape[:2] == (self.height, self.width):
            inside[:] = picture
            return
        smaller = self.width < picture.shape[1] or self.height < picture.shape[0]
        how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        inside[:] = cv2.resize(picture, (self.width, self.height), interpolation=how)

    def point_to_source(self, point: tuple[float, float]) -> tuple[float, float]:
        """Canvas pixels → source pixels, clipped to the source picture."""
        x = (point[0] - self.x) / self.width * self.source[0]
        y = (point[1] - self.y) / self.height * self.source[1]
        return min(max(x, 0.0), float(self.source[0])), min(max(y, 0.0), float(self.source[1]))

    def point_to_canvas(self, point: tuple[float, float]) -> tuple[float, float]:
        """Source pixels → canvas pixels."""
        return (
            self.x + point[0] / self.source[0] * self.width,
            self.y + point[1] / self.source[1] * self.height,
        )

    def box_to_source(self, box: tuple[float, float, float, float]) -> tuple[float, float, float, float] | None:
        """Canvas pixels → source pixels, clipped; ``None`` where nothing of the box lies in the picture."""
        x0, y0 = self.point_to_source(box[:2])
        x1, y1 = self.point_to_source(box[2:])
        if x1 - x0 < LEAST_SIDE or y1 - y0 < LEAST_SIDE:
            return None
        return x0, y0, x1, y1

    def to_source(self, findings: Findings) -> tuple[Findings, int]:
        """``findings`` in source pixels, and how many detections were dropped: in the bars alone, or empty."""
        kept = []
        for found in findings.detections:
            box = self.box_to_source(found.box)
            if box is not None:
                points = [self.point_to_source(point) for point in found.points]
                kept.append(Detection(found.label, found.score, box, points, found.track))
        return Findings(kept, findings.tags), len(findings.detections) - len(kept)


def fit(size: Size, canvas: Size) -> Size:
    """The largest size of ``size``'s shape in ``canvas``; rounded, at least 1 × 1."""
    scale = min(canvas[0] / size[0], canvas[1] / size[1])
    return (
        min(canvas[0], max(1, round(size[0] * scale))),
        min(canvas[1], max(1, round(size[1] * scale))),
    )


def blank(count: int, canvas: Size) -> Pictures:
    """``count`` black canvases, N × H × W × 3."""
    return np.full((count, canvas[1], canvas[0], 3), BAR, np.uint8)
