"""JSON lines: the contract of DESIGN §9."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from common.errors import OutputError
from common.messages import Detection, Tag
from sink.ledger import State
from sink.outputs.jsonl import JsonLinesOutput
from sink.outputs.partfile import DiskFull
from sink.reorder import Decision
from tests.builders import TICK, notice

BASE = Fraction(1, 25 * TICK)


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def output(tmp_path: Path) -> JsonLinesOutput:
    return JsonLinesOutput(tmp_path / "out.jsonl", "cam", 3, BASE)


def test_a_plain_frame(output: JsonLinesOutput) -> None:
    output.write(Decision(notice(5), State.CARRIED), State.CARRIED, "")
    output.close()
    assert written(output.path) == [
        {"stream": "cam", "epoch": 3, "index": 5, "pts": 0.2, "state": "carried", "detections": []}
    ]


def test_everything_a_frame_can_have(output: JsonLinesOutput) -> None:
    face = Detection("Gesicht ü", 0.98765432, (1.23456, 2, 30.5, 40.0), points=[(3.14159, 4)], track=7)
    decision = Decision(notice(1), State.LATE, "", (face, Detection("b", 1.0, (0, 0, 1, 1))), (Tag("day", 0.123456),))
    output.write(decision, State.LATE, "deadline")
    output.close()
    (line,) = written(output.path)
    assert line == {
        "stream": "cam", "epoch": 3, "index": 1, "pts": 0.04, "state": "late", "reason": "deadline",
        "detections": [
            {"label": "Gesicht ü", "score": 0.9877, "box": [1.23, 2, 30.5, 40.0], "points": [[3.14, 4]], "track": 7},
            {"label": "b", "score": 1.0, "box": [0, 0, 1, 1]},
        ],
        "tags": [{"label": "day", "score": 0.1235}],
    }  # fmt: skip
    assert "Gesicht ü" in output.path.read_text(encoding="utf-8"), "readable, not escaped"


def test_each_line_is_on_disk_at_once(output: JsonLinesOutput) -> None:
    for index in range(3):
        output.write(Decision(notice(index), State.CARRIED), State.CARRIED, "")
        assert [line["index"] for line in written(output.path)] == list(range(index + 1))
    output.close()


def test_times_are_the_repaired_ones(output: JsonLinesOutput) -> None:
    output.write(Decision(notice(0, pts=None, out=-TICK // 3), State.CARRIED), State.CARRIED, "")
    output.close()
    assert written(output.path)[0]["pts"] == pytest.approx(-171 / (25 * TICK), abs=1e-6)


def test_nothing_written_leaves_no_file(output: JsonLinesOutput) -> None:
    output.close()
    assert not output.path.exists()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    output = JsonLinesOutput(tmp_path / "no" / "out.jsonl", "cam", 1, BASE)
    with pytest.raises(OutputError, match=r"cannot write .*out\.jsonl: No such file"):
        output.write(Decision(notice(0), State.CARRIED), State.CARRIED, "")
    output.close()


def test_a_full_disk() -> None:
    output = JsonLinesOutput(Path("/dev/full"), "cam", 1, BASE)
    with pytest.raises(DiskFull, match="No space left"):
        output.write(Decision(notice(0), State.CARRIED), State.CARRIED, "")
    assert output.mark(0).size == -1, "no regular file: nothing to go back in"
    output.close()
