"""Everyday things, 80 COCO classes: SSDLite on MobileNetV2, 300 × 300.

Network after "MobileNetV2: Inverted Residuals and Linear Bottlenecks" (arXiv 1801.04381) and the TensorFlow models'
ssdlite_mobilenet_v2_coco; batch normalisation is folded into the weights, which are Apache-2.0 (NOTICE).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from workers.labels import coco
from workers.model import Findings, InputSpec, Pictures
from workers.models.boxes import Boxes, suppress
from workers.models.device import WEIGHTS, in_parts, load_weights, open_device, precision, to_tensor
from workers.models.tiles import Tiling

#: Input side in pixels.
SIDE = 300
#: Least score: below it, things appear that are not there.
THRESHOLD = 0.6
#: Boxes of one class that overlap by more are one thing (pipeline.config: iou_threshold 0.6).
SAME_THING = 0.6
#: Outputs a class head has for each anchor: "nothing" and ids 1…90, of which 80 are used.
CLASSES = 91
#: Inverted residual blocks: expansion, output channels, stride (MobileNetV2 paper, table 2, one row a block).
BLOCKS = (
    (1, 16, 1),
    *((6, 24, 2), (6, 24, 1)),
    *((6, 32, 2), (6, 32, 1), (6, 32, 1)),
    *((6, 64, 2), (6, 64, 1), (6, 64, 1), (6, 64, 1)),
    *((6, 96, 1), (6, 96, 1), (6, 96, 1)),
    *((6, 160, 2), (6, 160, 1), (6, 160, 1)),
    (6, 320, 1),
)
#: The block whose expansion, at stride 16, is the first feature map.
FIRST_MAP = 13
#: Squeezed and output channels of the layers behind the backbone, each at stride 2.
EXTRAS = ((256, 512), (128, 256), (128, 256), (64, 128))
#: Feature maps: cells a side, channels, anchors a cell.
MAPS = ((19, 576, 3), (10, 1280, 6), (5, 512, 6), (3, 256, 6), (2, 256, 6), (1, 128, 6))
#: Anchor scales of the first and the last map (pipeline.config: ssd_anchor_generator).
SCALES = (0.2, 0.95)
#: Offsets are multiplied by these (pipeline.config: faster_rcnn_box_coder scales 10, 10, 5, 5).
CODER = (0.1, 0.1, 0.2, 0.2)


class Same(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding, optionally followed by ReLU6."""

    def __init__(
        self, inputs: int, outputs: int, side: int, stride: int = 1, groups: int = 1, act: bool = True
    ) -> None:
        super().__init__(inputs, outputs, side, stride, (side - 1) // 2 if stride == 1 else 0, groups=groups)
        self.act = act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.stride[0] == 2:
            # Odd sides get one pixel before and one after, even sides only the one after.
            rows, columns = x.shape[2] % 2, x.shape[3] % 2
            x = F.pad(x, (columns, 1, rows, 1))
        y = super().forward(x)
        return F.relu6(y) if self.act else y


class Inverted(nn.Module):
    """1 × 1 expansion, 3 × 3 depthwise, linear 1 × 1 projection, and a short cut where shapes allow."""

    def __init__(self, inputs: int, expansion: int, outputs: int, stride: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expand = Same(inputs, wide, 1) if expansion > 1 else nn.Identity()
        self.depthwise = Same(wide, wide, 3, stride, groups=wide)
        self.project = Same(wide, outputs, 1, act=False)
        self.short_cut = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """→ the output and the expanded map."""
        wide = self.expand(x)
        y = self.project(self.depthwise(wide))
        return (x + y if self.short_cut else y), wide


class Extra(nn.Module):
    """One layer behind the backbone: half the side."""

    def __init__(self, inputs: int, squeezed: int, outputs: int) -> None:
        super().__init__()
        self.squeeze = Same(inputs, squeezed, 1)
        self.depthwise = Same(squeezed, squeezed, 3, 2, groups=squeezed)
        self.expand = Same(squeezed, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.expand(self.depthwise(self.squeeze(x)))


class Head(nn.Module):
    """N × C × H × W → N × (H·W·anchors) × values."""

    def __init__(self, inputs: int, anchors: int, values: int) -> None:
        super().__init__()
        self.values = values
        self.depthwise = Same(inputs, inputs, 3, groups=inputs)
        self.pointwise = Same(inputs, anchors * values, 1, act=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.pointwise(self.depthwise(x))
        return y.permute(0, 2, 3, 1).reshape(y.shape[0], -1, self.values)


class SSDLite(nn.Module):
    """N × 3 × 300 × 300 RGB, 0…255 → box offsets N × 1917 × 4 (y, x, h, w) and class logits N × 1917 × 91."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Same(3, 32, 3, 2)
        channels = [32, *(outputs for _, outputs, _ in BLOCKS)]
        self.blocks = nn.ModuleList(
            Inverted(inputs, expansion, outputs, stride)
            for inputs, (expansion, outputs, stride) in zip(channels, BLOCKS, strict=False)
        )
        self.top = Same(channels[-1], MAPS[1][1], 1)
        inputs = [MAPS[1][1], *(outputs for _, outputs in EXTRAS)]
        self.extras = nn.ModuleList(Extra(i, *extra) for i, extra in zip(inputs, EXTRAS, strict=False))
        self.heads = nn.ModuleList(
            nn.ModuleDict({"box": Head(wide, anchors, 4), "classes": Head(wide, anchors, CLASSES)})
            for _, wide, anchors in MAPS
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.stem(x * (2 / 255) - 1)
        maps = []
        for number, block in enumerate(self.blocks):
            x, wide = block(x)
            if number == FIRST_MAP:
                maps.append(wide)
        maps.append(self.top(x))
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        offsets = torch.cat([head["box"](m) for head, m in zip(self.heads, maps, strict=True)], 1)  # type: ignore[index]
        logits = torch.cat([head["classes"](m) for head, m in zip(self.heads, maps, strict=True)], 1)  # type: ignore[index]
        return offsets, logits


def anchors() -> torch.Tensor:
    """1917 × 4: centre y, x, height, width, relative to the picture (SSD paper, arXiv 1512.02325, section 2.2).

    The first map has the object detection API's three reduced anchors.
    """
    low, high = SCALES
    scales = [low + (high - low) * i / (len(MAPS) - 1) for i in range(len(MAPS))] + [1.0]
    rows = []
    for number, ((cells, _, _), (scale, following)) in enumerate(zip(MAPS, pairwise(scales), strict=True)):
        shapes = [
            (scale, 1.0),
            (scale, 2.0),
            (scale, 0.5),
            (scale, 3.0),
            (scale, 1 / 3),
            ((scale * following) ** 0.5, 1),
        ]
        if number == 0:
            shapes = [(0.1, 1.0), (scale, 2.0), (scale, 0.5)]
        rows += [
            ((y + 0.5) / cells, (x + 0.5) / cells, size / ratio**0.5, size * ratio**0.5)
            for y in range(cells)
            for x in range(cells)
            for size, ratio in shapes
        ]
    return torch.tensor(rows)


class Objects:
    """The model ``objects``: detections labelled with COCO names.

    Pictures larger than the input are searched in tiles (workers/models/tiles.py).
    """

    #: Stretched, as the network was trained (fixed_shape_resizer).
    input = InputSpec(width=SIDE, height=SIDE, letterbox=False)

    def __init__(self, threshold: float = THRESHOLD) -> None:
        self._threshold = threshold
        self._tiling = Tiling(width=SIDE, height=SIDE, letterbox=False)

    def setup(self, device: str) -> None:
        self._device = open_device(device)
        self._dtype = precision(self._device)
        self._net = load_weights(SSDLite(), WEIGHTS / "objects_ssdlite_coco.safetensors", self._device)
        self._anchors = anchors().to(self._device)
        self._coder = torch.tensor(CODER, device=self._device)
        self.find(np.zeros((1, SIDE, SIDE, 3), np.uint8))

    def predict(self, pictures: Pictures) -> list[Findings]:
        height, width = pictures.shape[1:3]
        found = self._tiling.find(pictures, lambda some: in_parts(self.find, some, self._device))
        return [boxes.findings(coco.NAMES, width, height) for boxes in found]

    @torch.inference_mode()
    def find(self, pictures: Pictures) -> list[Boxes]:
        """N pictures of exactly the input size → N Boxes; labels are COCO ids."""
        raw, logits = self._net(to_tensor(pictures, self._device, self._dtype))
        best, label = logits[..., 1:].max(2)
        scores = best.float().sigmoid()
        picture, anchor = torch.nonzero(scores >= self._threshold, as_tuple=True)
        offsets, place = raw[picture, anchor].float() * self._coder, self._anchors[anchor]
        middle = (place[:, :2] + offsets[:, :2] * place[:, 2:]).flip(1)
        half = (offsets[:, 2:].exp() * place[:, 2:]).flip(1) / 2
        numbers = torch.stack([picture, scores[picture, anchor], label[picture, anchor] + 1], 1)
        table = torch.cat([numbers, middle - half, middle + half], 1).cpu().numpy()  # one copy from the device
        return [suppress(_boxes(table[table[:, 0] == n]), SAME_THING) for n in range(len(pictures))]


def _boxes(rows: np.ndarray) -> Boxes:
    points = np.zeros((len(rows), 0, 2), np.float32)
    return Boxes(rows[:, 3:7] * SIDE, rows[:, 1], rows[:, 2].astype(np.int64), points)
