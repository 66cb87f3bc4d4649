"""Names become models, and every mistake becomes one line that says what to do."""

import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from common.errors import Exit, ModelError
from workers.model import InputSpec, Model
from workers.models import NAMES, check_spec, load
from workers.models.echo import BOXES
from workers.results import check_results


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder with a user's modules, as the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "headrace_test_mine").mkdir()
    (tmp_path / "headrace_test_mine" / "__init__.py").write_text("raise RuntimeError('the parent was imported')\n")
    (tmp_path / "headrace_test_mine" / "model.py").write_text("")
    (tmp_path / "headrace_test_broken.py").write_text("import nowhere_to_be_found\n")
    (tmp_path / "headrace_test_models.py").write_text(
        textwrap.dedent(
            """
            from workers.model import Findings, InputSpec

            class Good:
                input = InputSpec(width=8, height=8)
                def setup(self, device): pass
                def predict(self, pictures): return [Findings() for _ in pictures]

            class Raises(Good):
                def __init__(self): raise FileNotFoundError("no weights.bin")

            class NoInput:
                def setup(self, device): pass
                def predict(self, pictures): pass

            class NoHooks:
                input = InputSpec(width=8, height=8)

            class Outer:
                Inner = Good

            good = Good()
            """
        )
    )
    yield tmp_path
    for name in [n for n in sys.modules if n.startswith("headrace_test_")]:
        del sys.modules[name]


@pytest.mark.parametrize("spec", ["echo", "echo:5", "face", "objects"])
def test_named_models_have_the_hooks(spec):
    check_spec(spec)
    model = load(spec)
    assert isinstance(model, Model)
    size = f"{model.input.width}x{model.input.height}"
    assert size in [entry.size for entry in NAMES if entry.name == spec.partition(":")[0]]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("fcae", "did you mean face"),
        ("object", "did you mean objects"),
        ("yolo", "did you mean yolo:FILE"),
        ("speech", "known are echo, face, objects, torch:FILE, onnx:FILE, yolo:FILE, package.module:Class"),
        ("", "unknown model"),
        ("model.pt2", "write torch:model.pt2"),
        ("model.onnx", "write onnx:model.onnx"),
        ("best.pt", "write torch:best.pt, or yolo:best.pt where it is one of ultralytics"),
        ("torch:", "lacks its file"),
        ("onnx:", "lacks its file: write onnx:FILE, an ONNX model"),
        ("yolo:", "lacks its file"),
        ("torch:nowhere.pt2", "does not exist"),
        ("echo:fast", "echo:MS"),
        ("echo:-1", "echo:MS"),
        ("echo:nan", "echo:MS"),
        ("face:0.5", "takes nothing after a colon"),
        ("no_such_package.at.all:Model", "no module 'no_such_package.at.all'"),
        ("common.no_such:Model", "no module 'common.no_such'"),
        ("common.errors.deeper:Model", "no module 'common.errors.deeper'"),
        ("../evil:Model", "unknown model"),
    ],
)
@pytest.mark.parametrize("ask", [check_spec, load])
def test_mistakes_are_named(ask, spec, says):
    with pytest.raises(ModelError, match=says) as caught:
        ask(spec)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == Exit.MODEL


def test_thresholds_are_for_detectors_only():
    with pytest.raises(ModelError, match="takes no threshold"):
        load("echo", 0.5)
    with pytest.raises(ModelError, match="not between 0 and 1"):
        load("face", 1.5)


def test_a_class_in_the_working_directory_is_loaded(package):
    check_spec("headrace_test_models:Good")
    assert load("headrace_test_models:Good").input == InputSpec(width=8, height=8)
    assert isinstance(load("headrace_test_models:Outer.Inner"), Model)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("headrace_test_models:Godo", "no class Godo; did you mean Good"),
        ("headrace_test_models:good", "is a Good, not a class"),
        ("headrace_test_models:NoHooks", r"lacks setup\(\) and predict\(\)"),
        ("headrace_test_models:NoInput", "lacks input = InputSpec"),
        ("headrace_test_models:Raises", r"Raises\(\) failed: FileNotFoundError: no weights.bin"),
        ("headrace_test_broken:Model", "importing headrace_test_broken failed: ModuleNotFoundError"),
        ("headrace_test_mine.model:Model", "importing headrace_test_mine.model failed: RuntimeError: the parent"),
    ],
)
def test_what_is_wrong_with_a_class_is_named(package, spec, says):
    check_spec(spec)  # the cheap check imports nothing, so it cannot know
    with pytest.raises(ModelError, match=says):
        load(spec)


def test_the_cheap_check_imports_neither_torch_nor_the_users_module(package):
    code = (
        "import sys; from workers.models import NAMES, check_spec\n"
        "for spec in ('echo', 'face', 'objects', 'headrace_test_mine.model:Model', 'headrace_test_models:Good'):\n"
        "    check_spec(spec)\n"
        "print(sorted({'torch', 'headrace_test_mine', 'headrace_test_models'} & set(sys.modules)))"
    )
    path = [p for p in sys.path if p] + [str(package)]
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}\n{code}"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (ran.stdout.strip(), ran.returncode) == ("[]", 0), ran.stderr


def test_echo_boxes_are_relative_to_the_picture():
    model = load("echo")
    model.setup("cpu")
    found = model.predict(np.zeros((3, 200, 100, 3), np.uint8))
    checked = check_results("echo", found, 3, 100, 200)
    assert len(checked.findings) == 3
    boxes = [d.box for d in checked.findings[2].detections]
    assert boxes == [pytest.approx((x0 * 100, y0 * 200, x1 * 100, y1 * 200)) for x0, y0, x1, y1 in BOXES]


def test_echo_imitates_a_slow_model():
    model = load("echo:20")
    started = time.monotonic()
    model.predict(np.zeros((3, 36, 64, 3), np.uint8))
    assert time.monotonic() - started >= 0.06


def test_the_example_finds_the_bright_corner():
    model = load("examples.brightness:Brightness")
    model.setup("cpu")
    pictures = np.zeros((2, model.input.height, model.input.width, 3), np.uint8)
    pictures[0, -20:, -30:] = 255
    pictures[1] = 250
    checked = check_results("brightness", model.predict(pictures), 2, model.input.width, model.input.height)
    dark, bright = checked.findings
    assert [dark.tags[0].label, bright.tags[0].label] == ["dark", "bright"]
    assert dark.detections[0].box == (280, 161, 320, 184)
