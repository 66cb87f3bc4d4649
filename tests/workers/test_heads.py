"""Answers of networks, as arrays: which form they are, and what is made of each."""

from __future__ import annotations

import numpy as np
import pytest

from workers.models.heads import Head
from workers.models.labels import Labels
from workers.models.onnx_input import FormError
from workers.models.sidecar import Facts

SIDE = 64
#: Anchors of a 64 × 64 picture at strides 8, 16 and 32.
ANCHORS = 64 + 16 + 4


def settled(head: Head, **outputs: np.ndarray) -> Head:
    count = len(next(iter(outputs.values())))
    return head.settled(outputs, count, SIDE, SIDE)


def boxes(head: Head, **outputs: np.ndarray) -> list[list[tuple[str, float, tuple[float, ...]]]]:
    count = len(next(iter(outputs.values())))
    found = settled(head, **outputs).findings(outputs, count, SIDE, SIDE)
    return [[(d.label, round(d.score, 4), d.box) for d in one.detections] for one in found]


def anchors(*rows: list[float], count: int = 2, values: int = 6, number: int = ANCHORS) -> np.ndarray:
    """``count`` tables ``values`` × A, zero but for ``rows`` at the first anchors of the last picture."""
    table = np.zeros((count, values, number), np.float32)
    for at, row in enumerate(rows):
        table[-1, : len(row), at] = row
    return table


def test_anchors_either_way_round() -> None:
    """[N, 84, 8400] and its transpose: centre and size, and the best class."""
    table = anchors([10, 20, 4, 8, 0.1, 0.9], [40, 40, 10, 10, 0.6, 0.3], [50, 50, 9, 9, 0.2, 0.2])
    want = [[], [("class 1", 0.9, (8, 16, 12, 24)), ("class 0", 0.6, (35, 35, 45, 45))]]
    assert boxes(Head(), y=table) == want
    assert boxes(Head(), y=table.transpose(0, 2, 1)) == want
    assert boxes(Head(), y=table.astype(np.float16))[1][0][2] == (8, 16, 12, 24)


def test_one_thing_seen_twice_is_one_but_of_two_classes_two() -> None:
    table = anchors([10, 10, 10, 10, 0.9, 0], [11, 10, 10, 10, 0.8, 0], [10, 11, 10, 10, 0, 0.7])
    assert [score for _, score, _ in boxes(Head(), y=table)[1]] == [0.9, 0.7]
    assert len(boxes(Head(nms=0.95), y=table)[1]) == 3


def test_objectness_is_known_by_three_anchors_a_cell() -> None:
    """YOLOv5: [N, 25200, 85]; what there is times what it is."""
    table = anchors([10, 20, 4, 8, 0.5, 0.1, 0.8], [30, 30, 8, 8, 0.2, 1, 1], values=7, number=3 * ANCHORS)
    assert boxes(Head(), y=table.transpose(0, 2, 1)) == [[], [("class 1", 0.4, (8, 16, 12, 24))]]
    assert settled(Head(), y=table).form == "objectness"


def test_rows_are_suppressed_already() -> None:
    """[N, 300, 6], of exports with NMS in them and of YOLOv10 and later."""
    table = np.zeros((1, 300, 6), np.float32)
    table[0, :3] = [(8, 16, 12, 24, 0.9, 1), (8, 16, 12, 24, 0.8, 1), (-5, 0, 70, 64, 0.3, 0)]
    table[0, 3] = (1, 1, 2, 2, 0.1, 0)
    same = ("moon", 0.9, (8, 16, 12, 24)), ("moon", 0.8, (8, 16, 12, 24)), ("lamp", 0.3, (0, 0, 64, 64))
    assert boxes(Head(Labels(["lamp", "moon"])), y=table) == [list(same)]
    assert len(boxes(Head(threshold=0.05), y=table)[0]) == 4


@pytest.mark.parametrize("form", ["anchors", "rows"])
def test_points_of_a_pose(form: str) -> None:
    """Two points of x, y and how visible; all are kept, in the network's order."""
    points = [1, 2, 0.9, 30, 31, 0.1]
    if form == "anchors":
        table = anchors([10, 20, 4, 8, 0.9, *points], count=1, values=11)
    else:
        table = np.zeros((1, 300, 12), np.float32)
        table[0, 0] = [8, 16, 12, 24, 0.9, 0, *points]
    head = settled(Head(points=(2, 3), classes=1), y=table)
    (one,) = head.findings({"y": table}, 1, SIDE, SIDE)
    assert [(d.box, d.points) for d in one.detections] == [((8, 16, 12, 24), [(1, 2), (30, 31)])]


def test_masks_are_left_out() -> None:
    """A segmenting network has 32 numbers more a box, and a second output."""
    table = anchors([10, 20, 4, 8, 0.9, 0.1, *[5.0] * 32], count=1, values=38)
    masks = np.zeros((1, 32, 16, 16), np.float32)
    assert boxes(Head(classes=2), y=table, masks=masks) == [[("class 0", 0.9, (8, 16, 12, 24))]]


def test_relative_boxes_of_other_corners() -> None:
    found = {
        "boxes": np.array([[[0.5, 0.25, 0.25, 0.5]]], np.float32),
        "scores": np.array([[0.5]], np.float32),
        "labels": np.array([[7]]),
    }
    assert boxes(Head(relative=True, corners="xywh"), **found) == [[("class 7", 0.5, (32, 16, 48, 48))]]
    assert boxes(Head(relative=True, corners="cxcywh"), **found) == [[("class 7", 0.5, (24, 0, 40, 32))]]
    assert boxes(Head(), **(found | {"boxes": found["boxes"] * 64})) == [[]], "a reversed box is nothing"


def test_probabilities_stay_as_they_are_and_logits_become_some() -> None:
    scores = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], np.float32)
    tags = [one.tags[0] for one in settled(Head(), y=scores).findings({"y": scores}, 2, SIDE, SIDE)]
    assert [(tag.label, round(tag.score, 4)) for tag in tags] == [("class 0", 0.7), ("class 2", 0.8)]
    logits = np.log(scores)[:, :, None, None] + 3  # N × C × 1 × 1
    (tag, _) = [one.tags[0] for one in settled(Head(), y=logits).findings({"y": logits}, 2, SIDE, SIDE)]
    assert tag.score == pytest.approx(0.7, abs=1e-4)


@pytest.mark.parametrize(
    ("head", "outputs", "says"),
    [
        (Head(), {"y": np.zeros((2, 3, 16, 16))}, r"returned y \(2, 3, 16, 16\), of no form known here"),
        (Head(), {"y": np.zeros((2, 300, 5))}, "no form known"),
        (Head(), {"a": np.zeros((2, 3)), "b": np.zeros((2, 3))}, "no form known"),
        (Head(form="boxes"), {"y": np.zeros((2, 300, 6))}, "called boxes, scores and labels are wanted"),
        (Head(form="rows"), {"y": np.zeros((2, 300, 5))}, "rows of 5 numbers"),
        (Head(form="tags"), {"y": np.zeros((2, 1))}, "two classes or more"),
        (Head(form="anchors"), {"y": np.zeros((2, 4, ANCHORS))}, "no class is among them"),
        (Head(points=(17, 3)), {"y": np.zeros((2, 20, ANCHORS))}, "no class|too few"),
        (Head(), {"boxes": np.zeros((2, 9, 4)), "scores": np.zeros((2, 8)), "labels": np.zeros((2, 9))}, "N x M x 4"),
    ],
)
def test_what_cannot_be_read_is_named(head: Head, outputs: dict[str, np.ndarray], says: str) -> None:
    with pytest.raises(FormError, match=says):
        settled(head, **{name: one.astype(np.float32) for name, one in outputs.items()})


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("column", [0, 4])
def test_numbers_that_are_none_are_errors(value: float, column: int) -> None:
    table = np.zeros((1, 300, 6), np.float32)
    table[0, 0] = (8, 16, 12, 24, 0.9, 1)
    table[0, 0, column] = value
    with pytest.raises(FormError, match="no finite numbers"):
        boxes(Head(), y=table)
    row = [10, 20, 4, 8, 0.9, 0.1]
    row[column] = value
    with pytest.raises(FormError, match="no finite numbers"):
        boxes(Head(), y=anchors(row))


def test_a_class_that_is_no_number_has_a_name_all_the_same() -> None:
    table = np.zeros((1, 300, 6), np.float32)
    table[0, 0] = (8, 16, 12, 24, 0.9, np.nan)
    assert boxes(Head(), y=table) == [[("class -1", 0.9, (8, 16, 12, 24))]]


def test_metadata_are_read_with_care() -> None:
    facts = Facts.of(
        {"names": "{0: 'a', 2: 'c\\n'}", "imgsz": "[64, 96]", "stride": "16", "kpt_shape": "[17, 3]", "task": "pose"}
    )
    assert (facts.size, facts.stride, facts.points, facts.task) == ((96, 64), 16, (17, 3), "pose")
    assert facts.labels is not None
    assert [facts.labels[n] for n in range(3)] == ["a", "class 1", "c"]
    nonsense = {
        "names": "__import__('os').system('true')",
        "imgsz": "[" * 5000,
        "stride": "-1",
        "kpt_shape": "[1e9, 3]",
    }
    assert Facts.of(nonsense) == Facts()
    assert Facts.of({"names": "['x']", "imgsz": "32"}).size == (32, 32)
