"""Small things in large pictures: overlapping square tiles, the whole picture besides, one merge. No torch.

Tiles come in levels, each half the side of the level above, so that what is too large for one level's overlap is of a
good size in the next: no size falls between.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from workers.model import Pictures
from workers.models.boxes import Boxes, suppress

#: Part of a tile's side that it shares with its neighbour: what is smaller lies whole in one of them.
OVERLAP = 0.25
#: No further level below this many times the model's input side: finer tiles hold no more detail.
FINEST = 1.5
#: Boxes that share more of the smaller one's area are one thing seen twice (as SAHI: intersection over smaller, 0.5).
SAME = 0.5
#: A box that ends this near a tile's inner edge was cut by it, as part of the tile's side.
EDGE = 0.01
#: Most crops that go through the network together: bounds its memory.
BATCH = 16
#: Most regions of one picture; a level that would pass it is left out (1080p at 256 has 79, 4K stops at 69).
MAX_TILES = 128

#: ``(x0, y0, x1, y1)``, whole pixels.
Region = tuple[int, int, int, int]
Find = Callable[[Pictures], list[Boxes]]


@dataclass(frozen=True, slots=True)
class Tiling:
    """How a model of input ``width`` × ``height`` looks at larger pictures.

    ``letterbox``: whether the whole picture is padded (black) or stretched to the input.
    """

    width: int
    height: int
    letterbox: bool

    def find(self, pictures: Pictures, find: Find) -> list[Boxes]:
        """N pictures of any one size → N Boxes, in their pixels. ``find`` takes pictures of the input size only."""
        height, width = pictures.shape[1:3]
        if (width, height) == (self.width, self.height):
            return find(pictures)
        regions = self.regions(width, height)
        return [self._find_one(picture, regions, find) for picture in pictures]

    def regions(self, width: int, height: int) -> list[Region]:
        """The whole picture first, then the tiles, level by level."""
        regions: list[Region] = [(0, 0, width, height)]
        side = min(width, height)
        if max(width, height) <= FINEST * max(self.width, self.height):
            return regions
        if width == height:
            side //= 2  # the first level would be the whole picture again
        while side > 0.75 * max(self.width, self.height):
            level = [(x, y, x + side, y + side) for y in _starts(height, side) for x in _starts(width, side)]
            if len(regions) + len(level) > MAX_TILES:
                break
            regions += level
            if side <= FINEST * max(self.width, self.height):
                break
            side //= 2
        return regions

    def _find_one(self, picture: np.ndarray, regions: list[Region], find: Find) -> Boxes:
        height, width = picture.shape[:2]
        found: list[Boxes] = []
        for start in range(0, len(regions), BATCH):
            part = regions[start : start + BATCH]
            canvases = np.zeros((len(part), self.height, self.width, 3), np.uint8)
            scales = [self._paste(picture, region, canvas) for region, canvas in zip(part, canvases, strict=True)]
            for region, scale, boxes in zip(part, scales, find(canvases), strict=True):
                mapped = boxes.mapped(scale, (region[0], region[1]))
                found.append(mapped.take(~_cut(mapped, region, width, height)))
        return suppress(Boxes.joined(found), SAME, over="smaller")

    def _paste(self, picture: np.ndarray, region: Region, canvas: np.ndarray) -> tuple[float, float]:
        """Scale ``region`` into ``canvas`` (top left) → picture pixels in one canvas pixel, x and y."""
        x0, y0, x1, y1 = region
        width, height = self.width, self.height
        if self.letterbox:
            scale = min(width / (x1 - x0), height / (y1 - y0))
            width, height = max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale))
        how = cv2.INTER_AREA if width < x1 - x0 else cv2.INTER_LINEAR
        canvas[:height, :width] = cv2.resize(picture[y0:y1, x0:x1], (width, height), interpolation=how)
        return (x1 - x0) / width, (y1 - y0) / height


def _starts(length: int, side: int) -> list[int]:
    """Where tiles of ``side`` begin, evenly spread over ``length`` with at least ``OVERLAP`` between neighbours."""
    steps = -(-(length - side) // max(1, int(side * (1 - OVERLAP))))
    return [round(i * (length - side) / steps) for i in range(steps + 1)] if steps > 0 else [0]


def _cut(found: Boxes, region: Region, width: int, height: int) -> np.ndarray:
    """Which boxes end at an edge of ``region`` within the picture: a neighbour or a coarser level has them whole."""
    x0, y0, x1, y1 = region
    margin = EDGE * (x1 - x0)
    low, high = found.xyxy[:, :2], found.xyxy[:, 2:]
    cut = np.zeros(len(found.scores), bool)
    for axis, first, last, length in ((0, x0, x1, width), (1, y0, y1, height)):
        if first > 0:
            cut |= low[:, axis] < first + margin
        if last < length:
            cut |= high[:, axis] > last - margin
    return cut
