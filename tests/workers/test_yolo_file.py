"""``yolo:FILE``, against a stand-in for ultralytics that implements the part of its public interface that is used.

The stand-in is a package in a folder of its own, as installed: ``YOLO(path)``, ``overrides``, ``predict(list, …)`` and
``Results`` with ``boxes``, ``probs``, ``keypoints``, ``obb`` and ``names``. Where the real package is installed, the
last test asks that instead.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import ModelError
from workers.model import InputSpec
from workers.models import check_spec, load, yolo_check
from workers.models.yolo_file import ENVIRONMENT
from workers.results import check_results

REAL = importlib.util.find_spec("ultralytics")

#: Finds the red part of each picture, given as BGR, and says what it was called with in ``calls``. The kind of network
#: is the beginning of the file's name.
STAND_IN = """
import os
import numpy as np
import torch
from types import SimpleNamespace

__version__ = "8.4.0"
SEEN = {name: os.environ.get(name) for name in ("ULTRALYTICS_SAFE_LOAD", "YOLO_OFFLINE", "YOLO_AUTOINSTALL")}
calls = []

class YOLO:
    def __init__(self, model, task=None, verbose=False):
        assert os.path.isabs(model), "a bare name would be downloaded"
        self.file = os.path.basename(model)
        if self.file.startswith("broken"):
            raise TypeError("ERROR: not a loadable\\ncheckpoint")
        self.overrides = {"imgsz": [320, 640]} if self.file.endswith(".pt") else {}
        self.predictor = None

    def predict(self, source, stream=False, **how):
        assert isinstance(source, list)
        assert all(one.dtype == np.uint8 and one.flags.c_contiguous for one in source)
        calls.append((len(source), source[0].shape, how))
        if self.file.startswith("full"):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        if self.file.endswith(".onnx"):
            if len(source) > 1:
                raise RuntimeError("Got invalid dimensions for input: images index: 0 Got: 2 Expected: 1")
            self.predictor = SimpleNamespace(imgsz=[96, 128])
        return [self.look(one, how["conf"]) for one in source]

    def look(self, picture, conf):
        kind = self.file.partition(".")[0]
        result = SimpleNamespace(names={0: "person", 5: "bus"}, boxes=None, probs=None, keypoints=None, obb=None)
        ys, xs = np.nonzero((picture[..., 2] > 200) & (picture[..., 0] < 100))
        score = 0.9 if len(xs) else 0.1
        if kind == "tags":
            conf = torch.tensor([score, 1 - score])
            result.probs = SimpleNamespace(top5=[5, 0], top5conf=conf)
            return result
        some = len(xs) and score >= conf
        box = [[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]] if some else np.zeros((0, 4))
        xyxy = torch.tensor(np.array(box), dtype=torch.float32)
        m = len(xyxy)
        found = SimpleNamespace(xyxy=xyxy, conf=torch.full((m,), score), cls=torch.full((m,), 5.0))
        if kind == "turned":
            corners = xyxy[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(m, 4, 2)
            result.obb = SimpleNamespace(**vars(found), xyxyxyxy=corners)
        else:
            result.boxes = found
        if kind == "pose":
            middle = (xyxy[:, :2] + xyxy[:, 2:]) / 2
            points = torch.stack([middle, middle + 1], 1)
            result.keypoints = SimpleNamespace(data=torch.cat([points, torch.ones(m, 2, 1)], 2))
        return result
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the stand-in, and files that look like ones of ultralytics."""
    folder = tmp_path / "site" / "ultralytics"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(STAND_IN)
    (folder / "utils.py").write_text("import os\nSAFE_LOAD = os.environ['ULTRALYTICS_SAFE_LOAD'] == 'true'\n")
    for name in ("boxes", "pose", "tags", "turned", "full", "broken"):
        with zipfile.ZipFile(tmp_path / f"{name}.pt", "w") as archive:
            archive.writestr("data.pkl", "")
    (tmp_path / "boxes.onnx").write_bytes(b"\x08\x08")
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    forget = [name for name in sys.modules if name.partition(".")[0] == "ultralytics"]
    for name in forget:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(folder.parent))
    yield tmp_path
    for name in ("ultralytics", "ultralytics.utils"):
        sys.modules.pop(name, None)
    for name in ENVIRONMENT:
        os.environ.pop(name, None)


def ready(path: Path, threshold: float | None = None) -> Any:
    check_spec(f"yolo:{path}")
    model = load(f"yolo:{path}", threshold)
    model.setup("cpu")
    return model


def red(count: int = 3, width: int = 640, height: int = 320) -> np.ndarray:
    """Blue pictures; a red block in each but the last moves by 40 pixels."""
    pictures = np.zeros((count, height, width, 3), np.uint8)
    pictures[..., 2] = 255
    for number in range(count - 1):
        pictures[number, 50:100, 40 * number : 40 * number + 60] = (255, 0, 0)
    return pictures


def test_boxes_names_and_the_order_of_colours(package: Path) -> None:
    model = ready(package / "boxes.pt")
    assert model.input == InputSpec(width=640, height=320)
    found = check_results("yolo", model.predict(red()), 3, 640, 320).findings
    boxes = [[(d.label, round(d.score, 3), d.box, d.points) for d in one.detections] for one in found]
    assert boxes == [[("bus", 0.9, (0, 50, 60, 100), [])], [("bus", 0.9, (40, 50, 100, 100), [])], []]
    count, shape, how = sys.modules["ultralytics"].calls[-1]
    assert (count, shape) == (3, (320, 640, 3))
    assert how == {"conf": 0.25, "device": "cpu", "verbose": False, "save": False, "imgsz": [320, 640]}


def test_a_larger_picture_is_looked_at_as_it_is_and_in_whole_strides(package: Path) -> None:
    model = ready(package / "boxes.pt", 0.95)
    found = model.predict(red(2, 1000, 400))
    assert [one.detections for one in found] == [[], []], "0.9 is under the threshold"
    _, shape, how = sys.modules["ultralytics"].calls[-1]
    assert (shape, how["imgsz"], how["conf"]) == ((400, 1000, 3), [416, 1024], 0.95)


def test_points_of_poses_and_corners_of_turned_boxes(package: Path) -> None:
    (one, _) = ready(package / "pose.pt").predict(red(2))
    assert one.detections[0].points == [(30, 75), (31, 76)]
    (one, _) = ready(package / "turned.pt").predict(red(2))
    assert one.detections[0].box == (0, 50, 60, 100)
    assert one.detections[0].points == [(0, 50), (60, 50), (60, 100), (0, 100)]


def test_classes_become_tags(package: Path) -> None:
    tags = [[(t.label, round(t.score, 3)) for t in one.tags] for one in ready(package / "tags.pt").predict(red(2))]
    assert tags == [[("bus", 0.9), ("person", 0.1)], [("bus", 0.1), ("person", 0.9)]]
    assert [len(one.tags) for one in ready(package / "tags.pt", 0.5).predict(red(2))] == [1, 1]


def test_a_file_exported_for_one_picture_is_given_one(package: Path) -> None:
    model = ready(package / "boxes.onnx")
    assert model.input == InputSpec(width=128, height=96), "known once it has run"
    found = model.predict(red(3, 128, 96))
    assert [len(one.detections) for one in found] == [1, 1, 0]
    assert "imgsz" not in sys.modules["ultralytics"].calls[-1][2], "it has a size of its own"


def test_the_library_is_told_to_run_install_and_report_nothing(
    package: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready(package / "boxes.pt")
    seen = sys.modules["ultralytics"].SEEN
    assert seen == {"ULTRALYTICS_SAFE_LOAD": "true", "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
    assert "pickle" not in caplog.text, "opened as weights only"
    monkeypatch.setattr(sys.modules["ultralytics.utils"], "SAFE_LOAD", False)
    with caplog.at_level(logging.WARNING):
        load(f"yolo:{package / 'boxes.pt'}")
    assert "is a pickle, which may run anything when it is opened" in caplog.text


def test_the_check_says_what_a_pickle_may_do(package: Path) -> None:
    assert "is a pickle, which may run anything when it is opened" in check_spec(f"yolo:{package / 'boxes.pt'}")
    assert check_spec(f"yolo:{package / 'boxes.onnx'}") == ""
    ran = subprocess.run(
        [sys.executable, "-m", "workers", "--check", f"yolo:{package / 'boxes.pt'}"],
        capture_output=True, text=True, timeout=60, check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(package / "site"), os.getcwd()])},
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("note: yolo:")


def test_what_is_refused(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (package / "text.pt").write_text("not torch's")
    (package / "net.tflite").write_text("")
    expected = {
        "nowhere.pt": r"does not exist \(nothing is downloaded here\)",
        ".": "is a folder",
        "text.pt": "not saved by torch",
        "net.tflite": r"files that end in \.pt",
    }
    for name, says in expected.items():
        for ask in (check_spec, load):
            with pytest.raises(ModelError, match=says) as caught:
                ask(f"yolo:{package / name}")
            assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match=r"cannot be opened by ultralytics 8\.4\.0: TypeError: ERROR: not a loadable"):
        load(f"yolo:{package / 'broken.pt'}")
    monkeypatch.setattr(yolo_check.importlib.util, "find_spec", lambda name: None)
    for ask in (check_spec, load):
        with pytest.raises(ModelError, match=r"need the package ultralytics: pip install 'headrace\[yolo\]'"):
            ask(f"yolo:{package / 'boxes.pt'}")


def test_memory_that_is_short_is_still_known_as_such(package: Path) -> None:
    from workers.models.memory import is_out_of_memory

    with pytest.raises(ModelError, match="failed on 1 pictures: OutOfMemoryError") as caught:
        ready(package / "full.pt")
    assert is_out_of_memory(caught.value)


@pytest.mark.skipif(REAL is None, reason="ultralytics is not installed")
def test_the_real_package_gives_what_it_would_give_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pose network with random weights; its best boxes, scores and points come through unchanged."""
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    import ultralytics

    ultralytics.YOLO("yolov8n-pose.yaml").save(str(tmp_path / "p.pt"))
    model = ready(tmp_path / "p.pt", 0.001)
    pictures = np.random.default_rng(1).integers(0, 256, (2, 320, 320, 3), np.uint8)
    found = check_results("yolo", model.predict(pictures), 2, 320, 320).findings
    bgr = [np.ascontiguousarray(one[..., ::-1]) for one in pictures]
    own = ultralytics.YOLO(str(tmp_path / "p.pt")).predict(bgr, conf=0.001, imgsz=[320, 320], verbose=False)
    for one, other in zip(found, own, strict=True):
        assert len(one.detections) == len(other.boxes) > 0
        assert [d.score for d in one.detections] == pytest.approx(other.boxes.conf.tolist())
        assert np.array([d.box for d in one.detections]) == pytest.approx(other.boxes.xyxy.numpy(), abs=1e-3)
        assert np.array([d.points for d in one.detections]) == pytest.approx(other.keypoints.data[..., :2].numpy())
