"""``onnx:FILE``: networks that the tests make are run by the real onnxruntime, and what is wrong is one line."""

from __future__ import annotations

import pickle
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from common.errors import ModelError
from tests.workers import onnx_graphs
from tests.workers.onnx_graphs import Graph, cells, colours, square, squares
from tests.workers.pictures import plain
from workers.model import Findings, InputSpec
from workers.models import check_spec, load, onnx_check
from workers.models.memory import is_out_of_memory
from workers.models.onnx_file import CPU, CUDA, OnnxFile
from workers.results import check_results


def ready(path: Path, threshold: float | None = None) -> OnnxFile:
    assert check_spec(f"onnx:{path}") == ""
    model = load(f"onnx:{path}", threshold)
    assert isinstance(model, OnnxFile)
    model.setup("cpu")
    return model


def found(model: OnnxFile, pictures: np.ndarray) -> list[Findings]:
    height, width = pictures.shape[1:3]
    return check_results("onnx", model.predict(pictures), len(pictures), width, height).findings


def side(path: Path, text: str) -> Path:
    path.with_suffix(".model.toml").write_text(text)
    return path


SHAPES = [("n", 3, 64, 64), (1, 3, 64, 64), (4, 3, 64, 64), ("n", 64, 64, 3), (2, 64, 64, 3), ("n", 3, "h", "w")]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_square_is_found_in_its_place_whatever_the_layout_and_the_batch(
    tmp_path: Path, shape: tuple[int | str, ...]
) -> None:
    path = square(tmp_path / "s.onnx", shape)
    (tmp_path / "s.labels.txt").write_text("nothing\nsquare\n")
    if "h" in shape:
        side(path, "size = [64, 64]")
    model = ready(path)
    assert model.input == InputSpec(width=64, height=64)
    pictures = squares(5)
    pictures[4] = 20  # nothing in it: score 0 is padding
    for number, one in enumerate(found(model, pictures)):
        x = 16 + 8 * number
        boxes = [(d.label, d.score, d.box) for d in one.detections]
        assert boxes == ([("square", 1.0, (x, 16, x + 16, 32))] if number < 4 else [])


@pytest.mark.parametrize("names", [("one", "two", "three"), ("detection_boxes", "scores_1", "classes")])
def test_outputs_are_told_apart_by_their_shapes_where_their_names_say_nothing(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    path = square(tmp_path / "s.onnx", names=names)
    if names[0] == "detection_boxes":  # TensorFlow's name: y before x, parts of the picture, unless told otherwise
        side(path, 'boxes = "xyxy"\nrelative = false')
    (one,) = found(ready(path), squares(1))
    assert [d.box for d in one.detections] == [(16, 16, 32, 32)]


def test_a_detector_that_takes_one_picture_at_a_time_is_given_one(tmp_path: Path) -> None:
    """As torchvision's are exported: N is open, and yet the answer is of one picture."""
    model = ready(square(tmp_path / "s.onnx", plain=True))
    assert [one.detections[0].box[0] for one in found(model, squares(3))] == [16, 24, 32]


@pytest.mark.parametrize("n", ["n", 1, 3])
def test_cells_of_a_yolo_head_become_boxes(tmp_path: Path, n: int | str) -> None:
    """The cell of 16 pixels that the square fills, the four of 8 in it, and no class that is less likely."""
    meta = {"names": "{0: 'lamp', 1: 'moon'}", "task": "detect", "imgsz": "[64, 64]", "stride": "32"}
    model = ready(cells(tmp_path / "c.onnx", n=n, meta=meta), 0.9)
    pictures = squares(4)[[0, 2]]
    for x, one in zip((16, 32), found(model, pictures), strict=True):
        boxes = {d.box for d in one.detections}
        assert boxes == {(x, 16, x + 16, 32)} | {(a, b, a + 8, b + 8) for a in (x, x + 8) for b in (16, 24)}
        assert {d.label for d in one.detections} == {"lamp"}
        assert all(d.score == pytest.approx(250 / 255, abs=1e-4) for d in one.detections)


def test_the_threshold_is_a_quarter_unless_given(tmp_path: Path) -> None:
    path = cells(tmp_path / "c.onnx")
    some, all_of_them = found(ready(path), squares(1))[0], found(ready(path, 0.05), squares(1))[0]
    assert len(some.detections) == 6, "the cell of 32 pixels is bright by a quarter and a bit"
    assert len(all_of_them.detections) == 64 + 16 + 4


@pytest.mark.parametrize(
    ("shape", "kind"),
    [(("n", 3, 32, 48), "float"), ((2, 32, 48, 3), "float"), (("n", 32, 48, 3), "uint8"), ((1, 3, 32, 48), "float16")],
)
def test_logits_become_tags_in_rgb_order(tmp_path: Path, shape: tuple[int | str, ...], kind: str) -> None:
    path = colours(tmp_path / "c.onnx", shape, kind, gain=10 / 255 if kind == "uint8" else 10)
    (tmp_path / "c.labels.txt").write_text("red\ngreen\nblue\n")
    model = ready(path)
    assert model.input == InputSpec(width=48, height=32)
    tags = [one.tags for one in found(model, plain())]
    assert [one[0].label for one in tags[:3]] == ["red", "green", "blue"]
    assert tags[0][0].score == pytest.approx(float(np.exp(10) / (np.exp(10) + 3)), abs=1e-3)
    assert sum(tag.score for tag in tags[4]) == pytest.approx(1, abs=1e-3)
    assert {tag.label for tag in tags[4]} == {"red", "green", "blue", "class 3"}
    assert [len(one.tags) for one in found(ready(path, 0.5), plain())] == [1, 1, 1, 0, 0], "a threshold is for tags too"


def test_the_sidecar_says_colours_scale_mean_and_stretching(tmp_path: Path) -> None:
    """What comes in: B, G, R of 0 … 2, less 1, 0, 0.5, divided by 2, 1, 1."""
    path = colours(tmp_path / "c.onnx", gain=1.0)
    side(path, 'colours = "bgr"\nscale = 2\nmean = [1, 0, 0.5]\nstd = [2, 1, 1]\nletterbox = false')
    model = ready(path)
    assert model.input == InputSpec(width=48, height=32, letterbox=False)
    picture = np.empty((1, 32, 48, 3), np.uint8)
    picture[:] = (255, 0, 51)  # R 2, G 0, B 0.4
    logits = np.array([(0.4 - 1) / 2, 0.0, 2 - 0.5, 0.0])
    wanted = np.exp(logits) / np.exp(logits).sum()
    got = {tag.label: tag.score for tag in found(model, picture)[0].tags}
    assert [got[f"class {n}"] for n in range(4)] == pytest.approx(wanted.tolist(), abs=1e-4)


def test_open_sides_are_filled_up_to_whole_strides(tmp_path: Path) -> None:
    """A larger picture (--send-size) goes in as it is; 100 × 70 becomes 128 × 96, and boxes stay where they are."""
    path = side(square(tmp_path / "s.onnx", ("n", 3, "h", "w")), "size = [64, 64]")
    pictures = np.zeros((2, 70, 100, 3), np.uint8)
    pictures[:, 60:70, 90:100] = 255
    boxes = [one.detections[0].box for one in found(ready(path), pictures)]
    assert boxes == [(90, 60, 100, 70)] * 2
    fixed = ready(square(tmp_path / "f.onnx"))
    with pytest.raises(ModelError, match="exported for 64x64 pictures and cannot take 100x70: leave --send-size out"):
        fixed.predict(pictures)


def test_boxes_of_tensorflow_are_relative_and_begin_with_y(tmp_path: Path) -> None:
    """detection_boxes, detection_scores, detection_classes as float, and a number besides."""
    graph = Graph((1, 48, 80, 3), "uint8", "image_tensor")
    x = graph.add("ReduceMax", graph.add("Cast", graph.x, to=TensorProto.FLOAT), axes=[1, 2, 3], keepdims=0)
    zero = graph.add("Mul", x, graph.constant(0))
    outputs = {
        "detection_boxes": [[[0.25, 0.1, 0.75, 0.5], [0, 0, 0, 0]]],
        "detection_classes": [[3, 1]],
        "detection_scores": [[0.5, 0]],
        "num_detections": [2],
    }
    for name, values in outputs.items():
        graph.add("Add", zero, graph.constant(values), name=name)
    (one,) = found(ready(graph.save(tmp_path / "t.onnx", *outputs)), np.zeros((1, 48, 80, 3), np.uint8))
    assert [(d.label, d.score, d.box) for d in one.detections] == [("class 3", 0.5, (8, 12, 40, 36))]


def test_memory_that_is_short_for_two_is_known_as_such_and_one_goes_through(tmp_path: Path) -> None:
    """A network that takes 2 ** 48 numbers more for each picture after the first."""
    graph = Graph(("n", 3, 32, 48))
    n = graph.add("Gather", graph.add("Shape", graph.x), graph.constant([0], np.int64))
    more = graph.add("Mul", graph.add("Sub", n, graph.constant([1], np.int64)), graph.constant([1 << 48], np.int64))
    size = graph.add("Add", more, graph.constant([1], np.int64))
    much = graph.add("ReduceMax", graph.add("Expand", graph.constant([0.0]), size), keepdims=1)
    means = graph.add("ReduceMean", graph.x, axes=[2, 3], keepdims=0)
    model = ready(graph.save(tmp_path / "x.onnx", graph.add("Add", means, much, name="y")))
    for _ in range(2):
        with pytest.raises(ModelError, match="failed on 2 pictures") as caught:
            model.predict(plain()[:2])
        assert is_out_of_memory(caught.value)
        assert found(model, plain()[1:2])[0].tags[0].label == "class 1", "it goes on"


# -- what is refused -------------------------------------------------------------------------------------------------


def test_other_kinds_of_files_are_named_before_anything_starts(tmp_path: Path) -> None:
    whole = square(tmp_path / "s.onnx").read_bytes()
    (tmp_path / "cut.onnx").write_bytes(whole[:-100])
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "text.onnx").write_text("hello, this is no model")
    (tmp_path / "noise.onnx").write_bytes(bytes(range(256)) * 9)
    (tmp_path / "pickle.onnx").write_bytes(pickle.dumps([1]))
    (tmp_path / "lfs.onnx").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with zipfile.ZipFile(tmp_path / "zip.onnx", "w") as archive:
        archive.writestr("a", "b")
    expected = {
        "cut.onnx": "copied in full",
        "empty.onnx": "it is empty",
        "text.onnx": "not an ONNX file",
        "noise.onnx": "not an ONNX file",
        "pickle.onnx": "a pickle, which could run any code and is not opened",
        "zip.onnx": "a zip archive",
        "lfs.onnx": "git lfs pull",
        ".": "is a folder",
        "nowhere.onnx": "does not exist",
    }
    for name, says in expected.items():
        for ask in (check_spec, load):
            with pytest.raises(ModelError, match=says) as caught:
                ask(f"onnx:{tmp_path / name}")
            assert "\n" not in str(caught.value)


def test_a_file_that_only_onnxruntime_can_refuse(tmp_path: Path) -> None:
    """An operator that nobody knows; the cheap check does not look so far."""
    path = colours(tmp_path / "c.onnx")
    path.write_bytes(path.read_bytes().replace(b"ReduceMean", b"ReduceMoon"))
    check_spec(f"onnx:{path}")
    with pytest.raises(ModelError, match=r"cannot be opened by onnxruntime .*ReduceMoon") as caught:
        load(f"onnx:{path}")
    assert "\n" not in str(caught.value)


def test_without_the_package_the_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = square(tmp_path / "s.onnx")
    monkeypatch.setattr(onnx_check.importlib.util, "find_spec", lambda name: None)
    for ask in (check_spec, load):
        with pytest.raises(ModelError, match=r"need the package onnxruntime: pip install 'headrace\[onnx\]'"):
            ask(f"onnx:{path}")


@pytest.mark.parametrize(
    ("shape", "kind", "says"),
    [
        (("n", 1, 64, 64), "float", r"takes float of shape \(n, 1, 64, 64\): one picture tensor"),
        ((3, 64, 64), "float", r"of shape \(3, 64, 64\)"),
        (("n", 3, 64, 99999), "float", "a side may have"),
        (("n", 4, 64, 64), "uint8", "takes uint8"),
    ],
)
def test_inputs_of_another_form_are_named(tmp_path: Path, shape: tuple[int | str, ...], kind: str, says: str) -> None:
    graph = Graph(shape, kind)
    path = graph.save(
        tmp_path / "x.onnx", graph.add("Identity", graph.x, name="y"), kinds={"y": onnx_graphs.TYPES[kind]}
    )
    with pytest.raises(ModelError, match=says):
        load(f"onnx:{path}")


@pytest.mark.parametrize("form", ["feature map", "one class", "grey", "text"])
def test_answers_of_another_form_are_named_at_setup(tmp_path: Path, form: str) -> None:
    graph = Graph(("n", 3, 32, 48))
    kinds = {}
    if form == "feature map":
        graph.add("Mul", graph.x, graph.constant(2), name="y")
    elif form == "one class":
        graph.add("ReduceMean", graph.x, axes=[1, 2, 3], keepdims=0, name="mean")
        graph.add("Unsqueeze", "mean", graph.constant([1], np.int64), name="y")
    elif form == "grey":
        graph.add("ReduceMean", graph.x, axes=[1], keepdims=0, name="y")
        side(tmp_path / "x.onnx", 'form = "tags"')
    else:
        graph.add("Cast", graph.x, to=TensorProto.STRING)
        graph.add("Identity", "n0", name="y")
        kinds = {"y": TensorProto.STRING}
    model = load(f"onnx:{graph.save(tmp_path / 'x.onnx', 'y', kinds=kinds)}")
    with pytest.raises(ModelError, match=r"returned y \(1"):
        model.setup("cpu")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sise = [1, 2]", "unknown field `sise`"),
        ('size = "large"', r"Expected `array.*size"),
        ("std = [0, 1, 1]", "no zero"),
        ("mean = [1, 1]", "one number, or three"),
        ("size = [80, 64]", "takes 64x64 pictures, and its sidecar says 80x64"),
        ("a b", "model.toml"),
    ],
)
def test_a_sidecar_that_makes_no_sense(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        load(f"onnx:{side(square(tmp_path / 's.onnx'), text)}")
    assert "\n" not in str(caught.value)


def test_turned_boxes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="obb"):
        load(f"onnx:{cells(tmp_path / 'c.onnx', meta={'task': 'obb'})}")


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_gpu_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And ``auto`` does not choose it: not where onnxruntime knows none, nor where there is no driver."""
    model = load(f"onnx:{square(tmp_path / 's.onnx')}")
    assert isinstance(model, OnnxFile)
    with pytest.raises(ModelError, match="has no CUDA: pip install onnxruntime-gpu in its place, or choose --device"):
        model.setup("cuda:0")
    with pytest.raises(ModelError, match="'tpu' is not known"):
        model.setup("tpu")
    assert model.best_device() == "cpu"
    module = sys.modules["workers.models.onnx_file"]
    monkeypatch.setattr(module.onnxruntime, "get_available_providers", lambda: [CUDA, CPU])  # type: ignore[attr-defined]
    monkeypatch.setattr(module, "DRIVER", (str(tmp_path / "no"),))
    assert model.best_device() == "cpu"
    monkeypatch.setattr(module, "DRIVER", (str(tmp_path),))
    assert model.best_device() == "cuda:0"
    with pytest.raises(ModelError, match=r"libraries are missing|cannot be opened"):
        model.setup("cuda:0")  # onnxruntime itself would go on on the CPU
