"""The built-in models on real clips, through the whole chain: what is found, where, and on which frames."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.clips import clip
from tests.integration.judge import complaints
from tests.support import ffmpeg, frame_times, headrace, ledger, lines, sound_packets

Line = dict[str, Any]
Box = tuple[float, float, float, float]


def annotated(source: Path, folder: Path, model: str, *options: str, end: str = "mp4") -> tuple[Path, list[Line]]:
    """Video and JSON lines of a run; every frame is named once, in order, with the source's time."""
    output, found = folder / f"out.{end}", folder / "out.jsonl"
    both = ("-o", found, "-o", output) if end != "jsonl" else ("-o", found)
    done = headrace("run", source, *both, "--model", model, "--preset", "ultrafast", *options)
    assert done.code == 0, done.err
    named = lines(found)
    assert [line["index"] for line in named] == list(range(len(named)))
    assert [line["pts"] for line in named] == [round(float(time), 6) for time in frame_times(source)]
    return output, named


def share(named: list[Line], count: int) -> float:
    """Part of the frames that show so many detections."""
    return sum(len(line["detections"]) == count for line in named) / len(named)


def iou(one: Box, other: Box) -> float:
    """Intersection over union."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    common = max(0.0, wide) * max(0.0, high)
    return common / (area(one) + area(other) - common)


def area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Line]]:
    """Two people, one of whom speaks, 105 frames; every frame is inferred."""
    return annotated(clip("obama_speech.mp4"), tmp_path_factory.mktemp("speech"), "face")


def test_both_faces_are_found(speech: tuple[Path, list[Line]]) -> None:
    _, named = speech
    assert share(named, 2) >= 0.95
    for line in named:
        for one in line["detections"]:
            x0, y0, x1, y1 = one["box"]
            assert one["label"] == "face"
            assert 0.5 < one["score"] <= 1
            assert 0 <= x0 < x1 <= 320
            assert 0 <= y0 < y1 <= 240
            # Eyes, nose, mouth and ears, near their face.
            assert len(one["points"]) == 6
            wide, high = x1 - x0, y1 - y0
            assert all(
                x0 - wide / 2 < x < x1 + wide / 2 and y0 - high / 2 < y < y1 + high / 2 for x, y in one["points"]
            )


def test_faces_stay_where_they_are(speech: tuple[Path, list[Line]]) -> None:
    """Boxes that jump would mean answers on the wrong frames, or a wrong way back to the source's pixels."""
    _, named = speech
    overlaps = [
        max(iou(one["box"], other["box"]) for other in after["detections"])
        for before, after in pairwise(named)
        for one in before["detections"]
        if after["detections"]
    ]
    assert median(overlaps) >= 0.8
    # Marked by hand in the first picture.
    first = [one["box"] for one in named[0]["detections"]]
    assert max(iou(box, (63, 55, 103, 100)) for box in first) > 0.6
    assert max(iou(box, (178, 36, 222, 86)) for box in first) > 0.6


def test_the_speech_is_still_there(speech: tuple[Path, list[Line]]) -> None:
    output, named = speech
    source = clip("obama_speech.mp4")
    assert frame_times(output) == frame_times(source)
    assert sound_packets(output) == sound_packets(source)
    assert complaints(output) == ""
    assert ledger(output.with_suffix(".jsonl"))["states"] == {"annotated": len(named)}


@pytest.mark.slow
def test_every_third_frame_carries_its_box_on(tmp_path: Path) -> None:
    output, named = annotated(
        clip("WolfgangLanger_Pexels.mp4"), tmp_path, "face", "--every", "3", end="jsonl"
    )  # fmt: skip
    assert len(named) == 472
    assert share(named, 1) >= 0.95
    assert [line["state"] == "annotated" for line in named] == [index % 3 == 0 for index in range(472)]
    assert ledger(output)["states"] == {"annotated": 158, "carried": 314}
    for before, after in pairwise(named):
        if after["state"] == "carried":
            assert after["detections"] == before["detections"]


def test_five_a_second_is_five_a_second(tmp_path: Path) -> None:
    """8.75 s at 12 frames a second: the grid of 0.2 s is kept, the rest carries on."""
    output, named = annotated(clip("obama_speech.mp4"), tmp_path, "echo", "--fps", "5", end="jsonl")
    times = [line["pts"] for line in named if line["state"] == "annotated"]
    steps = [after - before for before, after in pairwise(times)]
    assert times[0] == named[0]["pts"]
    assert len(times) == pytest.approx(5 * (named[-1]["pts"] - named[0]["pts"]), abs=2)
    assert 0.16 < min(steps) <= max(steps) < 0.26
    assert ledger(output)["states"] == {"annotated": len(times), "carried": len(named) - len(times)}
    assert all(len(line["detections"]) == 2 for line in named)


@pytest.mark.slow
def test_nobody_is_found_where_nobody_is(tmp_path: Path) -> None:
    _, named = annotated(clip("no_face.mp4"), tmp_path, "face", end="jsonl")
    assert len(named) > 90
    assert share(named, 0) >= 0.92


def test_a_picture_is_a_video_of_one_frame(tmp_path: Path) -> None:
    from skimage import data, io

    io.imsave(tmp_path / "cat.png", data.cat())
    output, (line,) = annotated(tmp_path / "cat.png", tmp_path, "objects")
    (found,) = line["detections"]
    assert found["label"] == "cat"
    assert found["score"] > 0.8
    # The cat fills the picture of 451 × 300 but for the right edge.
    assert iou(found["box"], (0, 0, 430, 300)) > 0.8
    assert complaints(output) == ""


def test_the_cyclist_is_found_where_he_stands(tmp_path: Path) -> None:
    """From frame 105 to 136 of the street clip a cyclist waits at a red light, marked by hand."""
    source = tmp_path / "street.mp4"
    ffmpeg(
        "-i", clip("bikes.mp4"), "-vf", "select='between(n,105,136)',setpts=N/25/TB", "-an",
        "-c:v", "libx264", "-preset", "veryfast", "-crf", "15", source,
    )  # fmt: skip
    _, named = annotated(source, tmp_path, "objects", "--every", "2", end="jsonl")
    assert len(named) == 32
    right = 0
    for line in named:
        people = [one["box"] for one in line["detections"] if one["label"] == "person"]
        right += any(iou(box, (360, 12, 482, 268)) > 0.5 for box in people)
    assert right >= 0.9 * len(named), f"{right} of {len(named)}"
