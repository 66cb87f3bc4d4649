"""Decoded pictures (PyAV frames) as 8-bit 4:2:0 planes, alike at both ends. No sockets, no clock.

The producer scales what this gives, the sink draws on it, so a box lands where the model saw it.
"""

from __future__ import annotations

import av
import numpy as np

from common.codec import Planes, resolve_matrix

#: Formats whose planes are 8-bit 4:2:0 already.
NATIVE = ("yuv420p", "yuvj420p")
#: Ranges of ISO/IEC 23091-2 as FFmpeg numbers them.
LIMITED, FULL = 1, 2
#: Matrix numbers of ISO/IEC 23091-2.
UNSPECIFIED, BT601 = 2, 6


def turn(frame: av.VideoFrame) -> int:
    """Clockwise degrees (0, 90, 180, 270) that bring the picture upright.

    FFmpeg's display matrix gives counter-clockwise degrees; angles between are rounded to quarter turns.
    """
    return round(-frame.rotation / 90) % 4 * 90


def is_full_range(frame: av.VideoFrame) -> bool:
    return frame.color_range == FULL or frame.format.name.startswith("yuvj")


def is_native(frame: av.VideoFrame) -> bool:
    """Whether the frame's planes are 8-bit 4:2:0 already."""
    return frame.format.name in NATIVE


def to_420(frame: av.VideoFrame, size: tuple[int, int] | None = None) -> av.VideoFrame:
    """The frame as 8-bit 4:2:0 with its own range and matrix (RGB becomes BT.601), scaled to ``size`` if given.

    A frame that is so already is returned as it is.
    """
    if is_native(frame) and size in (None, (frame.width, frame.height)):
        return frame
    width, height = size or (frame.width, frame.height)
    if is_rgb(frame):
        return frame.reformat(width, height, "yuv420p", dst_colorspace="ITU601")
    return _reformat(frame, width, height, "yuvj420p" if is_full_range(frame) else "yuv420p")


def _reformat(frame: av.VideoFrame, width: int, height: int, form: str) -> av.VideoFrame:
    try:
        return frame.reformat(width, height, form)
    except av.FFmpegError:
        # swscale converts nothing whose matrix or range it does not know (ICtCp, YCgCo, reserved numbers), though
        # neither changes here. So it is not told of them.
        matrix, scale = frame.colorspace, frame.color_range
        frame.colorspace, frame.color_range = UNSPECIFIED, FULL if scale == FULL else LIMITED
        try:
            return frame.reformat(width, height, form)
        finally:
            frame.colorspace, frame.color_range = matrix, scale


def matrix_of(frame: av.VideoFrame) -> int:
    """Number (ISO/IEC 23091-2) of the matrix that :func:`to_420` leaves the frame in; never unspecified."""
    return BT601 if is_rgb(frame) else resolve_matrix(int(frame.colorspace), frame.height)


def is_rgb(frame: av.VideoFrame) -> bool:
    """Whether the picture has no Y'CbCr matrix yet (RGB, palette)."""
    return frame.format.is_rgb or frame.format.name.startswith("pal")


def planes_of(frame: av.VideoFrame, matrix: int | None = None) -> Planes:
    """Views (no copies) of the planes of an 8-bit 4:2:0 frame; rows may be strided.

    ``matrix`` where the frame was made by :func:`to_420`: the original's :func:`matrix_of`.
    """
    width, height = frame.width, frame.height
    half = ((width + 1) // 2, (height + 1) // 2)
    y, u, v = (
        np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:high, :wide]  # type: ignore[call-overload]
        for plane, (wide, high) in zip(frame.planes, ((width, height), half, half), strict=True)
    )
    return Planes(y, u, v, FULL if is_full_range(frame) else LIMITED, matrix or matrix_of(frame))


def upright_size(width: int, height: int, degrees: int) -> tuple[int, int]:
    """The size after turning by ``degrees``."""
    return (height, width) if degrees in (90, 270) else (width, height)
