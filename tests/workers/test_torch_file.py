"""``torch:FILE``: exported programs run, and files that could run code are refused."""

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from common.errors import ModelError
from tests.workers.pictures import plain
from workers.model import InputSpec
from workers.models import check_spec, load
from workers.models.pt2_archive import check_file
from workers.results import check_results


class Classifier(nn.Module):
    """Logits: the mean of R, G and B, times ten, and a constant."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(10.0))

    def forward(self, x):
        means = x.mean((2, 3)) * self.gain
        return torch.cat([means, torch.zeros_like(means[:, :1])], 1)


class Detector(nn.Module):
    """One box of the whole picture, scored by its brightness, and one of score 0 as padding."""

    def __init__(self, as_dict=False):
        super().__init__()
        self.as_dict = as_dict
        self.register_buffer("box", torch.tensor([[[0.0, 0.0, 48.0, 32.0], [0.0, 0.0, 0.0, 0.0]]]))

    def forward(self, x):
        boxes = self.box.expand(x.shape[0], 2, 4).clone()
        bright = x.mean((1, 2, 3))
        scores = torch.stack([bright, torch.zeros_like(bright)], 1)
        labels = torch.ones_like(scores, dtype=torch.int64)
        if self.as_dict:
            return {"boxes": boxes, "scores": scores, "labels": labels}
        return boxes, scores, labels


def export(model: nn.Module, path: Path, batch: int = 2, dynamic: object = False, shape=(3, 32, 48)) -> str:
    dim = torch.export.Dim("n", min=1, max=64) if dynamic is True else dynamic
    shapes = ({0: dim},) if dynamic else None
    program = torch.export.export(model.eval(), (torch.zeros(batch, *shape),), dynamic_shapes=shapes)
    torch.export.save(program, path)
    return f"torch:{path}"


def ready(spec: str):
    check_spec(spec)
    model = load(spec)
    model.setup("cpu")
    return model


@pytest.mark.parametrize("dynamic", [True, False, torch.export.Dim.AUTO])
def test_logits_become_tags_in_rgb_order(tmp_path, dynamic):
    (tmp_path / "c.labels.txt").write_text("red\ngreen\nblue\n")
    model = ready(export(Classifier(), tmp_path / "c.pt2", dynamic=dynamic))
    assert model.input == InputSpec(width=48, height=32)
    found = model.predict(plain())
    assert [f.tags[0].label for f in found[:3]] == ["red", "green", "blue"]
    assert found[0].tags[0].score == pytest.approx(float(torch.tensor([10.0, 0, 0, 0]).softmax(0)[0]), abs=1e-5)
    assert sum(t.score for t in found[4].tags) == pytest.approx(1)
    assert {t.label for t in found[4].tags} == {"red", "green", "blue", "class 3"}
    check_results("c", found, 5, 48, 32)
    assert model.predict(plain()[1:2])[0].tags[0].label == "green"


@pytest.mark.parametrize("as_dict", [True, False])
@pytest.mark.parametrize("dynamic", [True, False])
def test_boxes_become_detections_without_their_padding(tmp_path, as_dict, dynamic):
    model = ready(export(Detector(as_dict), tmp_path / "d.pt2", dynamic=dynamic))
    found = model.predict(plain())
    check_results("d", found, 5, 48, 32)
    assert [len(f.detections) for f in found] == [1, 1, 1, 1, 0]
    white = found[3].detections[0]
    assert (white.label, white.box) == ("class 1", (0, 0, 48, 32))
    assert white.score == pytest.approx(1)


def test_a_batch_above_the_programs_bound_is_split(tmp_path):
    model = ready(export(Classifier(), tmp_path / "c.pt2", dynamic=True))
    pictures = np.repeat(plain(), 20, axis=0)  # 100 pictures, bound 64
    labels = [f.tags[0].label for f in model.predict(pictures)]
    assert labels[:60] == ["class 0"] * 20 + ["class 1"] * 20 + ["class 2"] * 20
    assert len(labels) == 100


def test_a_real_network_runs(tmp_path):
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU6(), nn.MaxPool2d(2), nn.Dropout(0.1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 12), nn.GELU(),
    )  # fmt: skip
    model = ready(export(net, tmp_path / "n.pt2", dynamic=True))
    pictures = np.random.default_rng(5).integers(0, 256, (4, 32, 48, 3), np.uint8)
    with torch.inference_mode():
        wanted = net(torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255).softmax(1).max(1)
    found = model.predict(pictures)
    assert [f.tags[0].score for f in found] == pytest.approx(wanted.values.tolist(), abs=1e-5)
    assert [len(f.tags) for f in found] == [5] * 4


class Wrong(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.form = form

    def forward(self, x):
        return {
            "feature map": x * 2,
            "two": (x.mean((2, 3)), x.mean((2, 3))),
            "keys": {"box": x.mean((2, 3))},
            "shapes": (x.mean((2, 3)), x.mean((2, 3)), x.mean((2, 3))),
        }[self.form]


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ("feature map", r"a tensor \(1, 3, 32, 48\)"),
        ("two", "2 values"),
        ("keys", r"\['box'\]"),
        ("shapes", "N x M x 4"),
    ],
)
def test_answers_of_another_form_are_named_at_setup(tmp_path, form, says):
    with pytest.raises(ModelError, match=says):
        ready(export(Wrong(form), tmp_path / "w.pt2", batch=1))


def test_inputs_of_another_form_are_named(tmp_path):
    with pytest.raises(ModelError, match="3 x H x W"):
        ready(export(nn.Flatten(), tmp_path / "gray.pt2", shape=(1, 32, 48)))
    program = torch.export.export(nn.Bilinear(4, 4, 2), (torch.zeros(1, 4), torch.zeros(1, 4)))
    torch.export.save(program, tmp_path / "two.pt2")
    with pytest.raises(ModelError, match="takes 2 inputs"):
        ready(f"torch:{tmp_path / 'two.pt2'}")


def test_pictures_of_another_size_are_refused(tmp_path):
    model = ready(export(Classifier(), tmp_path / "c.pt2"))
    with pytest.raises(ModelError, match="exported for 48x32 pictures and cannot take 64x64"):
        model.predict(np.zeros((1, 64, 64, 3), np.uint8))


# -- files that are not opened ---------------------------------------------------------------------------------------


def test_other_kinds_of_files_are_named(tmp_path):
    net = nn.Linear(2, 2)
    torch.save(net, tmp_path / "zip.pt")
    torch.save(net.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps([1, 2]))
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    (tmp_path / "noise.pt2").write_bytes(bytes(range(256)) * 9)
    (tmp_path / "empty.pt2").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "other.pt2", "w") as archive:
        archive.writestr("a/b.txt", "hello")
    expected = {
        "zip.pt": "pickled by torch.save",
        "old.pt": "a pickle",
        "plain.pkl": "a pickle",
        "w.safetensors": "weights without a program",
        "noise.pt2": "not an exported program",
        "empty.pt2": "not an exported program",
        "other.pt2": "a zip archive without",
    }
    for name, says in expected.items():
        with pytest.raises(ModelError, match=says) as caught:
            check_spec(f"torch:{tmp_path / name}")
        assert "torch.export.save" in str(caught.value)
    with pytest.raises(ModelError, match="is a folder"):
        check_spec(f"torch:{tmp_path}")


def rewritten(source: Path, target: Path, change) -> Path:
    """A copy of the archive; ``change(name, data)`` → new data for each record, ``None`` drops it."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            data = change(name, old.read(name))
            if data is not None:
                new.writestr(name, data)
    return target


def edited(ending: str, edit):
    """A change for ``rewritten``: ``edit(document)`` alters the JSON record that ends so."""

    def change(name: str, data: bytes) -> bytes:
        if not name.endswith(ending):
            return data
        document = json.loads(data)
        edit(document)
        return json.dumps(document).encode()

    return change


@pytest.fixture(scope="module")
def honest(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pt2") / "c.pt2"
    export(Classifier(), path, dynamic=True)
    return path


def node(document, **changes):
    document["graph_module"]["graph"]["nodes"][0].update(changes)


def expression(document, text):
    sizes = next(
        v["sizes"] for v in document["graph_module"]["graph"]["tensor_values"].values() if len(v["sizes"]) == 4
    )
    sizes[0]["as_expr"]["expr_str"] = text


def first(document, **changes):
    next(iter(document["config"].values())).update(changes)


@pytest.mark.parametrize(
    ("ending", "edit", "says"),
    [
        ("model.json", lambda d: node(d, target="torch.os.system"), "the operator 'torch.os.system'"),
        ("model.json", lambda d: node(d, target="torch.ops.load_library"), "the operator"),
        ("model.json", lambda d: node(d, target="torch.ops.aten.from_file.default"), "the operator"),
        ("model.json", lambda d: node(d, target="_operator.methodcaller"), "the operator"),
        ("model.json", lambda d: node(d, target="#custom:thing"), "the operator"),
        ("model.json", lambda d: expression(d, "__import__('os').system('true')"), "the expression"),
        ("model.json", lambda d: expression(d, "s0.func"), "the expression"),
        ("model.json", lambda d: expression(d, "exec(s0)"), "the expression"),
        ("model.json", lambda d: expression(d, "Symbol('s0 + 1')"), "the expression"),
        ("weights_config.json", lambda d: first(d, use_pickle=True), "not a plain tensor"),
        ("weights_config.json", lambda d: first(d, path_name="../secret"), "not a plain tensor"),
        ("constants_config.json", lambda d: d["config"].update(x={"path_name": "opaque_obj_0"}), "not a plain tensor"),
        ("model.json", lambda d: d.clear(), None),
        ("weights_config.json", lambda d: d.clear(), "not an exported program"),
    ],
)
def test_programs_that_could_run_code_are_not_opened(honest, tmp_path, ending, edit, says):
    bad = rewritten(honest, tmp_path / "bad.pt2", edited(ending, edit))
    if says is None:  # harmless by the cheap check; torch's own complaint comes as one line
        check_file(str(bad))
        says = "cannot be opened"
    for ask in (check_spec, load) if says != "cannot be opened" else (load,):
        with pytest.raises(ModelError, match=says) as caught:
            ask(f"torch:{bad}")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "record", ["data/aotinductor/model/m.so", "data/weights/model.pt", "data/constants/opaque_obj_0"]
)
def test_unexpected_records_are_refused(honest, tmp_path, record):
    bad = rewritten(honest, tmp_path / "bad.pt2", lambda name, data: data)
    with zipfile.ZipFile(bad, "a") as archive:
        top = archive.namelist()[0].partition("/")[0]
        archive.writestr(f"{top}/{record}", b"x")
    with pytest.raises(ModelError, match="the record"):
        check_spec(f"torch:{bad}")


class Bomb:
    """Unpickling this writes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.write_text, (self.path, "gotcha"))


def test_a_pickle_among_the_example_inputs_does_not_run(honest, tmp_path):
    mark = tmp_path / "mark"
    torch.save(((Bomb(mark),), {}), tmp_path / "inputs.pt")
    inputs = (tmp_path / "inputs.pt").read_bytes()
    bad = rewritten(
        honest, tmp_path / "bad.pt2", lambda name, data: inputs if name.endswith("sample_inputs/model.pt") else data
    )
    with pytest.raises(ModelError, match="example inputs that are not plain tensors"):
        load(f"torch:{bad}")
    assert not mark.exists()
    torch.load(tmp_path / "inputs.pt", weights_only=False)
    assert mark.exists()  # the bomb was live
