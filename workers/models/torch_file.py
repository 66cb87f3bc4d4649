"""Your network as a file: ``torch:FILE``, a program saved with ``torch.export.save``.

It takes one float32 tensor N × 3 × H × W, RGB, 0…1 (put further normalisation into the program), of a size fixed at
export, with a fixed or dynamic N. It answers in one of three forms, boxes in pixels of its input, ``(x0, y0, x1, y1)``:

- logits N × C: the picture's five likeliest classes become tags (softmax);
- a tuple ``(boxes N × M × 4, scores N × M, labels N × M)``: detections, already suppressed, scores 0…1, those of
  score 0 are padding;
- a dict with the keys ``boxes``, ``scores``, ``labels`` of these.

Class names, one a line, may lie beside it as FILE with ``.labels.txt`` for its ending.
"""

from __future__ import annotations

import io
import logging
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch.export import ExportedProgram
from torch.export.passes import move_to_device_pass

from common.errors import ModelError, one_line
from common.messages import MAX_FINDINGS, MAX_SIDE
from workers.model import Detection, Findings, InputSpec, Pictures, Tag
from workers.models.device import open_device, to_tensor
from workers.models.labels import Labels, read_labels
from workers.models.pt2_archive import read_file

#: Tags of a classified picture.
TOP = 5
#: Most pictures in one call of a program without an upper bound.
MAX_BATCH = 1024

log = logging.getLogger(__name__)


class TorchFile:
    """The model ``torch:FILE``. Raises ModelError where the file is no program of the form above."""

    def __init__(self, path: str) -> None:
        self._name = f"torch:{path}"
        self._program = self._open(read_file(path))
        shape = self._input_shape()
        #: Pictures that one call takes; fewer are filled up with black ones, more are split.
        self._least, self._most = self._batch_bounds(shape[0])
        self.input = InputSpec(width=shape[3], height=shape[2])
        labels = Path(path).with_suffix(".labels.txt")
        self._labels = read_labels(self._name, labels) or Labels()
        if not len(self._labels):
            log.info("%s: no %s, so labels are numbers", self._name, labels.name)

    def setup(self, device: str) -> None:
        self._device = open_device(device)
        try:
            program = move_to_device_pass(self._program, self._device)
            # Guards are Python text of the file's; sizes are checked here instead.
            self._net = program.module(check_guards=False)
        except Exception as error:  # noqa: BLE001 - a foreign program may raise anything
            self._refuse(f"cannot be moved to {device}: {one_line(error)}")
        self.predict(np.zeros((1, self.input.height, self.input.width, 3), np.uint8))

    @torch.inference_mode()
    def predict(self, pictures: Pictures) -> list[Findings]:
        if pictures.shape[1:3] != (self.input.height, self.input.width):
            got, want = f"{pictures.shape[2]}x{pictures.shape[1]}", f"{self.input.width}x{self.input.height}"
            self._refuse(f"was exported for {want} pictures and cannot take {got}: leave --send-size out")
        findings: list[Findings] = []
        for start in range(0, len(pictures), self._most):
            part = pictures[start : start + self._most]
            findings += self._run(part)[: len(part)]
        return findings

    def _run(self, pictures: Pictures) -> list[Findings]:
        """At most ``_most`` pictures → Findings, for the padding too."""
        x = to_tensor(pictures, self._device, torch.float32) / 255
        if len(pictures) < self._least:
            x = torch.cat([x, x.new_zeros(self._least - len(pictures), *x.shape[1:])])
        try:
            answer = self._net(x.contiguous())
        except Exception as error:  # noqa: BLE001 - a foreign program may raise anything
            self._refuse(f"failed on {len(x)} pictures: {one_line(error)}")
        if isinstance(answer, torch.Tensor) and answer.ndim == 2 and len(answer) == len(x):
            return self._tags(answer)
        return self._detections(*self._parts(answer, len(x)))

    def _parts(self, answer: Any, count: int) -> list[np.ndarray]:
        """A tuple or dict → boxes, scores, labels on the CPU, shapes checked."""
        if isinstance(answer, dict):
            if not {"boxes", "scores", "labels"} <= answer.keys():
                self._refuse(f"returned a dict with {sorted(map(str, answer))}, not boxes, scores, labels")
            answer = (answer["boxes"], answer["scores"], answer["labels"])
        if not isinstance(answer, tuple | list) or len(answer) != 3 or not all(map(torch.is_tensor, answer)):
            self._refuse(f"returned {_form(answer)}: logits N x C, or boxes, scores and labels are wanted")
        boxes, scores, labels = answer
        m = boxes.shape[1] if boxes.ndim == 3 else -1
        if boxes.shape != (count, m, 4) or scores.shape != (count, m) or labels.shape != (count, m):
            self._refuse(f"returned {_form(answer)}: boxes N x M x 4, scores N x M and labels N x M are wanted")
        return [boxes.float().cpu().numpy(), scores.float().cpu().numpy(), labels.cpu().numpy()]

    def _tags(self, logits: torch.Tensor) -> list[Findings]:
        scores, classes = logits.float().softmax(1).topk(min(TOP, logits.shape[1]), 1)
        return [
            Findings(tags=[Tag(self._labels[c], s) for c, s in zip(row, values, strict=True)])
            for row, values in zip(classes.tolist(), scores.tolist(), strict=True)
        ]

    def _detections(self, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> list[Findings]:
        findings = []
        for box, score, label in zip(boxes, scores, labels, strict=True):
            best = np.argsort(-score, kind="stable")[:MAX_FINDINGS]
            rows = best[(score[best] != 0)]  # NaN passes and is refused later, with its name
            names = [self._labels[int(label[r])] for r in rows]
            parts = zip(names, score[rows].tolist(), box[rows].tolist(), strict=True)
            findings.append(Findings([Detection(name, value, tuple(corners)) for name, value, corners in parts]))
        return findings

    def _open(self, data: bytes) -> ExportedProgram:
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                name = next(n for n in archive.namelist() if n.endswith("data/sample_inputs/model.pt"))
                # torch.export.load would fall back to weights_only=False where this fails.
                torch.load(io.BytesIO(archive.read(name)), weights_only=True)
        except Exception as error:  # noqa: BLE001 - a foreign program may raise anything
            self._refuse(f"has example inputs that are not plain tensors: {one_line(error)}")
        try:
            return torch.export.load(io.BytesIO(data))
        except Exception as error:  # noqa: BLE001 - a foreign program may raise anything
            self._refuse(f"cannot be opened by torch {torch.__version__}: {one_line(error)}")

    def _input_shape(self) -> Sequence[Any]:
        """The program's one input's shape; H and W are whole numbers."""
        wanted = "one float32 tensor N x 3 x H x W with fixed H and W is wanted"
        inputs = set(self._program.graph_signature.user_inputs)
        metas = [n.meta["val"] for n in self._program.graph.nodes if n.op == "placeholder" and n.name in inputs]
        if len(metas) != 1 or not torch.is_tensor(metas[0]):
            self._refuse(f"takes {len(inputs)} inputs: {wanted}")
        shape = list(metas[0].shape)
        if metas[0].dtype != torch.float32 or len(shape) != 4 or shape[1] != 3:
            self._refuse(f"takes {str(metas[0].dtype).removeprefix('torch.')} of shape {tuple(shape)}: {wanted}")
        if not all(isinstance(side, int) and 1 <= side <= MAX_SIDE for side in shape[2:]):
            self._refuse(f"takes pictures of size {shape[3]}x{shape[2]}: {wanted}")
        return shape

    def _batch_bounds(self, batch: Any) -> tuple[int, int]:
        """The fixed N twice, or the dynamic one's bounds (Dim.AUTO has 2 as the lower one)."""
        if isinstance(batch, int):
            return batch, batch
        bounds = self._program.range_constraints.get(batch.node.expr)
        if bounds is None:
            return 1, MAX_BATCH
        least = max(1, int(bounds.lower))
        if least > MAX_BATCH:
            self._refuse(f"takes no fewer than {least} pictures: export it with a smaller batch")
        return least, int(bounds.upper) if bounds.upper < MAX_BATCH else MAX_BATCH

    def _refuse(self, what: str) -> NoReturn:
        raise ModelError(f"model {self._name}: {what}") from None


def _form(answer: Any) -> str:
    if torch.is_tensor(answer):
        return f"a tensor {tuple(answer.shape)}"
    if isinstance(answer, tuple | list):
        return f"{len(answer)} values: {', '.join(map(_form, answer))}"[:200]
    return f"a {type(answer).__name__}"
