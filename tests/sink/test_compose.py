"""The picture for the encoder: upright, even, in its size and range, boxes where they belong."""

from __future__ import annotations

import av
import numpy as np
import pytest
from skimage.data import astronaut

from common.messages import Detection, Tag
from common.picture import FULL, LIMITED, planes_of
from sink.compose import Composer, even_size, is_full

BOX = Detection("cat", 0.9, (20.0, 10.0, 60.0, 40.0))


def photo(form: str = "yuv420p", size: tuple[int, int] = (96, 64), color_range: int = LIMITED) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(astronaut(), format="rgb24").reformat(*size, form)
    if "j" not in form and "rgb" not in form:
        frame.color_range = color_range
    return frame


def rgb(frame: av.VideoFrame) -> np.ndarray:
    return frame.to_ndarray(format="rgb24").astype(int)


def luma(frame: av.VideoFrame) -> np.ndarray:
    return planes_of(frame).y.copy()


def compose(
    frame: av.VideoFrame, turn: int = 0, size: tuple[int, int] | None = None, *found: Detection
) -> av.VideoFrame:
    composer = Composer(*(size or even_size(frame, turn)), is_full(frame))
    return composer(frame, turn, list(found), [], False)


def test_the_common_case_costs_no_copy() -> None:
    frame = photo()
    before = frame.to_ndarray().copy()
    assert compose(frame) is frame
    assert (frame.to_ndarray() == before).all()


def test_only_the_box_is_touched() -> None:
    frame = photo()
    before = luma(frame)
    after = luma(compose(frame, 0, None, BOX))
    rows, columns = np.nonzero(before != after)
    assert len(rows) > 50
    assert rows.max() < 46
    assert columns.min() >= 16


def test_a_picture_that_the_decoder_still_needs_is_not_drawn_on() -> None:
    """With decoder threads at work a copy is drawn on; without, the picture is restored."""
    frame = photo()
    before = frame.to_ndarray().copy()
    other = av.VideoFrame(96, 64, "yuv420p")
    assert other.to_ndarray().shape == before.shape
    composer = Composer(96, 64, False, idle_decoder=True)
    drawn = composer(frame, 0, [BOX], [Tag("day", 0.5)], False)
    assert (drawn.to_ndarray() != before).any()
    composer.restore()
    assert (frame.to_ndarray() == before).all()
    composer.restore()
    composer(frame, 0, [BOX], [], True)
    composer(photo(), 0, [], [], False)
    assert (frame.to_ndarray() == before).all(), "the next picture restores the last one"


@pytest.mark.parametrize(("turn", "quarter_turns"), [(90, -1), (180, 2), (270, 1)])
def test_upright(turn: int, quarter_turns: int) -> None:
    frame = photo()
    want = np.rot90(luma(frame), quarter_turns)
    made = compose(frame, turn)
    assert (made.width, made.height) == want.shape[::-1]
    assert (luma(made) == want).all()
    assert np.abs(rgb(made) - np.rot90(rgb(frame), quarter_turns)).mean() < 3, "colours turn along"


def test_boxes_are_drawn_after_turning() -> None:
    plain, drawn = compose(photo(), 90), compose(photo(), 90, None, Detection("x", 0.5, (2, 50, 30, 90)))
    rows, columns = np.nonzero(luma(plain) != luma(drawn))
    assert (drawn.width, drawn.height) == (64, 96)
    assert columns.max() <= 64
    assert rows.min() > 30, "the box lies below the middle of the upright picture"


@pytest.mark.parametrize("size", [(95, 63), (95, 64), (96, 63), (9, 9)])
@pytest.mark.parametrize("turn", [0, 90])
def test_odd_sides_are_padded_by_repeating_the_edge(size: tuple[int, int], turn: int) -> None:
    frame = photo(size=size)
    want = np.rot90(luma(frame), -1) if turn else luma(frame)
    made = compose(frame, turn, None)
    assert made.width % 2 == made.height % 2 == 0
    got = luma(made)
    assert (got[: want.shape[0], : want.shape[1]] == want).all()
    colours = np.rot90(rgb(photo(size=size)), -1) if turn else rgb(photo(size=size))
    assert np.abs(rgb(made)[: want.shape[0], : want.shape[1]] - colours).mean() < 6, "colours keep their places"
    assert (got[-1] == got[want.shape[0] - 1]).all()
    assert (got[:, -1] == got[:, want.shape[1] - 1]).all()


@pytest.mark.parametrize("form", ["yuv420p", "yuvj420p", "yuv422p", "yuv420p10le", "nv12", "rgb24", "gbrp"])
def test_every_format_keeps_its_colours(form: str) -> None:
    frame = photo(form)
    assert np.abs(rgb(compose(frame)) - rgb(photo(form))).mean() < 3


def test_full_range_stays_full() -> None:
    for frame in (photo("yuvj420p"), photo(color_range=FULL)):
        assert is_full(frame)
        before = luma(frame)
        made = compose(frame)
        assert made.format.name == "yuvj420p"
        assert (luma(made) == before).all()
    assert not is_full(photo())
    assert not is_full(photo("rgb24"))


@pytest.mark.parametrize("before", [False, True])
def test_a_range_that_changes_under_way_is_converted(before: bool) -> None:
    """The encoder keeps the range that it was opened with; the picture must look as it did."""
    frame = photo("yuv420p" if before else "yuvj420p")
    want = rgb(frame)
    made = Composer(96, 64, before)(frame, 0, [], [], False)
    assert made.format.name == ("yuvj420p" if before else "yuv420p")
    assert np.abs(rgb(made) - want).mean() < 3


@pytest.mark.parametrize(
    ("size", "content"),
    [((192, 128), (192, 128)), ((192, 192), (192, 128)), ((128, 128), (128, 84)), ((40, 128), (40, 26))],
)
def test_another_size_is_fitted_and_padded(size: tuple[int, int], content: tuple[int, int]) -> None:
    frame = photo()
    planes_of(frame).y[:] = 200
    got = luma(compose(frame, 0, size))
    assert got.shape == size[::-1]
    rows, columns = np.nonzero(got == 200)
    assert (columns.max() - columns.min() + 1, rows.max() - rows.min() + 1) == content
    assert (got[got != 200] == 16).all(), "bars are black in limited range"
    assert abs(rows.min() - (size[1] - 1 - rows.max())) <= 2, "centred"


def test_a_size_of_the_same_shape_gets_no_bars() -> None:
    """14 · (122 / 14) is a little less than 122 in floating point."""
    for small, large in (((14, 14), (122, 122)), ((14, 28), (230, 460)), ((1920, 1080), (640, 360))):
        frame = av.VideoFrame(*small, "yuv420p")
        planes_of(frame).y[:] = 200
        assert (luma(compose(frame, 0, large)) == 200).all()
