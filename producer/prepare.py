"""A decoded picture becomes what the model is sent: scaled planes, upright, coded. PyAV frames in, bytes out."""

from __future__ import annotations

from typing import Literal

import av

from common import codec
from common.messages import InputSpec
from common.picture import is_native, matrix_of, planes_of, to_420, turn, upright_size

Size = tuple[int, int]


def content_size(source: Size, spec: InputSpec) -> Size:
    """The size at which the whole source is sent: within the model's input, even, never larger than the source.

    Bars are not sent: the worker adds them.
    """
    width, height = source
    if spec.letterbox:
        factor = min(1.0, spec.width / width, spec.height / height)
        wide, high = width * factor, height * factor
    else:
        wide, high = min(width, spec.width), min(height, spec.height)
    return _even(wide, min(width, spec.width)), _even(high, min(height, spec.height))


def _even(side: float, most: int) -> int:
    """The nearest even number up to ``most``, at least 2."""
    return max(2, min(round(side / 2) * 2, most // 2 * 2))


class Preparer:
    """Scales, turns and codes pictures for one model."""

    def __init__(self, spec: InputSpec, form: Literal["jpeg", "i420"], quality: int) -> None:
        self._spec, self._form, self._quality = spec, form, quality

    def __call__(self, frame: av.VideoFrame) -> tuple[bytes, Size, Size]:
        """Payload, upright source size, and the size of the picture in the payload."""
        degrees = turn(frame)
        source = upright_size(frame.width, frame.height, degrees)
        size = content_size(source, self._spec)
        lying = upright_size(*size, degrees)  # the size before turning
        if is_native(frame):
            planes = codec.scale(planes_of(frame), *lying)
        else:  # a format that must be converted anyway is scaled in the same pass
            planes = planes_of(to_420(frame, lying), matrix_of(frame))
        planes = codec.rotate(planes, degrees)
        if self._form == "i420":
            return codec.encode_i420(planes), source, size
        return codec.encode_jpeg(planes, self._quality), source, size
