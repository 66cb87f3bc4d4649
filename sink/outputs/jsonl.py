"""JSON lines: one object a frame, in order (DESIGN §9). Each line is written whole and at once."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any, TextIO

from common.errors import OutputError
from common.messages import Detection
from sink.ledger import State
from sink.reorder import Decision

#: Decimals of box coordinates (pixels) and scores: finer is below what any model resolves.
BOX_DIGITS, SCORE_DIGITS, TIME_DIGITS = 2, 4, 6


class JsonLinesOutput:
    """Opened with the first line."""

    def __init__(self, path: Path, stream: str, epoch: int, time_base: Fraction) -> None:
        self.path = path
        self._stream, self._epoch, self._base = stream, epoch, time_base
        self._file: TextIO | None = None

    def write(self, decision: Decision, state: State, reason: str) -> None:
        """One frame. Raises OutputError."""
        line: dict[str, Any] = {
            "stream": self._stream,
            "epoch": self._epoch,
            "index": decision.index,
            "pts": round(float(decision.notice.out * self._base), TIME_DIGITS),
            "state": str(state),
        }
        if reason:
            line["reason"] = reason
        line["detections"] = [_detection(one) for one in decision.detections]
        if decision.tags:
            line["tags"] = [{"label": tag.label, "score": round(tag.score, SCORE_DIGITS)} for tag in decision.tags]
        try:
            if self._file is None:
                self._file = self.path.open("w", encoding="utf-8", buffering=1)
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}") from None

    def close(self) -> None:
        """Raises OutputError."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:
                raise OutputError(f"cannot write {self.path}: {error.strerror}") from None


def _detection(one: Detection) -> dict[str, Any]:
    line: dict[str, Any] = {
        "label": one.label,
        "score": round(one.score, SCORE_DIGITS),
        "box": [round(value, BOX_DIGITS) for value in one.box],
    }
    if one.points:
        line["points"] = [[round(x, BOX_DIGITS), round(y, BOX_DIGITS)] for x, y in one.points]
    if one.track is not None:
        line["track"] = one.track
    return line
