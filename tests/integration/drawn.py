"""Runs with a model that finds nothing, and where drawing may change a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.messages import Detection
from sink.annotate import Annotator
from tests.integration.judge import complaints
from tests.support import frame_times, headrace

#: A model of the user's that finds nothing: whatever differs then is not a drawing.
NOTHING = """
from workers.model import Findings, InputSpec

class Nothing:
    input = InputSpec(width=64, height=36)
    def setup(self, device): pass
    def predict(self, pictures): return [Findings() for _ in pictures]
"""
#: Lossless in x264.
LOSSLESS = ("--crf", "0", "--preset", "ultrafast")


def through(source: Path, name: str, model: str = "nothing:Nothing", *options: str) -> Path:
    """The run's MP4, lossless unless ``options`` say otherwise; JSON lines lie beside it."""
    (source.parent / "nothing.py").write_text(NOTHING)
    output = source.parent / f"{name}.mp4"
    both = ("-o", output, "-o", output.with_suffix(".jsonl"))
    done = headrace("run", source, *both, "--model", model, *(options or LOSSLESS), cwd=source.parent)
    assert done.code == 0, done.err
    assert frame_times(output) == frame_times(source)
    assert complaints(output) == ""
    return output


def boxes(line: dict[str, Any]) -> list[tuple[float, float, float, float]]:
    return [one["box"] for one in line["detections"]]


def touched(detections: list[dict[str, Any]], shape: tuple[int, ...]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where drawing these may change luma and chroma."""
    height, width = shape
    luma, chroma = np.zeros((height, width), bool), np.zeros(((height + 1) // 2, (width + 1) // 2), bool)
    annotator = Annotator(width, height, 1, 2)
    for x0, y0, x1, y1 in annotator.touched([Detection(one["label"], one["score"], one["box"]) for one in detections]):
        luma[y0:y1, x0:x1] = True
        chroma[y0 // 2 : (y1 + 1) // 2, x0 // 2 : (x1 + 1) // 2] = True
    return luma, chroma
