"""``face`` and ``objects`` on scikit-image's stills, alone, in batches and in large pictures."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
import skimage.data
import torch

from common.errors import ModelError
from workers.labels import coco
from workers.letterbox import Placement, blank
from workers.model import Detection, Model
from workers.models import face, load, objects
from workers.models.device import WEIGHTS, load_weights, open_device
from workers.models.tiles import OVERLAP, Tiling

#: The face in skimage's 512 × 512 astronaut, by eye: x0, y0, x1, y1.
ASTRONAUT = (172, 75, 277, 180)


@pytest.fixture(scope="module")
def faces() -> Model:
    model = load("face")
    model.setup("cpu")
    return model


@pytest.fixture(scope="module")
def things() -> Model:
    model = load("objects")
    model.setup("cpu")
    return model


def iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def shown(model: Model, picture: np.ndarray) -> list[Detection]:
    """What ``model`` finds in ``picture`` at its input size, in ``picture``'s pixels."""
    size, canvas = (picture.shape[1], picture.shape[0]), (model.input.width, model.input.height)
    placement = Placement.of(size, size, canvas, model.input.letterbox)
    canvases = blank(1, canvas)
    placement.paste(picture, canvases[0])
    return placement.to_source(model.predict(canvases)[0])[0].detections


def astronaut_in(scene: np.ndarray, face_pixels: float, corner: tuple[int, int]) -> tuple[float, ...]:
    """Paste the astronaut into ``scene`` with a face of that size → the face's box."""
    scale = face_pixels / (ASTRONAUT[2] - ASTRONAUT[0])
    small = cv2.resize(skimage.data.astronaut()[:256], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    x, y = corner
    scene[y : y + small.shape[0], x : x + small.shape[1]] = small
    return tuple(v * scale + (x, y)[i % 2] for i, v in enumerate(ASTRONAUT))


def coffee(width: int, height: int) -> np.ndarray:
    return cv2.resize(skimage.data.coffee(), (width, height), interpolation=cv2.INTER_AREA)


def test_the_astronauts_face_is_found_with_its_points(faces):
    (found,) = shown(faces, skimage.data.astronaut())
    assert found.label == "face"
    assert found.score >= 0.8
    assert iou(found.box, ASTRONAUT) > 0.8
    assert len(found.points) == face.POINTS
    (right_x, eye_y), (left_x, _), (nose_x, nose_y), (_, mouth_y), *_ = found.points
    assert right_x < nose_x < left_x
    assert eye_y < nose_y < mouth_y


@pytest.mark.parametrize("shape", [(288, 512), (512, 288)])
def test_a_letterboxed_face_is_mapped_to_its_place(faces, shape):
    (found,) = shown(faces, skimage.data.astronaut()[: shape[0], -shape[1] - 60 : -60 or None][:, : shape[1]])
    left = max(0, 512 - shape[1] - 60)
    assert iou(found.box, (ASTRONAUT[0] - left, ASTRONAUT[1], ASTRONAUT[2] - left, ASTRONAUT[3])) > 0.75


def test_no_face_where_there_is_none(faces):
    assert shown(faces, skimage.data.coffee()) == []
    assert shown(faces, np.full((300, 300, 3), 128, np.uint8)) == []


@pytest.mark.parametrize(("name", "label"), [("cat", "cat"), ("coffee", "cup"), ("astronaut", "person")])
def test_things_are_found_and_named(things, name, label):
    found = {d.label: d for d in shown(things, getattr(skimage.data, name)())}
    assert found[label].score >= 0.6
    assert label in coco.NAMES


def test_the_cup_is_where_it_is(things):
    cup = next(d for d in shown(things, skimage.data.coffee()) if d.label == "cup")
    assert iou(cup.box, (165, 20, 415, 250)) > 0.75


@pytest.mark.parametrize("spec", ["face", "objects"])
def test_a_batch_finds_what_single_pictures_do(spec, request):
    model = request.getfixturevalue({"face": "faces", "objects": "things"}[spec])
    size = (model.input.width, model.input.height)
    stills = [getattr(skimage.data, n)() for n in ("astronaut", "cat", "coffee", "astronaut")]
    batch = np.stack([cv2.resize(s, size, interpolation=cv2.INTER_AREA) for s in stills])
    together = model.predict(batch)
    assert sum(len(f.detections) for f in together) >= 2
    for number, found in enumerate(together):
        (alone,) = model.predict(batch[number : number + 1])
        assert [d.label for d in found.detections] == [d.label for d in alone.detections]
        for a, b in zip(found.detections, alone.detections, strict=True):
            assert a.score == pytest.approx(b.score, abs=1e-3)
            assert a.box == pytest.approx(b.box, abs=0.1)


def test_read_only_and_strided_pictures_are_taken(faces):
    picture = cv2.resize(skimage.data.astronaut(), (256, 256), interpolation=cv2.INTER_AREA)
    plain = faces.predict(picture[None])[0]
    frozen = picture[None].copy()
    frozen.setflags(write=False)
    assert faces.predict(frozen)[0] == plain
    assert faces.predict(np.ascontiguousarray(picture[:, ::-1])[None][:, :, ::-1])[0] == plain


def test_a_stricter_threshold_leaves_less():
    model = load("face", 0.99)
    model.setup("cpu")
    assert shown(model, skimage.data.astronaut()) == []


def test_an_unusable_device_is_one_clear_line():
    with pytest.raises(ModelError, match="--device"):
        open_device("warp:9")
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="cuda:0"):
            load("face").setup("cuda:0")


def test_damaged_weights_are_one_clear_line(tmp_path):
    path, cpu = tmp_path / "w.safetensors", torch.device("cpu")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_weights(face.BlazeFace(), path, cpu)
    path.write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_weights(face.BlazeFace(), path, cpu)
    with pytest.raises(ModelError, match="cannot be loaded") as caught:
        load_weights(face.BlazeFace(), WEIGHTS / "objects_ssdlite_coco.safetensors", cpu)
    assert "\n" not in str(caught.value)


def test_weights_and_anchors_fit_the_networks():
    assert {p.name for p in WEIGHTS.glob("*.safetensors")} >= {
        "face_blazeface_back.safetensors",
        "objects_ssdlite_coco.safetensors",
    }
    assert face.anchors().shape == (896, 2)
    assert objects.anchors().shape == (1917, 4)
    # The first rows of the original graph's anchor constant, rounded there to float16.
    assert objects.anchors()[0].tolist() == pytest.approx([0.0263, 0.0263, 0.1, 0.1], abs=1e-4)
    assert objects.anchors()[-1].tolist() == pytest.approx([0.5, 0.5, 0.9747, 0.9747], abs=1e-4)
    assert len(coco.NAMES) == objects.CLASSES


# -- larger pictures -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("corner", [(60, 500), (700, 250)])
def test_a_small_face_is_found_in_a_large_picture_only(faces, corner):
    scene = coffee(1280, 720)
    truth = astronaut_in(scene, 40, corner)
    assert shown(faces, scene) == []
    (found,) = faces.predict(scene[None])[0].detections
    assert iou(found.box, truth) > 0.6
    nose = found.points[2]
    assert truth[0] < nose[0] < truth[2]
    assert truth[1] < nose[1] < truth[3]


@pytest.mark.parametrize("pixels", [100, 250])
def test_a_larger_face_is_found_once(faces, pixels):
    scene = coffee(1280, 720)
    truth = astronaut_in(scene, pixels, (20, 40))
    (found,) = faces.predict(scene[None])[0].detections
    assert iou(found.box, truth) > 0.6


def test_a_small_cat_is_found_in_a_large_picture(things):
    scene = np.full((720, 1280, 3), 128, np.uint8)
    cat = cv2.resize(skimage.data.cat(), (150, 100), interpolation=cv2.INTER_AREA)
    scene[400:500, 900:1050] = cat
    found = [d for d in things.predict(scene[None])[0].detections if d.label == "cat"]
    assert len(found) == 1
    assert iou(found[0].box, (900, 400, 1034, 500)) > 0.6


def test_large_batches_keep_their_order(faces):
    empty, scene = coffee(640, 360), coffee(640, 360)
    truth = astronaut_in(scene, 60, (300, 100))
    found = faces.predict(np.stack([empty, scene, empty]))
    assert [len(f.detections) for f in found] == [0, 1, 0]
    assert iou(found[1].detections[0].box, truth) > 0.6


@pytest.mark.parametrize(
    "size", [(1280, 720), (720, 1280), (640, 360), (512, 512), (1920, 1080), (3840, 2160), (300, 200)]
)
def test_regions_cover_the_picture_and_overlap(size):
    regions = Tiling(256, 256, True).regions(*size)
    assert regions[0] == (0, 0, *size)
    covered = np.zeros((size[1], size[0]), bool)
    for x0, y0, x1, y1 in regions[1:]:
        assert 0 <= x0 < x1 <= size[0]
        assert 0 <= y0 < y1 <= size[1]
        assert x1 - x0 == y1 - y0
        covered[y0:y1, x0:x1] = True
    assert covered.all() or len(regions) == 1
    for side in {r[2] - r[0] for r in regions[1:]}:
        level = [r for r in regions[1:] if r[2] - r[0] == side]
        for axis in (0, 1):
            starts = sorted({r[axis] for r in level})
            assert all(b - a <= side * (1 - OVERLAP) + 1 for a, b in pairwise(starts))
