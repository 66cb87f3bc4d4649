"""ONNX networks through the whole chain, and a network known from elsewhere against its own exported self."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from skimage.data import cat, coffee

from tests.support import Place, ffmpeg, ledger, lines
from tests.workers.onnx_graphs import square
from workers.labels import coco
from workers.models import load
from workers.models.device import WEIGHTS
from workers.models.objects import CODER, SIDE, SSDLite, anchors

FRAMES = 20


def test_a_square_is_found_where_it_is_in_the_source(place: Place) -> None:
    """320 × 180, sent at half the size with bars above and below; the square moves by 8 pixels a frame."""
    square(place.folder / "s.onnx", (4, 3, 160, 160))
    (place.folder / "s.labels.txt").write_text("nothing\nsquare\n")
    lum = "if(between(X,40+8*N,79+8*N)*between(Y,60,99),235,16)"
    source = f"nullsrc=s=320x180:r=25,format=yuv420p,geq=lum='{lum}':cb=128:cr=128"
    ffmpeg(
        "-f", "lavfi", "-i", source, "-frames:v", str(FRAMES), "-c:v", "libx264", "-qp", "10", place.folder / "c.mkv"
    )
    ran = place.run("run", "c.mkv", "-o", "out.jsonl", "--model", "onnx:s.onnx", "--workers", "1", "--batch", "6")
    assert ran.code == 0, ran.err
    told = lines(place.folder / "out.jsonl")
    assert ledger(place.folder / "out.jsonl")["states"] == {"annotated": FRAMES}
    for number, line in enumerate(told):
        (one,) = line["detections"]
        assert (one["label"], one["score"]) == ("square", 1.0)
        assert one["box"] == pytest.approx([40 + 8 * number, 60, 80 + 8 * number, 100], abs=2.1), number


def test_a_file_that_is_none_ends_the_command_before_anything_starts(place: Place) -> None:
    (place.folder / "no.onnx").write_text("this is not a network")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48", "-frames:v", "2", "-c:v", "libx264", place.folder / "c.mkv")
    ran = place.run("run", "c.mkv", "-o", "out.jsonl", "--model", "onnx:no.onnx", timeout=20)
    assert ran.code == 5, ran
    assert ran.err.startswith("headrace: model onnx:no.onnx: not an ONNX file"), ran.err
    assert not list(place.folder.glob("out.*"))


def test_neither_check_nor_model_imports_torch_or_reports(tmp_path: Path) -> None:
    """A worker with a network of ONNX does not wait for torch, nor hold its memory. And it reports to nobody: the
    library's own file for that (``.ses``, among the temporary ones) is not made."""
    code = (
        "import sys; from workers.models import check_spec, load\n"
        f"spec = 'onnx:{square(tmp_path / 's.onnx')}'\n"
        "check_spec(spec); before = 'onnxruntime' in sys.modules; load(spec).setup('cpu')\n"
        "print(before, 'torch' in sys.modules, 'onnxruntime' in sys.modules)"
    )
    (tmp_path / "tmp").mkdir()
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False,
        env=os.environ | {"TMPDIR": str(tmp_path / "tmp")},
    )  # fmt: skip
    assert ran.stdout.strip() == "False False True", ran.stderr
    assert not list((tmp_path / "tmp").iterdir())


class Decoded(torch.nn.Module):
    """SSDLite with its boxes decoded, as exporters put it: N × (4 + 90) × 1917, centres and sizes in pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.net = SSDLite()
        self.net.load_state_dict(load_file(WEIGHTS / "objects_ssdlite_coco.safetensors"))
        self.register_buffer("anchors", anchors())
        self.register_buffer("coder", torch.tensor(CODER))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raw, logits = self.net(x)
        offsets = raw * self.coder
        middle = self.anchors[:, :2] + offsets[..., :2] * self.anchors[:, 2:]
        size = offsets[..., 2:].exp() * self.anchors[:, 2:]
        boxes = torch.cat([middle.flip(2), size.flip(2)], 2) * SIDE
        return torch.cat([boxes, logits[..., 1:].sigmoid()], 2).transpose(1, 2)


@pytest.mark.filterwarnings("ignore")
def test_the_builtin_network_exported_finds_the_same(tmp_path: Path) -> None:
    path = tmp_path / "ssd.onnx"
    example = torch.zeros(1, 3, SIDE, SIDE)
    torch.onnx.export(
        Decoded().eval().float(), (example,), str(path), input_names=["x"], output_names=["y"],
        dynamic_axes={"x": {0: "n"}, "y": {0: "n"}}, dynamo=False,
    )  # fmt: skip
    path.with_suffix(".model.toml").write_text('form = "anchors"\nscale = 255\nnms = 0.6\nletterbox = false\n')
    path.with_suffix(".labels.txt").write_text("\n".join(coco.NAMES[1:]))
    pictures = np.stack([resized(one) for one in (cat(), coffee())])
    own, exported = load("objects", 0.5), load(f"onnx:{path}", 0.5)
    assert exported.input == own.input
    for model in (own, exported):
        model.setup("cpu")
    for one, other in zip(own.predict(pictures), exported.predict(pictures), strict=True):
        assert one.detections
        assert [d.label for d in one.detections] == [d.label for d in other.detections]
        for a, b in zip(one.detections, other.detections, strict=True):
            assert b.score == pytest.approx(a.score, abs=1e-3)
            assert b.box == pytest.approx(a.box, abs=0.05)


def resized(picture: np.ndarray) -> np.ndarray:
    return cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
