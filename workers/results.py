"""Is that an answer? Checks and cleans what a model returns, before anything is made of it. Pure.

Nonsense (a missing result, NaN, a reversed box) is a ModelError that names model, picture and value; a box that reaches
over the edge is clipped; more than MAX_FINDINGS are cut to the best. Numpy scalars and arrays come out as floats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from common.errors import ModelError
from common.messages import MAX_FINDINGS, MAX_NAME
from workers.model import Detection, Findings, Tag

#: Most points of one detection (the message's limit).
MAX_POINTS = 64
#: How far rounding may carry a score beyond 0…1; it is then set to the limit.
SCORE_SLACK = 1e-3
#: Largest track number (the message's limit).
MAX_TRACK = 2**62


Found = TypeVar("Found", Detection, Tag)


@dataclass(frozen=True, slots=True)
class Checked:
    """Clean findings, one a picture, and how many findings were beyond the limit."""

    findings: list[Findings]
    dropped: int = 0


def check_results(model: str, results: Any, count: int, width: int, height: int) -> Checked:
    """``results``: what ``predict`` returned for ``count`` pictures of ``width`` × ``height`` pixels.

    Raises ModelError, one line.
    """
    if not isinstance(results, list | tuple):
        raise ModelError(f"model {model}: predict() returned {_kind(results)}, not a list of Findings")
    if len(results) != count:
        raise ModelError(f"model {model}: predict() returned {len(results)} results for {count} pictures")
    dropped = 0
    checked = []
    for number, found in enumerate(results):
        findings, lost = _Picture(model, number, width, height).check(found)
        checked.append(findings)
        dropped += lost
    return Checked(checked, dropped)


class _Picture:
    """The checks of one picture's findings; it knows what to name in an error."""

    def __init__(self, model: str, number: int, width: int, height: int) -> None:
        self._where = f"model {model}, picture {number} of the batch"
        self._width, self._height = float(width), float(height)

    def check(self, found: Any) -> tuple[Findings, int]:
        if not isinstance(found, Findings):
            self._refuse(f"{_kind(found)} instead of Findings")
        detections = [self._detection(one) for one in self._items(found.detections, "detections")]
        tags = [self._tag(one) for one in self._items(found.tags, "tags")]
        best_detections, best_tags = _best(detections), _best(tags)
        lost = len(detections) + len(tags) - len(best_detections) - len(best_tags)
        return Findings(best_detections, best_tags), lost

    def _items(self, items: Any, what: str) -> Sequence[Any]:
        if not isinstance(items, list | tuple):
            self._refuse(f"{what} are {_kind(items)}, not a list")
        return items

    def _detection(self, one: Any) -> Detection:
        if not isinstance(one, Detection):
            self._refuse(f"{_kind(one)} among the detections, not a Detection")
        label = self._label(one.label)
        score = self._score(one.score, label)
        box = self._box(one.box, label)
        points = [self._pair(point, label) for point in self._sequence(one.points, f"points of {label!r}")]
        if len(points) > MAX_POINTS:
            self._refuse(f"{label!r} has {len(points)} points, at most {MAX_POINTS} are allowed")
        return Detection(label, score, box, points, self._track(one.track, label))

    def _tag(self, one: Any) -> Tag:
        if not isinstance(one, Tag):
            self._refuse(f"{_kind(one)} among the tags, not a Tag")
        label = self._label(one.label)
        return Tag(label, self._score(one.score, label))

    def _label(self, label: Any) -> str:
        if not isinstance(label, str):
            self._refuse(f"label {_short(label)} is {_kind(label)}, not a str")
        if not 1 <= len(label) <= MAX_NAME:
            self._refuse(f"a label has {len(label)} characters, 1 to {MAX_NAME} are allowed")
        try:
            label.encode()
        except UnicodeEncodeError:
            self._refuse(f"label {_short(label)} is not valid Unicode")
        return str(label)  # numpy's str_ becomes a plain str

    def _score(self, value: Any, label: str) -> float:
        score = self._number(value, f"score of {label!r}")
        if not -SCORE_SLACK <= score <= 1 + SCORE_SLACK:
            self._refuse(f"score {score:g} of {label!r} is not between 0 and 1")
        return min(max(score, 0.0), 1.0)

    def _box(self, value: Any, label: str) -> tuple[float, float, float, float]:
        values = self._sequence(value, f"box of {label!r}")
        if len(values) != 4:
            self._refuse(f"box {_short(value)} of {label!r} has {len(values)} values, not x0, y0, x1, y1")
        x0, y0, x1, y1 = (self._number(v, f"box of {label!r}") for v in values)
        text = f"box ({x0:g}, {y0:g}, {x1:g}, {y1:g}) of {label!r}"
        if x0 > x1 or y0 > y1:
            self._refuse(f"{text} is reversed: x0 <= x1 and y0 <= y1 is wanted")
        if x1 < 0 or y1 < 0 or x0 > self._width or y0 > self._height:
            self._refuse(f"{text} lies outside the {self._width:g}x{self._height:g} picture")
        return max(x0, 0.0), max(y0, 0.0), min(x1, self._width), min(y1, self._height)

    def _pair(self, value: Any, label: str) -> tuple[float, float]:
        values = self._sequence(value, f"point of {label!r}")
        if len(values) != 2:
            self._refuse(f"a point of {label!r} has {len(values)} values, not x and y")
        return self._number(values[0], f"point of {label!r}"), self._number(values[1], f"point of {label!r}")

    def _track(self, value: Any, label: str) -> int | None:
        if value is None:
            return None
        number = self._number(value, f"track of {label!r}")
        if number != int(number) or not 0 <= number <= MAX_TRACK:
            self._refuse(f"track {_short(value)} of {label!r} is not a whole number from 0")
        return int(value)

    def _sequence(self, value: Any, what: str) -> Sequence[Any]:
        """Lists, tuples, arrays and tensors of one or two dimensions as a list."""
        if hasattr(value, "tolist") and not isinstance(value, list | tuple):
            value = value.tolist()
        if not isinstance(value, list | tuple):
            self._refuse(f"{what} is {_kind(value)}, not a sequence of numbers")
        return value

    def _number(self, value: Any, what: str) -> float:
        """A finite float of anything that *is* a number: not of text or truth values, which float() would take."""
        if isinstance(value, str | bytes | bool) or type(value).__name__ in ("bool_", "bool"):
            self._refuse(f"{what} holds {_short(value)}, not a number")
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError, RuntimeError):
            self._refuse(f"{what} holds {_short(value)}, not a number")
        if not math.isfinite(number):
            self._refuse(f"{what} holds {number}: finite numbers are wanted")
        return number

    def _refuse(self, what: str) -> NoReturn:
        raise ModelError(f"{self._where}: {what}")


def _best(items: list[Found]) -> list[Found]:
    """At most MAX_FINDINGS, the best scored, in their order."""
    if len(items) <= MAX_FINDINGS:
        return items
    order = sorted(range(len(items)), key=lambda i: -items[i].score)[:MAX_FINDINGS]
    return [items[i] for i in sorted(order)]


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _short(value: Any) -> str:
    return repr(value).replace("\n", " ")[:80]
