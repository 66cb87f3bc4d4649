"""What a network of ONNX answers, recognised by its shape and made into Findings. Pure: numpy only.

Five forms, N pictures of W × H:

- ``tags``: scores N × C of the picture's classes;
- ``boxes``: three outputs, boxes N × M × 4, scores N × M, labels N × M, suppressed; score 0 is padding;
- ``rows``: N × M × (6 …): x0, y0, x1, y1, score, class, perhaps points; suppressed; score 0 is padding;
- ``anchors``: N × (4 + C …) × A or its transpose: a box's centre and size, C scores, perhaps points or more;
- ``objectness``: N × A × (5 + C …): the same with the score that there is anything at all before the C.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from common.messages import Tag
from workers.model import Findings
from workers.models.boxes import Boxes, Floats, suppress
from workers.models.labels import Labels
from workers.models.onnx_input import FormError
from workers.models.sidecar import Corners, Form

#: Tags of a classified picture.
TOP = 5
#: Least score where nothing else is asked for, of networks that answer with all they have.
THRESHOLD = 0.25
#: Overlap from which two boxes of a class are one thing: what ultralytics takes, and YOLOv5 took.
SAME = {"anchors": 0.7, "objectness": 0.45}
#: Steps of the grids that networks look at, in pixels: an anchor a cell, or three with ``objectness``.
STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32))

Outputs = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Head:
    """How the answers are read. ``None``: found out from the first one, by :meth:`settled`."""

    labels: Labels = field(default_factory=Labels)
    form: Form | None = None
    corners: Corners | None = None
    relative: bool | None = None
    threshold: float | None = None
    nms: float | None = None
    #: Keypoints of a detection, and numbers for each.
    points: tuple[int, int] = (0, 2)
    #: Classes, where the file says how many: what else is in a row of ``anchors`` are masks.
    classes: int = 0

    def findings(self, outputs: Outputs, count: int, width: int, height: int) -> list[Findings]:
        """The outputs for ``count`` pictures of ``width`` × ``height``, black filling counted, → Findings each.

        Raises FormError.
        """
        if self.form == "tags":
            return self._tags(outputs, count)
        found = self._boxes(outputs, count) if self.form == "boxes" else self._table(outputs, count, width, height)
        scale = (float(width), float(height)) if self.relative else (1.0, 1.0)
        return [one.mapped(scale, (0.0, 0.0)).findings(self.labels, width, height) for one in found]

    # -- forms ---------------------------------------------------------------------------------------------------

    def _tags(self, outputs: Outputs, count: int) -> list[Findings]:
        found = [flat for one in outputs.values() if (flat := _flat(one)) is not None and len(flat) == count]
        if not found:
            raise FormError(f"returned {shapes(outputs)}: scores N x C, C of two classes or more, are wanted")
        scores = found[0].astype(np.float32)
        if not ((scores >= 0).all() and np.allclose(scores.sum(1), 1, atol=1e-2)):  # not probabilities yet
            scores = np.exp(scores - scores.max(1, keepdims=True))
            scores /= scores.sum(1, keepdims=True)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :TOP]
        least = self.threshold or 0.0
        return [
            Findings(tags=[Tag(self.labels[int(c)], float(row[c])) for c in chosen if not row[c] < least])
            for row, chosen in zip(scores, best, strict=True)
        ]

    def _boxes(self, outputs: Outputs, count: int) -> list[Boxes]:
        named = _three(outputs)
        if named is None:
            raise FormError(f"returned {shapes(outputs)}: outputs called boxes, scores and labels are wanted")
        boxes, scores, labels = (outputs[name] for name in named)
        if boxes.ndim == 2 and count == 1:  # as torchvision's detectors answer
            boxes, scores, labels = boxes[None], scores[None], labels[None]
        m = boxes.shape[1] if boxes.ndim == 3 else -1
        if boxes.shape != (count, m, 4) or scores.shape != (count, m) or labels.shape != (count, m):
            wanted = "boxes N x M x 4, scores N x M and labels N x M are wanted"
            raise FormError(f"returned {shapes(outputs)}: {wanted}")
        none = np.zeros((m, 0, 2), np.float32)
        return [
            self._chosen(_corners(b, self.corners), s, c, none, s != 0)
            for b, s, c in zip(_floats(boxes), _floats(scores), labels, strict=True)
        ]

    def _table(self, outputs: Outputs, count: int, width: int, height: int) -> list[Boxes]:
        table = _table_of(outputs)
        if table is None or len(table) != count:
            raise FormError(f"returned {shapes(outputs)}: {count} tables of boxes are wanted")
        if self.form != "rows" and _anchors_last(table, self.form, width, height):
            table = table.transpose(0, 2, 1)
        if self.form == "rows":
            return [self._rows(_floats(one)) for one in table]
        return [self._anchors(one) for one in table]

    def _rows(self, table: Floats) -> Boxes:
        if table.shape[1] < 6:
            raise FormError(f"returned rows of {table.shape[1]} numbers: x0, y0, x1, y1, score, class are wanted")
        boxes, scores = _corners(table[:, :4], self.corners), table[:, 4]
        return self._chosen(boxes, scores, table[:, 5], self._points(table, 6), scores != 0)

    def _anchors(self, table: np.ndarray) -> Boxes:
        first = 4 if self.form == "anchors" else 5
        last = table.shape[1] - self._more(table.shape[1], first)
        if last <= first:
            raise FormError(f"returned {table.shape[1]} numbers for each box: no class is among them")
        classes = table[:, first:last]
        scores = classes.max(1).astype(np.float32)
        if first == 5:
            scores = scores * table[:, 4].astype(np.float32)
        if not np.isfinite(scores).all():
            raise FormError("returned scores that are no finite numbers")
        rows = np.flatnonzero(scores >= (THRESHOLD if self.threshold is None else self.threshold))
        chosen = _floats(table[rows])
        boxes = _corners(chosen[:, :4], self.corners)
        points, every = self._points(chosen, first), np.ones(len(rows), bool)
        found = self._chosen(boxes, scores[rows], classes[rows].argmax(1), points, every)
        return suppress(found, self.nms or SAME[str(self.form)])

    def _more(self, values: int, first: int) -> int:
        """How many of a row's numbers come after the classes."""
        points = self.points[0] * self.points[1]
        return points or (max(0, values - first - self.classes) if self.classes else 0)

    def _points(self, table: Floats, first: int) -> Floats:
        """M × K × 2 from the last columns; ``first`` are of the box."""
        number, values = self.points
        if not number:
            return np.zeros((len(table), 0, 2), np.float32)
        if table.shape[1] < first + number * values:
            raise FormError(f"returned rows of {table.shape[1]} numbers: too few for {number} points")
        return table[:, -number * values :].reshape(len(table), number, values)[..., :2]

    def _chosen(self, boxes: Floats, scores: Floats, labels: np.ndarray, points: Floats, keep: np.ndarray) -> Boxes:
        """Those of ``keep`` with at least the threshold. Raises FormError where a number is none."""
        least = self.threshold if self.threshold is not None else THRESHOLD if self.form == "rows" else 0.0
        rows = np.flatnonzero(~(scores < least) & keep)  # NaN passes, and is named below
        numbers = np.nan_to_num(labels[rows].astype(np.float64), nan=-1, posinf=-1, neginf=-1).round()
        found = Boxes(boxes[rows], scores[rows], numbers.astype(np.int64), points[rows])
        if not all(np.isfinite(part).all() for part in (found.xyxy, found.scores, found.points)):
            raise FormError("returned boxes or scores that are no finite numbers")
        return found.best_first()

    # -- recognition ---------------------------------------------------------------------------------------------

    def settled(self, outputs: Outputs, count: int, width: int, height: int) -> Head:
        """This head with what its first answer shows. Raises FormError where that is of no form known here."""
        form = self.form or _form_of(outputs, count, width, height)
        if form is None:
            raise FormError(
                f"returned {shapes(outputs)}, of no form known here: see docs/models.md, and name it by form in the"
                " sidecar, or write a class"
            )
        named = _three(outputs) if form == "boxes" else None
        tensorflow = named is not None and named[0].startswith("detection_boxes")
        corners: Corners = "cxcywh" if form in ("anchors", "objectness") else "yxyx" if tensorflow else "xyxy"
        relative = tensorflow if self.relative is None else self.relative
        head = replace(self, form=form, corners=self.corners or corners, relative=relative)
        head.findings(outputs, count, width, height)
        return head


def _form_of(outputs: Outputs, count: int, width: int, height: int) -> Form | None:
    if _three(outputs) is not None:
        return "boxes"
    table = _table_of(outputs)
    if table is None:
        return "tags" if len(outputs) == 1 and _flat(next(iter(outputs.values()))) is not None else None
    if len(table) != count:
        return None
    cells = [sum(-(-width // s) * -(-height // s) for s in strides) for strides in STRIDES]
    if any(side in cells for side in table.shape[1:]):
        return "anchors"
    if any(3 * cell in table.shape[1:] for cell in cells):
        return "objectness"
    return "rows" if table.shape[2] >= 6 and table.shape[1] > 0 else None


def _anchors_last(table: np.ndarray, form: str | None, width: int, height: int) -> bool:
    """Whether the anchors are the last axis: by their number, else because they are more than the values of one."""
    each = 3 if form == "objectness" else 1
    cells = {each * sum(-(-width // s) * -(-height // s) for s in strides) for strides in STRIDES}
    first, last = table.shape[1:]
    return last in cells if (first in cells) != (last in cells) else last > first


def _three(outputs: Outputs) -> tuple[str, str, str] | None:
    """The names of boxes, scores and labels, by their names, else by their shapes and types."""
    named = [
        next((name for name in outputs if any(word in name.lower() for word in words)), None)
        for words in (("box",), ("score", "conf"), ("label", "class"))
    ]
    if None not in named and len(set(named)) == 3:
        return tuple(named)  # type: ignore[return-value]
    if len(outputs) != 3:
        return None
    boxes = [name for name, one in outputs.items() if one.ndim in (2, 3) and one.shape[-1] == 4]
    if len(boxes) != 1:
        return None
    flat = {name: one for name, one in outputs.items() if one.shape == outputs[boxes[0]].shape[:-1]}
    labels = [name for name, one in flat.items() if one.dtype.kind in "iu"]
    scores = [name for name, one in flat.items() if one.dtype.kind == "f"]
    return (boxes[0], scores[0], labels[0]) if len(labels) == 1 and len(scores) == 1 else None


def _table_of(outputs: Outputs) -> np.ndarray | None:
    """The one output of three dimensions."""
    tables = [one for one in outputs.values() if one.ndim == 3 and one.dtype.kind == "f"]
    return tables[0] if len(tables) == 1 else None


def _flat(scores: np.ndarray) -> np.ndarray | None:
    """N × C of N × C or N × C × 1 × 1, C > 1."""
    plain = scores.ndim >= 2 and scores.dtype.kind == "f" and scores.shape[1] > 1 and set(scores.shape[2:]) <= {1}
    return scores.reshape(scores.shape[:2]) if plain else None


def _corners(boxes: Floats, form: Corners | None) -> Floats:
    """M × 4 in any order → x0, y0, x1, y1."""
    a, b, c, d = boxes.T
    if form == "yxyx":
        a, b, c, d = b, a, d, c
    elif form == "xywh":
        c, d = a + c, b + d
    elif form == "cxcywh":
        a, b, c, d = a - c / 2, b - d / 2, a + c / 2, b + d / 2
    return np.stack([a, b, c, d], 1)


def _floats(values: np.ndarray) -> Floats:
    return values.astype(np.float32, copy=False)


def shapes(outputs: Outputs) -> str:
    """For a person: ``boxes (1, 100, 4), scores (1, 100)``."""
    return ", ".join(f"{name} {one.shape}" for name, one in outputs.items())[:300]
