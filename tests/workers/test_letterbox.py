"""Placement of frames in canvases, and the way back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.letterbox import Placement, blank, fit
from workers.model import Detection, Findings, Tag

sides = st.integers(1, 4096)
sizes = st.tuples(sides, sides)
#: Sources of shapes that occur, so that the content is never a pixel wide.
sources = st.tuples(st.integers(64, 4096), st.integers(64, 4096))
unit = st.floats(0, 1)


def placed(source: tuple[int, int], canvas: tuple[int, int], letterbox: bool) -> Placement:
    return Placement.of(source, fit(source, canvas) if letterbox else canvas, canvas, letterbox)


def test_16_to_9_in_a_square_lies_in_the_middle():
    p = Placement.of((1920, 1080), (256, 144), (256, 256), True)
    assert (p.x, p.y, p.width, p.height) == (0, 56, 256, 144)
    assert p.box_to_source((0, 56, 256, 200)) == (0, 0, 1920, 1080)


def test_portrait_has_bars_left_and_right():
    p = Placement.of((720, 1280), (203, 360), (640, 360), True)
    assert (p.x, p.y, p.width, p.height) == (218, 0, 203, 360)


def test_stretched_content_fills_the_canvas():
    p = Placement.of((1920, 1080), (640, 360), (300, 300), False)
    assert (p.x, p.y, p.width, p.height) == (0, 0, 300, 300)
    assert p.box_to_source((150, 150, 300, 300)) == (960, 540, 1920, 1080)


@given(sizes, sizes, sizes, st.booleans())
def test_content_always_lies_in_the_canvas(source, size, canvas, letterbox):
    p = Placement.of(source, size, canvas, letterbox)
    assert p.width >= 1
    assert p.height >= 1
    assert 0 <= p.x <= p.x + p.width <= canvas[0]
    assert 0 <= p.y <= p.y + p.height <= canvas[1]
    if letterbox:
        assert p.width == canvas[0] or p.height == canvas[1]
        assert abs((canvas[0] - p.width) - 2 * p.x) <= 1
        assert abs((canvas[1] - p.height) - 2 * p.y) <= 1


@given(sources, sources, st.booleans(), unit, unit)
def test_points_go_there_and_back(source, canvas, letterbox, u, v):
    p = placed(source, canvas, letterbox)
    x, y = u * source[0], v * source[1]
    there = p.point_to_canvas((x, y))
    assert p.x - 1e-6 <= there[0] <= p.x + p.width + 1e-6
    assert p.y - 1e-6 <= there[1] <= p.y + p.height + 1e-6
    assert p.point_to_source(there) == pytest.approx((x, y), abs=1e-6 * max(source))


@given(sources, sources, st.booleans(), st.tuples(unit, unit, unit, unit))
def test_boxes_stay_in_the_source_and_keep_their_order(source, canvas, letterbox, corners):
    p = placed(source, canvas, letterbox)
    x0, x1 = sorted((corners[0] * canvas[0], corners[2] * canvas[0]))
    y0, y1 = sorted((corners[1] * canvas[1], corners[3] * canvas[1]))
    box = p.box_to_source((x0, y0, x1, y1))
    if box is not None:
        assert 0 <= box[0] < box[2] <= source[0]
        assert 0 <= box[1] < box[3] <= source[1]


def test_boxes_in_the_bars_and_empty_ones_are_dropped_and_counted():
    p = Placement.of((1920, 1080), (256, 144), (256, 256), True)
    boxes = [(10, 5, 60, 50), (10, 210, 60, 250), (10, 100, 10, 120), (10, 40, 60, 100)]
    found = Findings([Detection("x", 0.5, b, [(20, 10), (20, 60)], 7) for b in boxes], [Tag("t", 0.5)])
    mapped, dropped = p.to_source(found)
    assert dropped == 3
    assert mapped.tags == [Tag("t", 0.5)]
    (kept,) = mapped.detections
    assert (kept.label, kept.score, kept.track) == ("x", 0.5, 7)
    assert kept.box == pytest.approx((75, 0, 450, 330))  # clipped at the picture's top
    assert kept.points == [pytest.approx((150, 0)), pytest.approx((150, 30))]


def test_paste_centres_scales_and_blackens_the_bars():
    p = Placement.of((1280, 720), (640, 360), (256, 256), True)
    canvas = np.full((256, 256, 3), 9, np.uint8)
    picture = np.full((360, 640, 3), 200, np.uint8)
    p.paste(picture, canvas)
    assert (canvas[:56] == 0).all()
    assert (canvas[200:] == 0).all()
    assert (canvas[56:200] == 200).all()


def test_paste_without_scaling_copies_exactly():
    p = Placement.of((1280, 720), (256, 144), (256, 256), True)
    picture = np.random.default_rng(3).integers(0, 256, (144, 256, 3), np.uint8)
    canvas = blank(1, (256, 256))[0]
    p.paste(picture, canvas)
    assert (canvas[56:200] == picture).all()


def test_paste_enlarges_a_small_source():
    p = Placement.of((64, 36), (64, 36), (640, 360), True)
    canvas = blank(1, (640, 360))[0]
    p.paste(np.full((36, 64, 3), 77, np.uint8), canvas)
    assert (canvas == 77).all()


def test_unsuitable_shapes_are_refused():
    with pytest.raises(ValueError, match="positive"):
        Placement.of((0, 10), (1, 1), (1, 1), True)
    p = Placement.of((64, 36), (64, 36), (640, 360), True)
    with pytest.raises(ValueError, match="canvas"):
        p.paste(np.zeros((36, 64, 3), np.uint8), np.zeros((640, 360, 3), np.uint8))
