"""JSON lines: one object a frame, in order (DESIGN §9). Each line is written whole and at once."""

from __future__ import annotations

import contextlib
import json
from collections import deque
from fractions import Fraction
from io import FileIO
from pathlib import Path
from typing import Any

from common.errors import OutputError
from common.messages import Detection
from sink.ledger import State
from sink.outputs.partfile import write_error
from sink.outputs.place import Mark, Part, Position
from sink.reorder import Decision

#: Decimals of box coordinates (pixels) and scores: finer is below what any model resolves.
BOX_DIGITS, SCORE_DIGITS, TIME_DIGITS = 2, 4, 6


class JsonLinesOutput:
    """Opened with the first line. Where ``position`` names an earlier part, the file is gone on with."""

    def __init__(
        self, path: Path, stream: str, epoch: int, time_base: Fraction, position: Position | None = None
    ) -> None:
        self.name = self.path = path
        self._stream, self._epoch, self._base = stream, epoch, time_base
        self._append = bool(position and position.parts)
        self._file: FileIO | None = None
        self._size = path.stat().st_size if self._append and path.is_file() else 0
        self._kept = self._size  # up to the last durable line
        self._ends: deque[tuple[int, int]] = deque()  # (index, file size after it) of lines that are not durable yet

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
        data = memoryview(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        before = self._size
        try:
            if self._file is None:
                self._file = FileIO(self.path, "a" if self._append else "w")
            while data:
                written = self._file.write(data) or 0
                self._size += written
                data = data[written:]
        except OSError as error:
            if self._file is not None:
                with contextlib.suppress(OSError):  # no half line stays; a pipe cannot take it back
                    self._file.truncate(before)
            raise write_error(self.path, error) from None
        self._ends.append((decision.index, self._size))

    def mark(self, durable: int, error: str = "") -> Mark:
        """What there is to go on with after a sudden end: the lines up to frame ``durable``."""
        while len(self._ends) > 1 and self._ends[1][0] <= durable:
            self._ends.popleft()
        if self._ends and self._ends[0][0] <= durable:
            self._kept = self._ends[0][1]
        regular = self._file is None or self.path.is_file()
        parts = [Part(str(self.path))] if self._file is not None or self._append else []
        return Mark(path=str(self.name), parts=parts, size=self._kept if regular else -1, lines=True, error=error)

    def discard(self) -> None:
        """Leave the file as it is."""
        with contextlib.suppress(OutputError):
            self.close()

    def close(self) -> None:
        """Raises OutputError."""
        file, self._file = self._file, None
        if file is not None:
            self._append = True
            try:
                file.close()
            except OSError as error:
                raise write_error(self.path, error) from None


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
