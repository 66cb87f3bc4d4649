"""A decoded picture made ready for the encoder: 8-bit 4:2:0, upright, even, boxes drawn, its size and its colours.

The common case (8-bit 4:2:0, upright, even) is drawn on in place; everything else is copied once. A source that comes
back with another size, pixel aspect, range or matrix is made into what the encoder was opened for.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from common import codec
from common.codec import Plane, Planes, luma_weights, resolve_matrix
from common.messages import Detection, Tag
from common.picture import (
    BT601,
    FULL,
    LIMITED,
    UNSPECIFIED,
    is_full_range,
    is_rgb,
    planes_of,
    to_420,
    upright_size,
)
from sink.annotate import Annotator, Saved, restore

#: Annotators for so many picture sizes are kept.
MAX_ANNOTATORS = 4
SQUARE = Fraction(1)
#: Gain of the luma correction while it lies in an 8-bit plane, to halve its rounding error. It is at most ±0.34 · 128
#: levels, so twice that still fits around 128.
_FINE = 2.0


def even_size(frame: av.VideoFrame, turn: int) -> tuple[int, int]:
    """Upright size of the frame, padded to even sides."""
    width, height = upright_size(frame.width, frame.height, turn)
    return width + width % 2, height + height % 2


class Composer:
    """For an encoder of ``width`` × ``height``, one range and one matrix (None: that of the first picture), whose
    pixels are ``sar`` times as wide as high.

    A decoded picture is mostly one that later pictures refer to, so it must not stay drawn on. Where the decoder has
    no threads of its own (``idle_decoder``) it is drawn on, encoded and then restored, which spares copying it whole;
    else a copy is drawn on. Call :meth:`restore` when the picture is encoded.
    """

    def __init__(
        self,
        width: int,
        height: int,
        full_range: bool,
        idle_decoder: bool = False,
        matrix: int | None = None,
        sar: Fraction = SQUARE,
    ) -> None:
        self.idle_decoder = idle_decoder
        #: Of the pictures that come: what the container says of their matrix, and their pixels' width over height
        #: before they are turned.
        self.told, self.sar = UNSPECIFIED, sar
        self._drawn: Planes | None = None
        self._saved: list[Saved] = []
        self._size, self._sar = (width, height), sar
        self._full, self._matrix = full_range, matrix
        self._format = "yuvj420p" if full_range else "yuv420p"
        self._annotators: dict[tuple[int, int, int, int], Annotator] = {}

    def __call__(
        self,
        frame: av.VideoFrame,
        turn: int,
        detections: Sequence[Detection],
        tags: Sequence[Tag],
        stale: bool,
    ) -> av.VideoFrame:
        """The frame to encode. The given frame may be drawn on until :meth:`restore`."""
        self.restore()
        matrix = true_matrix(frame, self.told)
        self._matrix = matrix if self._matrix is None else self._matrix
        even = to_420(frame)
        wide = (1 / self.sar if turn in (90, 270) else self.sar) / self._sar
        fits = turn == 0 and wide == 1 and (even.width, even.height) == self._size
        if fits and even.format.name == self._format and is_full_range(even) == self._full and matrix == self._matrix:
            if detections or tags:
                in_place = self.idle_decoder and even is frame
                if not in_place:
                    even.make_writable()
                planes = planes_of(even, matrix)
                self._draw(planes, detections, tags, stale, self._saved if in_place else None)
                self._drawn = planes if in_place else None
            return even
        planes = _pad(codec.rotate(planes_of(even, matrix), turn))
        if detections or tags:
            self._draw(planes, detections, tags, stale)
        planes = _fit(planes, *self._size, wide)
        return _build(_recolour(planes, self._full, self._matrix), self._format)

    def restore(self) -> None:
        """Take back what was drawn on the last frame, if it was drawn on in place."""
        planes, self._drawn = self._drawn, None
        if planes is not None:
            restore((planes.y, planes.u, planes.v), self._saved)

    def _draw(
        self,
        planes: Planes,
        detections: Sequence[Detection],
        tags: Sequence[Tag],
        stale: bool,
        saved: list[Saved] | None = None,
    ) -> None:
        key = (planes.width, planes.height, planes.color_range, planes.matrix)
        annotator = self._annotators.get(key)
        if annotator is None:
            if len(self._annotators) >= MAX_ANNOTATORS:
                self._annotators.clear()
            annotator = self._annotators[key] = Annotator(*key)
        annotator.draw((planes.y, planes.u, planes.v), detections, tags, stale, saved)


def is_full(frame: av.VideoFrame) -> bool:
    """Whether the composed picture has full range."""
    return is_full_range(to_420(frame)) if not is_rgb(frame) else False


def matrix_tag(frame: av.VideoFrame, told: int) -> int:
    """Number (ISO/IEC 23091-2) of the matrix to write into the output: the container's word, else the picture's own.

    RGB has become BT.601; its own number (0) beside 4:2:0 would turn the colours.
    """
    if is_rgb(frame):
        return BT601
    return told if told != UNSPECIFIED else int(frame.colorspace)


def true_matrix(frame: av.VideoFrame, told: int) -> int:
    """Number of the matrix in which :func:`to_420` leaves the frame, never unspecified: as players take it."""
    return resolve_matrix(matrix_tag(frame, told), frame.height)


def _pad(planes: Planes) -> Planes:
    """A copy with even sides: the last column or row is repeated. Chroma is large enough already."""
    right, below = planes.width % 2, planes.height % 2
    y = np.pad(planes.y, ((0, below), (0, right)), mode="edge") if right or below else planes.y.copy()
    return Planes(y, planes.u.copy(), planes.v.copy(), planes.color_range, planes.matrix)


def _fit(planes: Planes, width: int, height: int, wide: Fraction = SQUARE) -> Planes:
    """Scaled into ``width`` × ``height`` with its aspect ratio, black around. ``wide``: its pixels' width over height,
    in those of the output."""
    if (planes.width, planes.height) == (width, height) and wide == 1:
        return planes
    # Whole numbers: a float could come out just below, and a picture that fits exactly would get a black line.
    across, down = planes.width * wide.numerator, planes.height * wide.denominator
    fitted = min(width, across * height // down), min(height, down * width // across)
    broad, high = (max(2, side // 2 * 2) for side in fitted)
    small = codec.scale(planes, broad, high)
    black = 0 if planes.color_range == FULL else 16
    left, top = (width - broad) // 4 * 2, (height - high) // 4 * 2
    right, below = width - broad - left, height - high - top
    y = cv2.copyMakeBorder(small.y, top, below, left, right, cv2.BORDER_CONSTANT, value=[black])
    u, v = (
        cv2.copyMakeBorder(plane, top // 2, below // 2, left // 2, right // 2, cv2.BORDER_CONSTANT, value=[128])
        for plane in (small.u, small.v)
    )
    return Planes(y, u, v, planes.color_range, planes.matrix)  # type: ignore[arg-type]


def _recolour(planes: Planes, full: bool, matrix: int) -> Planes:
    """In another range and matrix; what is in them already is returned as it is.

    Y'CbCr → R'G'B' → Y'CbCr of another matrix keeps greys, so Y gains a mix of Cb and Cr, and Cb, Cr mix with each
    other only. Primaries and transfer stay as they are.
    """
    was_full = planes.color_range == FULL
    if was_full == full and planes.matrix == matrix:
        return planes
    # BT.601-7 item 2.5.3: luma 16…235, chroma 16…240 around 128.
    luma = (255 if full else 219) / (255 if was_full else 219)
    chroma = (255 if full else 224) / (255 if was_full else 224)
    black = (0 if full else 16) - luma * (0 if was_full else 16)
    mixed = _forward(matrix) @ np.linalg.inv(_forward(planes.matrix))
    (_, yu, yv), (_, uu, uv), (_, vu, vv) = mixed.tolist()
    u, v = planes.u, planes.v
    y = _mix(planes.y, luma, planes.y, 0.0, black)
    if planes.matrix != matrix:
        gain = _FINE * (255 if full else 219) / (255 if was_full else 224)
        raised = _mix(u, yu * gain, v, yv * gain, 128 - 128 * (yu + yv) * gain)
        raised = cv2.resize(raised, (planes.width, planes.height), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
        y = _mix(planes.y, luma, raised, 1 / _FINE, black - 128 / _FINE)
    return Planes(
        y,
        _mix(u, uu * chroma, v, uv * chroma, 128 - 128 * (uu + uv) * chroma),
        _mix(u, vu * chroma, v, vv * chroma, 128 - 128 * (vu + vv) * chroma),
        FULL if full else LIMITED,
        matrix,
    )


def _forward(matrix: int) -> NDArray[np.float64]:
    """R'G'B' → Y', Cb, Cr (BT.601-7 items 2.5.1 and 2.5.2, with the given luma weights)."""
    kr, kb = luma_weights(matrix, 0)
    luma = np.array([kr, 1 - kr - kb, kb])
    return np.stack([luma, ([0, 0, 1] - luma) / (2 - 2 * kb), ([1, 0, 0] - luma) / (2 - 2 * kr)])


def _mix(one: Plane, weight: float, other: Plane, other_weight: float, offset: float) -> Plane:
    """Rounded and saturated, in one vectorised pass."""
    return cv2.addWeighted(one, weight, other, other_weight, offset)  # type: ignore[return-value]


def _build(planes: Planes, form: str) -> av.VideoFrame:
    frame = av.VideoFrame(planes.width, planes.height, form)
    target = planes_of(frame)
    for source, plane in ((planes.y, target.y), (planes.u, target.u), (planes.v, target.v)):
        plane[:] = source
    return frame
