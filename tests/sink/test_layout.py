import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.messages import Detection, Tag
from sink.layout import MAX_DOTS, MAX_LABELS, MAX_TAGS, Dot, Fill, Layout, Rect, Text
from sink.palette import Palette

SIZES = [(426, 240), (853, 481), (720, 1280), (1920, 1080), (3840, 2160), (64, 48), (7, 5), (1, 1)]


def layout(width, height):
    return Layout(width, height, Palette(1, 2, height))


def strips(shapes):
    """Label and tag strips: the fills that text follows."""
    return [a.rect for a, b in itertools.pairwise(shapes) if isinstance(a, Fill) and isinstance(b, Text)]


def disjoint(a: Rect, b: Rect) -> bool:
    return a.x1 <= b.x0 or b.x1 <= a.x0 or a.y1 <= b.y0 or b.y1 <= a.y0


anything = st.floats(allow_nan=True, allow_infinity=True, width=64)
near = st.floats(-0.5, 1.5)


@st.composite
def detections(draw, width, height):
    found = []
    for _ in range(draw(st.integers(0, 6))):
        if draw(st.booleans()):
            a, b, c, d = (draw(near) for _ in range(4))
            box = (min(a, c) * width, min(b, d) * height, max(a, c) * width, max(b, d) * height)
        else:
            box = tuple(draw(anything) for _ in range(4))
        points = draw(st.lists(st.tuples(anything, anything) | st.tuples(near, near), max_size=3))
        label = draw(st.sampled_from(["person", "face", "a long label that will not fit", "人"]))
        found.append(Detection(label, draw(anything), box, points, draw(st.none() | st.integers(0, 2**62))))
    return found


@given(data=st.data(), size=st.sampled_from(SIZES), stale=st.booleans())
@settings(max_examples=150, deadline=None)
def test_every_shape_is_inside_and_on_whole_chroma_samples(data, size, stale):
    width, height = size
    found = data.draw(detections(width, height))
    tags = [Tag("indoor", 0.5)] * data.draw(st.integers(0, 7))
    for shape in layout(width, height).arrange(found, tags, stale):
        x0, y0, x1, y1 = shape.rect
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
        assert y0 % 2 == 0
        assert y1 % 2 == 0 or y1 == height
        if not isinstance(shape, Text):  # ink is luma only
            assert x0 % 2 == 0
            assert x1 % 2 == 0 or x1 == width


@given(
    size=st.sampled_from(SIZES[:5]),
    corner=st.tuples(st.sampled_from([0.0, 0.9, 1.0]), st.sampled_from([0.0, 0.9, 1.0])),
    shift=st.tuples(st.floats(-30, 30), st.floats(-30, 30)),
    side=st.floats(1, 200),
)
@settings(max_examples=150, deadline=None)
def test_a_label_is_whole_wherever_its_box_is(size, corner, shift, side):
    width, height = size
    x, y = corner[0] * width + shift[0], corner[1] * height + shift[1]
    box = (x - side, y - side, x + side, y + side)
    if not (box[0] < width - 1 and box[1] < height - 1 and box[2] > 1 and box[3] > 1):
        return
    here = layout(width, height)
    shapes = here.arrange([Detection("person", 0.93, box, [], 7)], (), False)
    (strip,) = strips(shapes)
    texts = [s for s in shapes if isinstance(s, Text)]
    assert len(texts) == 3
    for text in texts:
        assert (text.rect.y1 - text.rect.y0, text.rect.x1 - text.rect.x0) == text.mask.shape
        assert strip.x0 < text.rect.x0 < text.rect.x1 < strip.x1
        assert (text.rect.y0, text.rect.y1) == (strip.y0, strip.y1)


@pytest.mark.parametrize(("width", "height", "line"), [(426, 240, 2), (1280, 720, 2), (1920, 1080, 4), (3840, 2160, 6)])
def test_lines_suit_the_resolution(width, height, line):
    here = layout(width, height)
    assert here.line == line
    shapes = here.arrange([Detection("cat", 0.5, (101.3, 103.7, 180.2, 199.9))], (), False)
    outline = [s.rect for s in shapes[:4]]
    assert outline[0] == (100, 102, 182, 102 + line)
    assert outline[1] == (100, 200 - line, 182, 200)
    assert outline[2] == (100, 102 + line, 100 + line, 200 - line)
    assert outline[3] == (182 - line, 102 + line, 182, 200 - line)
    assert max(11, height / 40) <= here.glyphs.height <= max(11, height / 40) * 1.4 + 2


def test_a_label_goes_above_then_inside_then_below():
    here = layout(640, 480)
    high = here.glyphs.height
    box = (100.0, 200.0, 300.0, 300.0)
    placed = strips(here.arrange([Detection("cat", 0.5, box)] * 4, (), False))
    assert [r.y0 for r in placed] == [200 - high, 200, 300, 200 - high]
    at_top = strips(here.arrange([Detection("cat", 0.5, (100.0, 2.0, 300.0, 300.0))], (), False))
    assert [r.y0 for r in at_top] == [2]
    crossing = strips(here.arrange([Detection("cat", 0.5, (600.0, -9.0, 700.0, 999.0))], (), False))
    assert crossing[0].y0 == 0
    assert crossing[0].x1 == 640


def test_neighbours_labels_do_not_cover_each_other():
    here = layout(1280, 720)
    found = [Detection("person", 0.5, (200.0 + 20 * i, 200.0 + 9 * i, 500.0, 500.0 + 30 * i)) for i in range(3)]
    placed = strips(here.arrange(found, [Tag("street", 0.9)], False))
    assert len(placed) == 4
    assert all(disjoint(a, b) for i, a in enumerate(placed) for b in placed[:i])


def test_large_boxes_are_painted_first_and_strips_last():
    here = layout(1280, 720)
    small, large = (
        Detection("cup", 0.9, (300.0, 300.0, 340.0, 350.0)),
        Detection("dog", 0.4, (200.0, 200.0, 600.0, 600.0)),
    )
    shapes = here.arrange([small, large], (), False)
    assert here.arrange([large, small], (), False) == shapes
    assert shapes[0].rect.x0 == 200
    assert all(isinstance(s, Fill) and s.rect.y1 - s.rect.y0 != here.glyphs.height for s in shapes[:8])
    assert len(strips(shapes[8:])) == 2


def test_carried_boxes_show_corners_only():
    here = layout(1280, 720)
    found = [Detection("cup", 0.9, (300.0, 300.0, 700.0, 500.0))]
    fresh, stale = (here.arrange(found, (), s) for s in (False, True))
    corners = stale[:8]
    assert stale[8:] == fresh[4:]
    for middle in ((500, 300), (500, 499), (300, 400), (699, 400)):
        assert not any(r.x0 <= middle[0] < r.x1 and r.y0 <= middle[1] < r.y1 for r, *_ in corners)
        assert any(r.x0 <= middle[0] < r.x1 and r.y0 <= middle[1] < r.y1 for r, *_ in fresh[:4])
    for corner in ((300, 300), (699, 300), (300, 499), (699, 499)):
        assert any(r.x0 <= corner[0] < r.x1 and r.y0 <= corner[1] < r.y1 for r, *_ in corners)


@pytest.mark.parametrize("side", [0.0, 0.1, 1.0, 1.9, 3.0])
def test_tiny_boxes_are_a_spot(side):
    shapes = layout(640, 480).arrange([Detection("ball", 0.5, (100.5, 100.5, 100.5 + side, 100.5 + side))], (), False)
    x0, y0, x1, y1 = shapes[0].rect
    assert (x0, y0) == (100, 100)
    assert 2 <= x1 - x0 <= 4
    assert 2 <= y1 - y0 <= 4


@pytest.mark.parametrize(
    "box",
    [
        (math.nan, 0.0, 10.0, 10.0),
        (0.0, 0.0, math.nan, 10.0),
        (20.0, 20.0, 10.0, 10.0),
        (640.0, 0.0, 700.0, 10.0),
        (-50.0, 0.0, 0.0, 10.0),
        (0.0, 480.0, 10.0, 490.0),
        (math.inf, 0.0, math.inf, 10.0),
    ],
)
def test_what_is_no_box_or_outside_is_left_out(box):
    assert layout(640, 480).arrange([Detection("x", math.nan, box)], (), False) == []


def test_an_endless_box_is_the_picture():
    shapes = layout(640, 480).arrange([Detection("x", math.inf, (-math.inf, -1e300, math.inf, 1e300))], (), False)
    assert [s.rect for s in shapes[:2]] == [(0, 0, 640, 2), (0, 478, 640, 480)]


def test_numbers_are_bounded():
    here = layout(640, 480)
    found = [Detection("x", 0.5, (0.0, 0.0, 9.0, 9.0), [(5.0, 5.0)] * 64)] * 200
    shapes = here.arrange(found, [Tag("t", 0.5)] * 9, False)
    assert sum(isinstance(s, Dot) for s in shapes) == MAX_DOTS
    assert len(strips(shapes)) == MAX_LABELS + MAX_TAGS


def test_tags_are_stacked_at_the_top_left():
    here = layout(640, 480)
    placed = strips(here.arrange([], [Tag("a", 0.9), Tag("bbbb", 0.5)], False))
    assert [(r.x0, r.y0) for r in placed] == [(0, 0), (0, here.glyphs.height)]
