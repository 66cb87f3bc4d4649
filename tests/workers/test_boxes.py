"""Suppression, blending and clipping of boxes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.models.boxes import Boxes, blend, overlaps, suppress


def boxes(*rows: tuple[float, ...], labels: list[int] | None = None) -> Boxes:
    """Rows of ``x0, y0, x1, y1, score``; one point each, its box's corner."""
    table = np.array(rows, np.float32).reshape(-1, 5)
    numbers = np.array(labels if labels is not None else [0] * len(table), np.int64)
    return Boxes(table[:, :4], table[:, 4], numbers, table[:, None, :2])


def test_overlap_over_union_and_over_the_smaller():
    a, b = np.array([[0, 0, 10, 10]], np.float32), np.array([[5, 0, 15, 10], [2, 2, 4, 4], [20, 0, 30, 9]], np.float32)
    assert overlaps(a, b)[0].tolist() == pytest.approx([1 / 3, 0.04, 0])
    assert overlaps(a, b, "smaller")[0].tolist() == pytest.approx([0.5, 1, 0])


def test_suppression_keeps_the_best_of_each_group():
    kept = suppress(boxes((0, 0, 10, 10, 0.7), (1, 0, 11, 10, 0.9), (50, 50, 60, 60, 0.8)), 0.5)
    assert kept.scores.tolist() == pytest.approx([0.9, 0.8])
    assert kept.xyxy[0].tolist() == [1, 0, 11, 10]


def test_classes_do_not_suppress_each_other():
    kept = suppress(boxes((0, 0, 10, 10, 0.7), (0, 0, 10, 10, 0.9), labels=[1, 2]), 0.5)
    assert kept.labels.tolist() == [2, 1]


def test_blending_averages_by_score_and_keeps_the_best_score():
    kept = blend(boxes((0, 0, 10, 10, 0.9), (2, 0, 12, 10, 0.3)), 0.3)
    assert kept.scores.tolist() == pytest.approx([0.9])
    assert kept.xyxy[0].tolist() == pytest.approx([0.5, 0, 10.5, 10])
    assert kept.points[0, 0].tolist() == pytest.approx([0.5, 0])


@pytest.mark.parametrize("merge", [blend, suppress])
def test_nothing_comes_of_nothing(merge):
    assert len(merge(boxes(), 0.5).scores) == 0


def test_findings_are_clipped_and_what_is_outside_is_left_out():
    found = boxes((-5, -5, 10, 10, 0.9), (110, 0, 120, 10, 0.8)).findings(("face",), 100, 100)
    assert [d.box for d in found.detections] == [(0, 0, 10, 10)]
    assert found.detections[0].label == "face"


coordinates = st.floats(0, 100, width=32)
rows = st.tuples(
    coordinates, coordinates, st.floats(1, 50, width=32), st.floats(1, 50, width=32), st.floats(0, 1, width=32)
)


@given(st.lists(rows, max_size=30), st.sampled_from([0.3, 0.6]))
def test_what_is_kept_overlaps_no_more_than_the_limit(table, limit):
    found = boxes(*((x, y, x + w, y + h, s) for x, y, w, h, s in table))
    kept = suppress(found, limit)
    between = overlaps(kept.xyxy, kept.xyxy) - np.eye(len(kept.scores))
    assert not len(kept.scores) or between.max() <= limit + 1e-6
    covered = overlaps(found.xyxy, kept.xyxy) > limit
    assert all(covered[i].any() or found.xyxy[i].tolist() in kept.xyxy.tolist() for i in range(len(found.scores)))
    assert sorted(kept.scores, reverse=True) == list(kept.scores)
