"""What the detectors share: candidates as arrays, non-maximum suppression, and Findings. numpy only, no torch.

A network's output is thresholded on its device and comes here in one copy a batch; a picture rarely has more than a
few dozen candidates left, so that M × M tables are cheap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from workers.model import Detection, Findings

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

#: Most candidates of one picture that enter suppression, best first: bounds the M × M table.
MAX_CANDIDATES = 1000


class Names(Protocol):
    """A class's name by its number: a list will do."""

    def __getitem__(self, number: int, /) -> str: ...


@dataclass(frozen=True, slots=True)
class Boxes:
    """M findings in one picture, pixels of that picture.

    ``xyxy`` M × 4, ``scores`` M, ``labels`` M (class numbers), ``points`` M × K × 2 (K may be 0).
    """

    xyxy: Floats
    scores: Floats
    labels: Ints
    points: Floats

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Boxes:
        """The chosen rows, in the order given."""
        return Boxes(self.xyxy[rows], self.scores[rows], self.labels[rows], self.points[rows])

    def best_first(self, limit: int = MAX_CANDIDATES) -> Boxes:
        """Sorted by falling score, at most ``limit``."""
        return self.take(np.argsort(-self.scores, kind="stable")[:limit])

    def mapped(self, scale: tuple[float, float], offset: tuple[float, float]) -> Boxes:
        """Coordinates times ``scale`` plus ``offset`` (each x, y)."""
        factor, shift = np.array(scale, np.float32), np.array(offset, np.float32)
        xyxy = self.xyxy * np.tile(factor, 2) + np.tile(shift, 2)
        return Boxes(xyxy, self.scores, self.labels, self.points * factor + shift)

    @staticmethod
    def joined(parts: Sequence[Boxes]) -> Boxes:
        """All rows of ``parts`` (at least one), one after the other."""
        return Boxes(
            np.concatenate([p.xyxy for p in parts]),
            np.concatenate([p.scores for p in parts]),
            np.concatenate([p.labels for p in parts]),
            np.concatenate([p.points for p in parts]),
        )

    def findings(self, names: Names, width: int, height: int) -> Findings:
        """Clipped to a ``width`` × ``height`` picture; what lies outside it is left out."""
        xyxy = self.xyxy.clip(0, np.array([width, height, width, height], np.float32))
        detections = [
            Detection(
                label=names[label],
                score=score,
                box=(box[0], box[1], box[2], box[3]),
                points=[(x, y) for x, y in points],
            )
            for box, score, label, points in zip(
                xyxy.tolist(), self.scores.tolist(), self.labels.tolist(), self.points.tolist(), strict=True
            )
            if box[0] < box[2] and box[1] < box[3]
        ]
        return Findings(detections=detections)


def areas(xyxy: Floats) -> Floats:
    """M × 4 → M areas; reversed boxes have none."""
    return np.prod((xyxy[:, 2:] - xyxy[:, :2]).clip(min=0), axis=1)


def overlaps(a: Floats, b: Floats, over: str = "union") -> Floats:
    """A × 4 and B × 4 → A × B table of intersection over ``union``, or over the ``smaller`` of the two areas."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod((high - low).clip(min=0), axis=2)
    area_a, area_b = areas(a)[:, None], areas(b)[None, :]
    whole = np.minimum(area_a, area_b) if over == "smaller" else area_a + area_b - shared
    return shared / np.maximum(whole, 1e-9)


def _groups(found: Boxes, limit: float, over: str) -> list[tuple[int, NDArray[np.bool_]]]:
    """Greedy: the best row left takes every row left of its class that overlaps it by more than ``limit``."""
    table = overlaps(found.xyxy, found.xyxy, over) > limit
    table &= found.labels[:, None] == found.labels[None, :]
    np.fill_diagonal(table, True)
    left = np.ones(len(found.scores), bool)
    groups = []
    for row in range(len(left)):
        if left[row]:
            members = table[row] & left
            left &= ~members
            groups.append((row, members))
    return groups


def suppress(found: Boxes, limit: float, over: str = "union") -> Boxes:
    """Non-maximum suppression within each class; the best of each group stays as it is."""
    found = found.best_first()
    return found.take(np.array([row for row, _ in _groups(found, limit, over)], np.intp))


def blend(found: Boxes, limit: float) -> Boxes:
    """Weighted non-maximum suppression: boxes and points of a group are averaged by score, the best score stays.

    As MediaPipe's non_max_suppression_calculator with WEIGHTED; boxes jitter less from frame to frame.
    """
    found = found.best_first()
    kept, xyxy, points = [], [], []
    for row, members in _groups(found, limit, "union"):
        weights = found.scores[members]
        kept.append(row)
        xyxy.append(np.average(found.xyxy[members], axis=0, weights=weights))
        points.append(np.average(found.points[members], axis=0, weights=weights))
    if not kept:
        return found
    rows = np.array(kept, np.intp)
    return Boxes(np.array(xyxy, np.float32), found.scores[rows], found.labels[rows], np.array(points, np.float32))
