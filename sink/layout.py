"""What is drawn where: detections and tags in, a list of shapes out, in painting order.

All geometry of drawing lives here. Pure: no pixel is touched. Every shape lies inside the picture and on even
coordinates (save at the right and bottom edge of an odd picture), because one chroma sample covers 2 × 2 pixels: a line
that began on an odd pixel would tint its neighbour.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from common.messages import Box, Detection, Tag
from sink.glyphs import Glyphs, Mask
from sink.palette import Colour, Palette

#: Most labels and most dots in one picture; boxes beyond keep their outline, the smallest go without a label.
MAX_LABELS, MAX_DOTS = 100, 2000
#: Most tags shown.
MAX_TAGS = 5
#: Picture's shorter side, in pixels, for one pixel of font size, and the smallest size that can be read.
LINES_PER_FONT_PIXEL, MIN_FONT = 40, 11
#: Picture's shorter side, in pixels, for each two pixels of line thickness.
LINES_PER_LINE_PAIR = 720
#: Widest label or tag name, as a part of the picture's width.
LABEL_PART = 0.3


class Rect(NamedTuple):
    """Pixels ``x0 ≤ x < x1``, ``y0 ≤ y < y1``."""

    x0: int
    y0: int
    x1: int
    y1: int


class Fill(NamedTuple):
    """A filled rectangle."""

    rect: Rect
    colour: Colour


class Text(NamedTuple):
    """Ink on a strip: luma only. The mask is cut to the rectangle."""

    rect: Rect
    colour: Colour
    mask: Mask


class Dot(NamedTuple):
    """A disc; ``rect`` bounds it. Centre and radius in pixels, all even."""

    rect: Rect
    colour: Colour
    x: int
    y: int
    radius: int


Shape = Fill | Text | Dot


def _even(value: float) -> int:
    """The even number at or below."""
    return int(value // 2) * 2


def _even_up(value: float) -> int:
    """The even number at or above."""
    return -_even(-value)


def _overlap(a: Rect, b: Rect) -> bool:
    return a.x0 < b.x1 and b.x0 < a.x1 and a.y0 < b.y1 and b.y0 < a.y1


class Layout:
    """Lays out pictures of one size; ``width`` and ``height`` in pixels, each at least 1."""

    def __init__(self, width: int, height: int, palette: Palette) -> None:
        self._width, self._height = width, height
        self._palette = palette
        side = min(width, height)
        self.line = 2 * max(1, round(side / LINES_PER_LINE_PAIR))
        self.glyphs = Glyphs(max(MIN_FONT, round(side / LINES_PER_FONT_PIXEL)), max(8, int(width * LABEL_PART)))

    def arrange(self, detections: Sequence[Detection], tags: Sequence[Tag], stale: bool) -> list[Shape]:
        """Shapes in painting order: outlines and dots, large boxes first, then the strips, which hide nothing but
        picture and each other. ``stale`` leaves of each outline its corners."""
        found = [(rect, d) for d in detections if (rect := self._snap(d.box)) is not None]
        # Large first, so that a small box is never buried; area hardly changes between frames, scores do, and strips
        # that change places flicker.
        found.sort(key=lambda f: (f[0].x0 - f[0].x1) * (f[0].y1 - f[0].y0))
        shapes: list[Shape] = []
        dots = MAX_DOTS
        for rect, d in found:
            colour = self._palette.of(d.label)
            self._outline(shapes, rect, colour, stale)
            for point in d.points[:dots]:
                self._dot(shapes, point, colour)
            dots = max(0, dots - len(d.points))
        taken: list[Rect] = []
        top = 0
        for tag in tags[:MAX_TAGS]:
            top = self._tag(shapes, taken, tag, top)
        for rect, d in found[:MAX_LABELS]:
            track = [] if d.track is None else [f"#{d.track}"]
            self._label(shapes, taken, rect, [d.label, *track, _percent(d.score)])
        return shapes

    # -- boxes and points ---------------------------------------------------------------------------------------------

    def _clip(self, x0: int, y0: int, x1: int, y1: int) -> Rect:
        return Rect(max(0, x0), max(0, y0), min(self._width, x1), min(self._height, y1))

    def _snap(self, box: Box) -> Rect | None:
        """The box within the picture, grown to even coordinates, which may lie one pixel beyond an odd picture's
        edge; at least a line thick. ``None`` when nothing of it is inside, or it is no box."""
        x0, y0, x1, y1 = box
        # The comparisons are written so that a NaN fails them.
        if not (x0 <= x1 and y0 <= y1 and x0 < self._width and y0 < self._height and x1 > 0 and y1 > 0):
            return None
        left, top = _even(max(x0, 0)), _even(max(y0, 0))
        right, bottom = _even_up(min(x1, self._width)), _even_up(min(y1, self._height))
        return Rect(left, top, max(right, left + self.line), max(bottom, top + self.line))

    def _outline(self, shapes: list[Shape], rect: Rect, colour: Colour, stale: bool) -> None:
        x0, y0, x1, y1 = rect
        line, width, height = self.line, x1 - x0, y1 - y0
        if width <= 2 * line or height <= 2 * line:
            shapes.append(Fill(self._clip(*rect), colour))
            return
        arm = max(2 * line, _even(min(width, height) / 4))
        if stale and width > 2 * arm and height > 2 * arm:
            sides: list[tuple[int, int, int, int]] = []
            for x, into in ((x0, x0), (x1 - line, x1 - arm)):
                for y, down in ((y0, y0), (y1 - line, y1 - arm)):
                    sides.append((into, y, into + arm, y + line))
                    sides.append((x, down, x + line, down + arm))
        else:
            sides = [
                (x0, y0, x1, y0 + line),
                (x0, y1 - line, x1, y1),
                (x0, y0 + line, x0 + line, y1 - line),
                (x1 - line, y0 + line, x1, y1 - line),
            ]
        for left, top, right, bottom in sides:
            # A snapped box overhangs at most the last column and row of an odd picture.
            side = Rect(left, top, min(right, self._width), min(bottom, self._height))
            if side.x0 < side.x1 and side.y0 < side.y1:
                shapes.append(Fill(side, colour))

    def _dot(self, shapes: list[Shape], point: tuple[float, float], colour: Colour) -> None:
        if not (0 <= point[0] < self._width and 0 <= point[1] < self._height):
            return
        x, y, r = _even(point[0]), _even(point[1]), self.line
        shapes.append(Dot(self._clip(x - r, y - r, x + r + 2, y + r + 2), colour, x, y, r))

    # -- strips -------------------------------------------------------------------------------------------------------

    def _tag(self, shapes: list[Shape], taken: list[Rect], tag: Tag, top: int) -> int:
        """Stack a tag under the others; answers the top of the next."""
        masks = self._masks([tag.label, _percent(tag.score)])
        strip = Rect(0, top, self._strip_width(masks), top + self.glyphs.height)
        if strip.y1 > self._height:
            return top
        self._strip(shapes, taken, strip, self._palette.of(tag.label), masks)
        return strip.y1

    def _label(self, shapes: list[Shape], taken: list[Rect], box: Rect, pieces: list[str]) -> None:
        """Above the box, else inside at its top, else below: the first that is in the picture and free; if none is
        free, the first in the picture."""
        height = self.glyphs.height
        if height > self._height:
            return
        masks = self._masks(pieces)
        width = self._strip_width(masks)
        x = max(0, min(box.x0, _even(self._width - width)))
        places = [
            Rect(x, y, x + width, y + height)
            for y in (box.y0 - height, box.y0, box.y1)
            if y >= 0 and y + height <= self._height
        ] or [Rect(x, _even(self._height - height), x + width, _even(self._height - height) + height)]
        free = next((p for p in places if not any(_overlap(p, t) for t in taken)), places[0])
        self._strip(shapes, taken, free, self._palette.of(pieces[0]), masks)

    def _masks(self, pieces: list[str]) -> list[Mask]:
        return [self.glyphs.piece(piece) for piece in pieces]

    def _strip_width(self, masks: list[Mask]) -> int:
        inner = sum(mask.shape[1] for mask in masks) + self.glyphs.space * (len(masks) + 1)
        return min(self._width, _even_up(inner))

    def _strip(self, shapes: list[Shape], taken: list[Rect], strip: Rect, colour: Colour, masks: list[Mask]) -> None:
        taken.append(strip)
        shapes.append(Fill(strip, colour))
        x = strip.x0 + self.glyphs.space
        for mask in masks:
            end = min(strip.x1, x + mask.shape[1])
            if x < end:
                shapes.append(Text(Rect(x, strip.y0, end, strip.y1), colour, mask))
            x += mask.shape[1] + self.glyphs.space


def _percent(score: float) -> str:
    return f"{min(max(score, 0.0), 1.0):.2f}"
