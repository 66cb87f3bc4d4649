"""The picture that is shown while a source is away: why, which one, and since when.

Drawn on YUV planes like everything else (sink/annotate.py), with the same letters (sink/glyphs.py). It changes with its
text only, and so costs next to nothing while it is repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from common.codec import luma_weights
from common.errors import OutputError
from common.picture import FULL, LIMITED, UNSPECIFIED, planes_of
from sink.glyphs import Font, Glyphs, Hershey, Mask, TrueType, clean
from sink.palette import to_yuv

#: Shades (0 black … 255 white) of the background, and of the lines from the most important to the least.
GROUND, TITLE, NAME, TEXT, SINCE = 26, 240, 206, 164, 140
#: RGB of the accent above the title, and of the band of bars along the lower edge.
ACCENT = (232, 150, 42)
BARS = ((150, 150, 150), (150, 150, 30), (30, 140, 145), (35, 140, 45), (140, 45, 140), (145, 45, 40), (40, 55, 140))
#: Smallest letters that can be read, in pixels of font size.
MIN_FONT = 11
#: Part of the picture's width that text may take, and the longest line, in font sizes; the same beside a picture.
TEXT_PART, LINE = 0.88, 30
CORNER_PART, CORNER_LINE = 0.6, 16
#: Width of the title, in font sizes, with something to spare.
TITLE_WIDTH = 7
#: What is left of a given picture's contrast behind the text.
SHADE = 0.22

Plane = NDArray[np.uint8]


class _Row(NamedTuple):
    """A line of text: its ink, its shade, and the pixels above it."""

    mask: Mask
    shade: int
    gap: int


class Placeholder:
    """For pictures of ``width`` × ``height`` (even, in pixels). ``image``: shown instead of the plain ground; any
    format that OpenCV reads. Raises OutputError where it cannot be read. For one thread."""

    def __init__(self, width: int, height: int, full_range: bool, image: Path | None) -> None:
        self._width, self._height, self._full = width, height, full_range
        self._kr, self._kb = luma_weights(UNSPECIFIED, height)
        self._black, self._white = (0, 255) if full_range else (16, 235)
        self._plain = image is None
        self._large = max(MIN_FONT, round(min(height / 10 + 4, width * TEXT_PART / TITLE_WIDTH)))
        self._small = max(MIN_FONT, round(self._large * (0.4 if self._plain else 0.28)))
        part, line = (TEXT_PART, LINE) if self._plain else (CORNER_PART, CORNER_LINE)
        # Wide enough for the title, whatever the picture.
        self._room = max(
            8, int(min(width * TEXT_PART, max(TITLE_WIDTH * self._small, min(width * part, self._small * line))))
        )
        self._unit = 2 * max(1, round(self._small / 12))  # thickness of what is drawn, even
        self._ground = self._make_ground() if image is None else self._planes(_fit(_read(image), width, height))
        self._key: tuple[str, str, str] | None = None
        self._drawn = self._ground

    def frame(self, name: str, text: str, since: str) -> av.VideoFrame:
        """A new frame, yuv420p or (full range) yuvj420p. Whoever wants to draw on it copies it first: its samples are
        those of all frames with the same words, which are drawn once.

        ``name``: of the stream; ``text``: why it is away; ``since``: a time of day. Long text is cut.
        """
        key = (name, text, since)
        if key != self._key:
            self._drawn = self._draw(*key)
            self._key = key
        return self._frame(self._drawn)

    # -- frames ------------------------------------------------------------------------------------------------------

    def _frame(self, samples: Plane) -> av.VideoFrame:
        form = "yuvj420p" if self._full else "yuv420p"
        frame = av.VideoFrame.from_numpy_buffer(samples, form)  # shares the samples
        if len(frame.planes) != 3:  # PyAV finds only one in the smallest
            frame = av.VideoFrame(self._width, self._height, form)
            for target, source in zip(_planes_of(frame), self._views(samples), strict=True):
                target[:] = source
        frame.color_range = FULL if self._full else LIMITED
        return frame

    def _views(self, samples: Plane) -> tuple[Plane, Plane, Plane]:
        """Y, U and V of samples that lie one behind the other."""
        luma, chroma = self._width * self._height, self._width * self._height // 4
        flat, half = samples.reshape(-1), (self._height // 2, self._width // 2)
        return (
            flat[:luma].reshape(self._height, self._width),
            flat[luma : luma + chroma].reshape(half),
            flat[luma + chroma :].reshape(half),
        )

    # -- text --------------------------------------------------------------------------------------------------------

    def _draw(self, name: str, text: str, since: str) -> Plane:
        samples = self._ground.copy()  # frames of the last one may still be with the encoder
        # Made anew, since they remember all that they have drawn.
        font = TrueType(self._small) if hasattr(cv2, "FontFace") else Hershey(self._small)
        small = Glyphs(self._small, self._room, font)
        large = Glyphs(self._large, self._room) if self._plain else small
        lines = self._wrap(font, text) if self._plain else [text] if text else []
        rows = [_Row(large.piece("NO SIGNAL"), TITLE, 0), _Row(small.piece(name), NAME, self._unit)]
        rows += [_Row(small.piece(line), TEXT, 2 * self._unit * (line is lines[0])) for line in lines]
        if since:
            rows.append(_Row(small.piece(f"since {since}"), SINCE, 2 * self._unit))
        if self._plain:
            self._middle(self._views(samples), rows)
        else:
            self._corner(self._views(samples), [row._replace(gap=0) for row in rows])
        return samples

    def _middle(self, planes: tuple[Plane, Plane, Plane], rows: Sequence[_Row]) -> None:
        """Centred, under a short bar. Rows that a low picture has no room for are left out, the last ones first."""
        bar, below = 2 * self._unit, 2 * self._unit
        room = self._height - 4 * self._unit
        while rows and bar + below + _height(rows) > room:
            rows = rows[:-1]
        if not rows:
            return
        top = _even((self._height - bar - below - _height(rows)) / 2)
        wide = _even(min(self._width, self._large * 1.6))
        left = _even((self._width - wide) / 2)
        self._fill(planes, left, top, left + wide, top + bar, ACCENT)
        y = top + bar + below
        for row in rows:
            y += row.gap
            self._ink(planes[0], row, (self._width - row.mask.shape[1]) // 2, y)
            y += row.mask.shape[0]

    def _corner(self, planes: tuple[Plane, Plane, Plane], rows: Sequence[_Row]) -> None:
        """At the lower left, on a shade."""
        pad = _even(self._small * 0.7)
        while rows and _height(rows) + 2 * pad > self._height:
            rows = rows[:-1]
        if not rows:
            return
        wide = min(self._width, _even(max(row.mask.shape[1] for row in rows) + 2 * pad + self._unit + 1))
        top = self._height - _even(_height(rows) + 2 * pad)
        for plane, still, part in zip(planes, (self._black, 128, 128), (1, 2, 2), strict=True):
            behind = plane[top // part :, : wide // part]
            behind[:] = np.rint(still + SHADE * (behind.astype(np.float32) - still))
        self._fill(planes, 0, top, self._unit, self._height, ACCENT)
        y = top + pad
        for row in rows:
            self._ink(planes[0], row, self._unit + pad, y)
            y += row.mask.shape[0]

    def _ink(self, luma: Plane, row: _Row, x: int, y: int) -> None:
        """Mix the row's shade over what is there; what reaches beyond the picture is cut."""
        x = min(max(0, x), luma.shape[1])
        ink = row.mask[: luma.shape[0] - y, : luma.shape[1] - x]
        under = luma[y : y + ink.shape[0], x : x + ink.shape[1]]
        part = ink.astype(np.float32) / 255
        under[:] = np.rint(under + part * (self._luma(row.shade) - under))

    def _wrap(self, font: Font, text: str) -> list[str]:
        """One line where that has room, else two, as alike in width as can be. Glyphs cuts what is still too wide."""
        words = clean(text).split()
        if not words:
            return []
        best, least = [" ".join(words)], font.width(" ".join(words))
        if least > self._room:
            for count in range(1, len(words)):
                lines = [" ".join(words[:count]), " ".join(words[count:])]
                # A first line that is cut would hide how it goes on.
                if font.width(lines[0]) <= self._room and (wide := max(map(font.width, lines))) < least:
                    best, least = lines, wide
        return best

    # -- ground ------------------------------------------------------------------------------------------------------

    def _luma(self, shade: int) -> int:
        return round(self._black + shade / 255 * (self._white - self._black))

    def _make_ground(self) -> Plane:
        samples = np.full((self._height * 3 // 2, self._width), 128, np.uint8)
        planes = self._views(samples)
        planes[0][:] = self._luma(GROUND)
        top = self._height - self._unit
        edges = [_even(self._width * number / len(BARS)) for number in range(len(BARS))] + [self._width]
        for rgb, left, right in zip(BARS, edges, edges[1:], strict=False):
            self._fill(planes, left, top, right, self._height, rgb)
        return samples

    def _fill(
        self, planes: tuple[Plane, Plane, Plane], x0: int, y0: int, x1: int, y1: int, rgb: tuple[int, int, int]
    ) -> None:
        """A rectangle with even sides."""
        samples = to_yuv(rgb, self._kr, self._kb, self._full)
        for plane, sample, part in zip(planes, samples, (1, 2, 2), strict=True):
            plane[y0 // part : y1 // part, x0 // part : x1 // part] = sample

    def _planes(self, picture: Plane) -> Plane:
        """Samples of a BGR picture (H × W × 3, full range) of the right size."""
        kr, kb, kg = self._kr, self._kb, 1 - self._kr - self._kb
        luma, chroma = (1.0, 1.0) if self._full else (219 / 255, 224 / 255)
        weights = np.array([[kb, kg, kr, 0], [0.5, -kg / (2 - 2 * kb), -kr / (2 - 2 * kb), 0],
                            [-kb / (2 - 2 * kr), -kg / (2 - 2 * kr), 0.5, 0]])  # fmt: skip
        weights[0] *= luma
        weights[1:] *= chroma
        weights[:, 3] = (self._black, 128, 128)
        mixed = cv2.transform(picture, weights)  # rounded and saturated
        half = (self._width // 2, self._height // 2)
        parts = [mixed[..., 0], *(cv2.resize(mixed[..., one], half, interpolation=cv2.INTER_AREA) for one in (1, 2))]
        flat = np.concatenate([np.ascontiguousarray(part).reshape(-1) for part in parts])
        return flat.reshape(self._height * 3 // 2, self._width).astype(np.uint8, copy=False)


def _read(path: Path) -> Plane:
    """A picture file as BGR, upright; what is transparent shows the ground. Raises OutputError."""
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
        found = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
        whole = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if found is not None else None
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    except (cv2.error, MemoryError):
        found = None
    if found is None:
        raise OutputError(f"{path} is no picture that can be read: use PNG or JPEG")
    if whole is not None and whole.shape == (*found.shape[:2], 4) and whole.dtype.kind == "u":
        opaque = whole[..., 3:].astype(np.float32) / (256**whole.dtype.itemsize - 1)
        found = np.rint(GROUND + opaque * (found.astype(np.float32) - GROUND))
    return found.astype(np.uint8, copy=False)


def _fit(picture: Plane, width: int, height: int) -> Plane:
    """Scaled into ``width`` × ``height`` with its aspect ratio, on the ground's shade."""
    high, wide = picture.shape[:2]
    scale = min(width / wide, height / high)
    size = min(width, max(2, _even(wide * scale + 1))), min(height, max(2, _even(high * scale + 1)))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    left, top = _even((width - size[0]) / 2), _even((height - size[1]) / 2)
    right, below = width - size[0] - left, height - size[1] - top
    border = cv2.copyMakeBorder(small, top, below, left, right, cv2.BORDER_CONSTANT, value=(GROUND,) * 3)
    return border.astype(np.uint8, copy=False)


def _planes_of(frame: av.VideoFrame) -> tuple[Plane, Plane, Plane]:
    planes = planes_of(frame)
    return planes.y, planes.u, planes.v


def _height(rows: Sequence[_Row]) -> int:
    return sum(row.gap + row.mask.shape[0] for row in rows)


def _even(value: float) -> int:
    """The even number at or below."""
    return int(value // 2) * 2
