"""A decoded picture made ready for the encoder: 8-bit 4:2:0, upright, even, boxes drawn, the encoder's size.

The common case (8-bit 4:2:0, upright, even) is drawn on in place; everything else is copied once.
"""

from __future__ import annotations

from collections.abc import Sequence

import av
import cv2
import numpy as np

from common import codec
from common.codec import Planes
from common.messages import Detection, Tag
from common.picture import (
    BT601,
    FULL,
    UNSPECIFIED,
    is_full_range,
    is_rgb,
    matrix_of,
    planes_of,
    to_420,
    upright_size,
)
from sink.annotate import Annotator, Saved, restore

#: Annotators for so many picture sizes are kept.
MAX_ANNOTATORS = 4


def even_size(frame: av.VideoFrame, turn: int) -> tuple[int, int]:
    """Upright size of the frame, padded to even sides."""
    width, height = upright_size(frame.width, frame.height, turn)
    return width + width % 2, height + height % 2


class Composer:
    """For an encoder of ``width`` × ``height`` and one range.

    A decoded picture is mostly one that later pictures refer to, so it must not stay drawn on. Where the decoder has
    no threads of its own (``idle_decoder``) it is drawn on, encoded and then restored, which spares copying it whole;
    else a copy is drawn on. Call :meth:`restore` when the picture is encoded.
    """

    def __init__(self, width: int, height: int, full_range: bool, idle_decoder: bool = False) -> None:
        self._idle_decoder = idle_decoder
        self._drawn: Planes | None = None
        self._saved: list[Saved] = []
        self._size = (width, height)
        self._full = full_range
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
        matrix = matrix_of(frame)
        even = to_420(frame)
        if is_full_range(even) != self._full:  # the source changed its range under way
            even = even.reformat(format=self._format)
        if turn == 0 and even.format.name == self._format and (even.width, even.height) == self._size:
            if detections or tags:
                in_place = self._idle_decoder and even is frame
                if not in_place:
                    even.make_writable()
                planes = planes_of(even, matrix)
                self._draw(planes, detections, tags, stale, self._saved if in_place else None)
                self._drawn = planes if in_place else None
            return even
        planes = _pad(codec.rotate(planes_of(even, matrix), turn))
        if detections or tags:
            self._draw(planes, detections, tags, stale)
        return _build(_fit(planes, *self._size), self._format)

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


def _pad(planes: Planes) -> Planes:
    """A copy with even sides: the last column or row is repeated. Chroma is large enough already."""
    right, below = planes.width % 2, planes.height % 2
    y = np.pad(planes.y, ((0, below), (0, right)), mode="edge") if right or below else planes.y.copy()
    return Planes(y, planes.u.copy(), planes.v.copy(), planes.color_range, planes.matrix)


def _fit(planes: Planes, width: int, height: int) -> Planes:
    """Scaled into ``width`` × ``height`` with its aspect ratio, black around."""
    if (planes.width, planes.height) == (width, height):
        return planes
    # Whole numbers: a float could come out just below, and a picture that fits exactly would get a black line.
    fitted = min(width, planes.width * height // planes.height), min(height, planes.height * width // planes.width)
    wide, high = (max(2, side // 2 * 2) for side in fitted)
    small = codec.scale(planes, wide, high)
    black = 0 if planes.color_range == FULL else 16
    left, top = (width - wide) // 4 * 2, (height - high) // 4 * 2
    right, below = width - wide - left, height - high - top
    y = cv2.copyMakeBorder(small.y, top, below, left, right, cv2.BORDER_CONSTANT, value=[black])
    u, v = (
        cv2.copyMakeBorder(plane, top // 2, below // 2, left // 2, right // 2, cv2.BORDER_CONSTANT, value=[128])
        for plane in (small.u, small.v)
    )
    return Planes(y, u, v, planes.color_range, planes.matrix)  # type: ignore[arg-type]


def _build(planes: Planes, form: str) -> av.VideoFrame:
    frame = av.VideoFrame(planes.width, planes.height, form)
    target = planes_of(frame)
    for source, plane in ((planes.y, target.y), (planes.u, target.u), (planes.v, target.v)):
        plane[:] = source
    return frame
