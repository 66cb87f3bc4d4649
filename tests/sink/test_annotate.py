import av
import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st

from common.messages import Detection, Tag
from sink.annotate import Annotator
from sink.palette import RGB

SIZES = [(426, 240), (853, 481), (1920, 1080), (3840, 2160), (64, 48), (5, 3)]
#: Number of the matrix → R = Y + a·V, G = Y − b·U − c·V, B = Y + d·U.
DECODERS = {1: (1.5748, 0.1873, 0.4681, 1.8556), 6: (1.402, 0.344136, 0.714136, 1.772)}


def photograph(width, height, spare=0):
    """Planes of a real picture, as views of rows that are ``spare`` samples longer, and the whole rows."""
    rgb = skimage.data.astronaut()
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(width, height, format="yuv420p")
    whole, views = [], []
    for plane in frame.planes:
        samples = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
        rows = np.full((plane.height, plane.width + spare), 99, np.uint8)
        rows[:, : plane.width] = samples
        whole.append(rows)
        views.append(rows[:, : plane.width])
    return tuple(views), whole


def scene(width, height):
    def box(*part):
        return (part[0] * width, part[1] * height, part[2] * width, part[3] * height)

    return [
        Detection("person", 0.93, box(0.25, 0.1, 0.62, 0.99), [(0.4 * width, 0.25 * height)], 7),
        Detection("face", 0.88, box(0.36, 0.14, 0.5, 0.38)),
        Detection("traffic light", 0.71, box(-0.01, -0.02, 0.12, 0.3)),
        Detection("人物", 0.52, box(0.7, 0.5, 1.2, 1.1), [(0.999 * width, 0.999 * height)], 123),
        Detection("a label that is much too long to be shown", 0.3, box(0.9, 0.93, 0.95, 1.0)),
        Detection("dot", 0.3, box(0.8, 0.2, 0.8, 0.2)),
    ]


def untouched(rects, plane, halved):
    outside = np.ones(plane.shape, bool)
    for x0, y0, x1, y1 in rects:
        if halved:
            x0, y0, x1, y1 = x0 // 2, y0 // 2, (x1 + 1) // 2, (y1 + 1) // 2
        outside[y0:y1, x0:x1] = False
    return outside


def assert_only_touched(planes, before, rects):
    for plane, old, halved in zip(planes, before, (False, True, True), strict=True):
        outside = untouched(rects, plane, halved)
        assert np.array_equal(plane[outside], old[outside])


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("stale", [False, True])
def test_nothing_changes_outside_the_touched_rectangles(width, height, stale):
    planes, whole = photograph(width, height, spare=43)
    before = [p.copy() for p in planes]
    annotator = Annotator(width, height, 1, 2)
    tags = [Tag("street scene", 0.8), Tag("indoor", 0.1)]
    annotator.draw(planes, scene(width, height), tags, stale)
    assert_only_touched(planes, before, annotator.touched(scene(width, height), tags, stale))
    assert all((rows[:, plane.shape[1] :] == 99).all() for rows, plane in zip(whole, planes, strict=True))
    assert not np.array_equal(planes[0], before[0])


@given(
    boxes=st.lists(st.tuples(*[st.floats(-50, 250)] * 4), max_size=5),
    points=st.lists(st.tuples(st.floats(-10, 210), st.floats(-10, 160)), max_size=5),
    stale=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_nothing_changes_outside_for_any_boxes(boxes, points, stale):
    planes = tuple(np.full(s, 77, np.uint8) for s in ((151, 201), (76, 101), (76, 101)))
    before = [p.copy() for p in planes]
    found = [Detection("cat", 0.5, (min(a, c), min(b, d), max(a, c), max(b, d)), points) for a, b, c, d in boxes]
    annotator = Annotator(201, 151, 1, 2)
    annotator.draw(planes, found, (), stale)
    assert_only_touched(planes, before, annotator.touched(found, (), stale))


def to_rgb(y, u, v, matrix, full):
    a, b, c, d = DECODERS[matrix]
    y = y / 255 if full else (y - 16.0) / 219
    u, v = ((p - 128.0) / (255 if full else 224) for p in (u, v))
    return np.stack([y + a * v, y - b * u - c * v, y + d * u], axis=-1) * 255


@pytest.mark.parametrize("matrix", DECODERS)
@pytest.mark.parametrize("color_range", [0, 1, 2])
@pytest.mark.parametrize(("width", "height"), [(426, 240), (853, 481), (1920, 1080)])
def test_lines_have_the_label_colour_in_every_pixel(matrix, color_range, width, height):
    planes, _ = photograph(width, height)
    # Odd coordinates and the right edge of an odd picture: every pixel of a line must be this colour, none half of it.
    found = [Detection("person", 0.9, (101.0, 103.0, width + 3.0, 171.0), [(150.0, 150.0)])]
    annotator = Annotator(width, height, color_range, matrix)
    annotator.draw(planes, found)
    y, u, v = planes
    u, v = (p.repeat(2, 0).repeat(2, 1)[:height, :width] for p in (u, v))
    rgb = to_rgb(y, u, v, matrix, color_range == 2)
    line = 4 if height == 1080 else 2
    wanted = RGB[6]  # crc32("person") % 16
    for part in (
        rgb[102 : 102 + line, 100:width],
        rgb[172 - line : 172, 100:width],
        rgb[102:172, 100 : 100 + line],
        rgb[102:172, width - line + width % 2 : width],
        rgb[149:152, 150],
        rgb[150, 149:152],
    ):
        assert np.abs(part - wanted).max() < 3


@pytest.mark.parametrize("unspecified", [(426, 240, 6), (1280, 720, 1)])
def test_unspecified_matrix_and_range_draw_as_the_guessed_ones(unspecified):
    width, height, matrix = unspecified
    (guessed, _), (told, _) = photograph(width, height), photograph(width, height)
    Annotator(width, height, 0, 2).draw(guessed, scene(width, height))
    Annotator(width, height, 1, matrix).draw(told, scene(width, height))
    assert all(np.array_equal(a, b) for a, b in zip(guessed, told, strict=True))


@pytest.mark.parametrize(("width", "height"), [(426, 240), (1920, 1080), (3840, 2160)])
@pytest.mark.parametrize("label", ["person", "traffic light", "face", "car", "dog", "人物", "bird"])
def test_the_label_can_be_read(width, height, label):
    planes, _ = photograph(width, height)
    annotator = Annotator(width, height, 1, 2)
    found = [Detection(label, 0.93, (0.3 * width, 0.5 * height, 0.6 * width, 0.9 * height))]
    annotator.draw(planes, found)
    x0, y0, x1, y1 = annotator.touched(found)[4]
    strip = planes[0][y0:y1, x0:x1].astype(int)
    ground = np.bincount(strip.ravel()).argmax()
    ink = np.abs(strip - ground) > 80
    assert 0.05 < ink.mean() < 0.5
    assert ink.any(axis=1).sum() >= max(7, height / 40 * 0.6)
    # A margin of the ground's colour at both ends, and one colour on the chroma planes.
    assert (strip[:, [0, -1]] == ground).all()
    for plane in planes[1:]:
        assert np.ptp(plane[y0 // 2 : y1 // 2, x0 // 2 : x1 // 2]) == 0


def test_the_same_input_gives_the_same_bytes():
    results = []
    for _ in range(2):
        planes, _ = photograph(853, 481)
        annotator = Annotator(853, 481, 1, 2)
        annotator.draw(planes, [])
        annotator.draw(planes, scene(853, 481), [Tag("street", 0.5)])
        once = [p.copy() for p in planes]
        annotator.draw(planes, scene(853, 481), [Tag("street", 0.5)])
        assert all(np.array_equal(a, b) for a, b in zip(once, planes, strict=True))
        results.append(b"".join(p.tobytes() for p in once))
    assert results[0] == results[1]


def test_without_findings_nothing_changes():
    planes, _ = photograph(426, 240)
    before = [p.copy() for p in planes]
    Annotator(426, 240, 1, 2).draw(planes, [])
    assert all(np.array_equal(a, b) for a, b in zip(planes, before, strict=True))


def test_planes_of_another_size_are_refused():
    planes, _ = photograph(426, 240)
    with pytest.raises(ValueError, match="not \\(241, 426\\)"):
        Annotator(426, 241, 1, 2).draw(planes, scene(426, 241))


def test_draws_on_the_planes_of_a_video_frame():
    frame = av.VideoFrame(854, 480, "yuv420p")
    views = tuple(np.frombuffer(p, np.uint8).reshape(-1, p.line_size)[: p.height, : p.width] for p in frame.planes)
    assert frame.planes[0].line_size > 854
    for view in views:
        view[:] = 128
    Annotator(854, 480, 1, 1).draw(views, scene(854, 480))
    y = np.frombuffer(frame.planes[0], np.uint8).reshape(-1, frame.planes[0].line_size)
    assert (y[:480, :854] != 128).any()
