"""Decoded pictures as planes: range, matrix, direction."""

from __future__ import annotations

import av
import numpy as np
import pytest

from common.picture import (
    BT601,
    FULL,
    LIMITED,
    is_full_range,
    is_native,
    matrix_of,
    planes_of,
    to_420,
    turn,
    upright_size,
)


def frame(form: str, size: tuple[int, int] = (96, 64), color_range: int | None = None) -> av.VideoFrame:
    made = av.VideoFrame(*size, form)
    if color_range is not None:
        made.color_range = color_range
    return made


class Turned:
    """What turn() looks at."""

    def __init__(self, rotation: int) -> None:
        self.rotation = rotation


@pytest.mark.parametrize(
    ("rotation", "degrees"),
    [(0, 0), (-90, 90), (90, 270), (180, 180), (-180, 180), (-270, 270), (-88, 90), (3, 0), (-359, 0)],
)
def test_turn(rotation: int, degrees: int) -> None:
    assert turn(Turned(rotation)) == degrees  # type: ignore[arg-type]


def test_upright_size() -> None:
    assert [upright_size(3, 2, degrees) for degrees in (0, 90, 180, 270)] == [(3, 2), (2, 3), (3, 2), (2, 3)]


@pytest.mark.parametrize(
    ("made", "full"),
    [
        (frame("yuv420p"), False),
        (frame("yuv420p", color_range=LIMITED), False),
        (frame("yuv420p", color_range=FULL), True),
        (frame("yuvj420p"), True),
        (frame("yuvj422p"), True),
        (frame("yuv444p10le", color_range=FULL), True),
    ],
)
def test_range(made: av.VideoFrame, full: bool) -> None:
    assert is_full_range(made) is full
    assert is_full_range(to_420(made)) is full, "the range survives the conversion"
    assert planes_of(to_420(made)).color_range == (FULL if full else LIMITED)


def test_what_is_native_is_not_touched() -> None:
    made = frame("yuv420p")
    assert is_native(made)
    assert to_420(made) is made
    assert to_420(made, (96, 64)) is made
    assert (to_420(made, (48, 32)).width, to_420(made, (48, 32)).height) == (48, 32)
    assert not is_native(frame("nv12"))


@pytest.mark.parametrize("size", [(96, 64), (95, 63), (854, 480), (1, 1)])
def test_planes_are_views_of_the_picture(size: tuple[int, int]) -> None:
    made = frame("yuv420p", size)
    planes = planes_of(made)
    assert planes.y.shape == size[::-1]
    assert planes.u.shape == planes.v.shape == ((size[1] + 1) // 2, (size[0] + 1) // 2)
    planes.y[:], planes.u[:], planes.v[:] = 50, 60, 70
    again = planes_of(made)
    assert (again.y == 50).all()
    assert (again.u == 60).all()
    assert (again.v == 70).all()


def test_matrix() -> None:
    assert matrix_of(frame("yuv420p")) == BT601
    assert matrix_of(frame("yuv420p", (1280, 720))) == 1
    assert matrix_of(frame("rgb24", (1280, 720))) == BT601
    bt2020 = frame("yuv420p")
    bt2020.colorspace = 9
    assert matrix_of(bt2020) == 9


@pytest.mark.parametrize("form", ["rgb24", "bgra", "gbrp"])
@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (10, 20, 250), (255, 255, 255)])
def test_rgb_becomes_limited_bt601(form: str, colour: tuple[int, int, int]) -> None:
    """BT.601-7, item 2.5: Y' = 0.299 R' + 0.587 G' + 0.114 B', in 16…235."""
    picture = np.full((64, 96, 3), colour, np.uint8)
    planes = planes_of(to_420(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=form)))
    luma = np.dot(colour, (0.299, 0.587, 0.114)) / 255
    blue = (colour[2] / 255 - luma) / (2 * (1 - 0.114))
    assert planes.y.mean() == pytest.approx(16 + 219 * luma, abs=1.5)
    assert planes.u.mean() == pytest.approx(128 + 224 * blue, abs=1.5)


@pytest.mark.parametrize("matrix", [3, 8, 10, 14, 255])
@pytest.mark.parametrize("color_range", [LIMITED, FULL, 7])
def test_a_matrix_that_the_scaler_does_not_know_is_kept(matrix: int, color_range: int) -> None:
    """ICtCp, YCgCo and reserved numbers: the samples are what counts, and they are the same as under any other."""
    made, plain = (frame("yuv422p10le", color_range=FULL if color_range == FULL else LIMITED) for _ in range(2))
    for one in (made, plain):
        for number, plane in enumerate(one.planes):
            plane.update(np.full(plane.buffer_size // 2, 300 + 100 * number, "<u2").tobytes())
    made.colorspace, made.color_range = matrix, color_range
    small = to_420(made, (48, 32))
    assert (int(made.colorspace), int(made.color_range)) == (matrix, color_range)
    assert is_native(small)
    ours, theirs = planes_of(small), planes_of(to_420(plain, (48, 32)))
    assert np.array_equal(ours.y, theirs.y)
    assert np.array_equal(ours.u, theirs.u)
    assert ours.color_range == theirs.color_range
