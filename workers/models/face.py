"""Faces with six keypoints: BlazeFace for the back camera, 256 × 256.

Network and anchors follow "BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs" (arXiv 1907.05047) and
MediaPipe's face_detection_back; the weights are Google's, Apache-2.0 (NOTICE).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from workers.model import Findings, InputSpec, Pictures
from workers.models.boxes import Boxes, blend
from workers.models.device import WEIGHTS, in_parts, load_weights, open_device, precision, to_tensor
from workers.models.tiles import Tiling

#: Input side in pixels; also the unit of the regressed offsets.
SIDE = 256
#: Least score. At 0.6 a quarter of the frames of a faceless clip had a box, at 0.75 one in twenty.
THRESHOLD = 0.75
#: Candidates that overlap the best one by more are the same face (MediaPipe: min_suppression_threshold 0.3).
SAME_FACE = 0.3
#: Right eye, left eye, nose tip, mouth, right ear, left ear (as the person has them).
POINTS = 6
#: Cells a side and anchors a cell of the two heads.
GRIDS = ((16, 2), (8, 6))


class Block(nn.Module):
    """3 × 3 depthwise, 1 × 1, and a short cut that is pooled and zero-filled where sizes differ."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, short_cut: bool = True) -> None:
        super().__init__()
        self.stride, self.short_cut, self.more = stride, short_cut, outputs - inputs
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride, 2 - stride, groups=inputs, bias=False)
        self.pointwise = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # TensorFlow's SAME padding of an even side at stride 2: nothing before, one after.
        padded = F.pad(x, (0, 1, 0, 1)) if self.stride == 2 else x
        y = self.pointwise(self.depthwise(padded))
        if self.short_cut:
            skip = F.max_pool2d(x, 2) if self.stride == 2 else x
            y = y + (F.pad(skip, (0, 0, 0, 0, 0, self.more)) if self.more else skip)
        return F.relu(y)


class BlazeFace(nn.Module):
    """N × 3 × 256 × 256 RGB, 0…255 → raw offsets N × 896 × 16 (pixels) and score logits N × 896."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 5, 2)
        stages = [(24, 24), (24, 48), (48, 96)]
        blocks: list[nn.Module] = [Block(24, 24) for _ in range(7)]
        for inputs, outputs in stages:
            blocks += [Block(inputs, outputs, 2), *(Block(outputs, outputs) for _ in range(7))]
        self.body = nn.Sequential(*blocks)
        self.final = Block(96, 96, 2, short_cut=False)
        values = 4 + 2 * POINTS
        self.box8, self.score8 = nn.Conv2d(96, 2 * values, 1), nn.Conv2d(96, 2, 1)
        self.box16, self.score16 = nn.Conv2d(96, 6 * values, 1), nn.Conv2d(96, 6, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = x * (2 / 255) - 1
        fine = self.body(F.relu(self.stem(F.pad(x, (1, 2, 1, 2)))))
        coarse = self.final(fine)
        offsets = [_rows(self.box8(fine), 4 + 2 * POINTS), _rows(self.box16(coarse), 4 + 2 * POINTS)]
        logits = [_rows(self.score8(fine), 1), _rows(self.score16(coarse), 1)]
        return torch.cat(offsets, 1), torch.cat(logits, 1)[..., 0]


def _rows(x: torch.Tensor, values: int) -> torch.Tensor:
    """N × (A·values) × H × W → N × (H·W·A) × values."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, values)


def anchors() -> torch.Tensor:
    """896 × 2 cell centres (x, y) in pixels, row by row, the finer grid first."""
    centres = []
    for cells, count in GRIDS:
        line = (torch.arange(cells) + 0.5) * (SIDE / cells)
        y, x = torch.meshgrid(line, line, indexing="ij")
        centres.append(torch.stack([x, y], -1).reshape(-1, 2).repeat_interleave(count, 0))
    return torch.cat(centres)


class Face:
    """The model ``face``: detections labelled ``face``, with ``POINTS`` keypoints.

    Pictures larger than the input are searched in tiles (workers/models/tiles.py).
    """

    input = InputSpec(width=SIDE, height=SIDE)

    def __init__(self, threshold: float = THRESHOLD) -> None:
        self._threshold = threshold
        self._tiling = Tiling(width=SIDE, height=SIDE, letterbox=True)

    def setup(self, device: str) -> None:
        self._device = open_device(device)
        self._dtype = precision(self._device)
        self._net = load_weights(BlazeFace(), WEIGHTS / "face_blazeface_back.safetensors", self._device)
        self._anchors = anchors().to(self._device)
        self.find(np.zeros((1, SIDE, SIDE, 3), np.uint8))

    def predict(self, pictures: Pictures) -> list[Findings]:
        height, width = pictures.shape[1:3]
        found = self._tiling.find(pictures, lambda some: in_parts(self.find, some, self._device))
        return [boxes.findings(("face",), width, height) for boxes in found]

    @torch.inference_mode()
    def find(self, pictures: Pictures) -> list[Boxes]:
        """N pictures of exactly the input size → N Boxes."""
        raw, logits = self._net(to_tensor(pictures, self._device, self._dtype))
        scores = logits.float().sigmoid()
        picture, anchor = torch.nonzero(scores >= self._threshold, as_tuple=True)
        offsets, centres = raw[picture, anchor].float(), self._anchors[anchor]
        middle, half = centres + offsets[:, :2], offsets[:, 2:4] / 2
        points = offsets[:, 4:] + centres.repeat(1, POINTS)
        columns = [picture[:, None], scores[picture, anchor][:, None], middle - half, middle + half, points]
        table = torch.cat(columns, 1).cpu().numpy()  # one copy from the device
        return [blend(_boxes(table[table[:, 0] == n]), SAME_FACE) for n in range(len(pictures))]


def _boxes(rows: np.ndarray) -> Boxes:
    labels = np.zeros(len(rows), np.int64)
    return Boxes(rows[:, 2:6], rows[:, 1], labels, rows[:, 6:].reshape(-1, POINTS, 2))
