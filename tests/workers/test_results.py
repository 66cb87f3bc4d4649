"""What a model may return, and what is refused."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ModelError
from common.messages import Result
from common.wire import Reader, encode
from workers.model import Detection, Findings, Tag
from workers.results import check_results

BOX = (1.0, 2.0, 30.0, 40.0)


def check(*results: Any, count: int | None = None):
    return check_results("m", list(results), len(results) if count is None else count, 100, 80)


def one(**changes: Any) -> Findings:
    return Findings([Detection(**{"label": "cat", "score": 0.5, "box": BOX, **changes})])


def test_a_proper_answer_passes_unchanged():
    found = Findings([Detection("cat", 0.5, BOX, [(3.0, 4.0)], 7)], [Tag("indoor", 1.0)])
    checked = check(found, Findings())
    assert checked.findings == [found, Findings()]
    assert checked.dropped == 0


@pytest.mark.parametrize(
    ("results", "count", "says"),
    [
        (None, 1, "returned None"),
        ({}, 1, "returned a dict"),
        ([Findings()], 2, "1 results for 2 pictures"),
        ([Findings(), Findings()], 1, "2 results for 1 pictures"),
        ([[]], 1, "a list instead of Findings"),
        ([Findings(detections=None)], 1, "detections are None"),  # type: ignore[arg-type]
        ([Findings(detections=[BOX])], 1, "a tuple among the detections"),  # type: ignore[list-item]
        ([Findings(tags=["indoor"])], 1, "a str among the tags"),  # type: ignore[list-item]
    ],
)
def test_answers_of_another_shape_are_refused(results, count, says):
    with pytest.raises(ModelError, match=says):
        check_results("m", results, count, 100, 80)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"score": math.nan}, "score of 'cat' holds nan"),
        ({"score": np.float32("inf")}, "score of 'cat' holds inf"),
        ({"score": 1.5}, "score 1.5 of 'cat' is not between 0 and 1"),
        ({"score": -0.1}, "score -0.1"),
        ({"score": "0.5"}, "'0.5', not a number"),
        ({"score": True}, "True, not a number"),
        ({"score": np.bool_(True)}, "not a number"),
        ({"score": None}, "None, not a number"),
        ({"score": 10**400}, "not a number"),
        ({"score": np.zeros(2)}, "not a number"),
        ({"box": (1, 2, 3)}, "has 3 values"),
        ({"box": "1234"}, "not a sequence"),
        ({"box": (1, math.nan, 3, 4)}, "box of 'cat' holds nan"),
        ({"box": (1, 2, math.inf, 4)}, "box of 'cat' holds inf"),
        ({"box": (30, 2, 1, 40)}, "reversed"),
        ({"box": (1, 40, 30, 2)}, "reversed"),
        ({"box": (101, 2, 130, 40)}, "outside the 100x80 picture"),
        ({"box": (-9, -9, -1, -1)}, "outside the 100x80 picture"),
        ({"points": [(1, 2, 3)]}, "3 values, not x and y"),
        ({"points": [(1, math.nan)]}, "point of 'cat' holds nan"),
        ({"points": [(1, 1)] * 65}, "65 points"),
        ({"label": ""}, "0 characters"),
        ({"label": "x" * 257}, "257 characters"),
        ({"label": 3}, "not a str"),
        ({"label": "\ud800"}, "not valid Unicode"),
        ({"track": -1}, "not a whole number"),
        ({"track": 1.5}, "not a whole number"),
    ],
)
def test_nonsense_in_a_detection_is_named(changes, says):
    with pytest.raises(ModelError, match=says) as caught:
        check(Findings(), one(**changes))
    assert "model m, picture 1 of the batch" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tags_are_checked_too():
    with pytest.raises(ModelError, match="score of 'x' holds nan"):
        check(Findings(tags=[Tag("x", math.nan)]))
    with pytest.raises(ModelError, match="0 characters"):
        check(Findings(tags=[Tag("", 0.5)]))


def test_boxes_over_the_edge_are_clipped():
    (found,) = check(one(box=(-5, -5, 200, 40))).findings
    assert found.detections[0].box == (0.0, 0.0, 100.0, 40.0)


def test_rounding_just_beyond_one_is_forgiven():
    found = check(one(score=1.0000002), one(score=-1e-6)).findings
    assert [f.detections[0].score for f in found] == [1.0, 0.0]


@pytest.mark.parametrize("array", [np.float32, np.float16, np.float64, torch.tensor])
def test_numpy_and_torch_values_become_plain_ones(array):
    box: Any = np.array([1, 2, 3, 4], np.float32) if array is not torch.tensor else torch.tensor([1.0, 2, 3, 4])
    raw = one(label=np.str_("cat"), score=array(0.5), box=box, points=[(array(1), array(2))], track=np.int64(4))
    (found,) = check(raw).findings
    detection = found.detections[0]
    assert detection == Detection("cat", 0.5, (1.0, 2.0, 3.0, 4.0), [(1.0, 2.0)], 4)
    plain = [detection.label, detection.score, *detection.box, *detection.points[0], detection.track]
    assert {type(v) for v in plain} == {str, float, int}


def test_more_than_a_thousand_are_cut_to_the_best_in_their_order():
    scores = [i / 1200 for i in range(1200)]
    found = Findings([Detection("x", s, BOX) for s in scores], [Tag("t", s) for s in reversed(scores)])
    checked = check(found)
    (kept,) = checked.findings
    assert checked.dropped == 400
    assert [d.score for d in kept.detections] == scores[200:]
    assert [t.score for t in kept.tags] == list(reversed(scores[200:]))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=5) | st.tuples(inner, inner, inner, inner),
    max_leaves=8,
)


@given(anything, anything, anything, anything, anything)
def test_whatever_passes_can_be_sent(label, score, box, points, track):
    raw = Findings([Detection(label, score, box, points, track)])
    try:
        (found,) = check(raw).findings
    except ModelError:
        return
    result = Result(stream="s", epoch=0, index=0, worker="w", detections=found.detections, tags=found.tags)
    assert Reader(Result).decode([encode(result)])[0] == result
