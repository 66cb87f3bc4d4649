"""Live mode keeps its word: the video goes on at its speed, whether the workers or the encoder are too slow for it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.support import Place, ffmpeg, frame_times, ledger, lines, numbered_clip, numbers, wait_for

#: What a machine that does other things as well may add to a run of some seconds, from first to last frame.
SLACK_S = 6.0
#: Parts that load models and libraries on such a machine.
START_S = 60.0


class Timed:
    """A run whose output is watched: when its first and its last line were written."""

    def __init__(self, place: Place, *arguments: str | Path) -> None:
        self._place = place
        self._process = place.start("run", *arguments, "-o", "out.mp4", "-o", "out.jsonl", "--live")
        path = place.folder / "out.jsonl"
        try:
            wait_for(lambda: self._over or (path.exists() and path.stat().st_size), START_S, "the first frame")
            first = last = time.monotonic()
            size = 0

            def ended() -> bool:
                nonlocal size, last
                if path.exists() and path.stat().st_size > size:
                    size, last = path.stat().st_size, time.monotonic()
                return self._over

            wait_for(ended, 100, "the end of the run")
        finally:
            if not self._over:
                self._process.terminate()
            _, self.err = self._process.communicate(timeout=30)
        self.code, self.seconds = self._process.returncode, last - first

    @property
    def _over(self) -> bool:
        return self._process.poll() is not None

    @property
    def told(self) -> list[dict[str, Any]]:
        return lines(self._place.folder / "out.jsonl")


def test_workers_ten_times_too_slow(place: Place) -> None:
    """The video has all its frames at its own speed; what is inferred is inferred in time."""
    frames = 200
    clip = numbered_clip(place.folder / "clip.mp4", frames)
    run = Timed(place, clip, "--model", "echo:400", "--latency", "700ms", "--preset", "ultrafast")
    assert run.code == 0, run.err
    assert run.seconds < frames / 25 + SLACK_S
    assert numbers(place.folder / "out.mp4") == list(range(frames))
    assert [line["index"] for line in run.told] == list(range(frames))
    found = ledger(place.folder / "out.mp4")
    assert found["frames"] == frames
    assert found["states"].keys() <= {"annotated", "skipped", "late"}
    annotated, late = found["states"]["annotated"], found["reasons"].get("deadline", 0)
    assert annotated >= 4, "of 20 that the worker can do, if it is there from the start"
    assert late <= max(1, 0.05 * (annotated + late)), found
    # Boxes are carried from one result to the next, which is less than a second away.
    first = next(line["index"] for line in run.told if line["state"] == "annotated")
    assert sum(bool(line["detections"]) for line in run.told[first:]) >= 0.9 * (frames - first)


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """6 s that are easy to decode and hard to encode."""
    path = tmp_path_factory.mktemp("noise") / "noise.mp4"
    ffmpeg(
        "-f", "lavfi", "-i", "testsrc2=s=1280x720:r=50,noise=alls=20:allf=t", "-frames:v", "300", "-pix_fmt", "yuv420p",
        "-c:v", "libx264", "-preset", "ultrafast", "-tune", "fastdecode", "-crf", "32", "-bf", "0", path,
    )  # fmt: skip
    return path


def test_an_encoder_far_too_slow(place: Place, noise: Path) -> None:
    """Pictures are missing, and counted; time is kept, and nothing else is lost."""
    run = Timed(place, noise, "--model", "echo", "--preset", "veryslow", "--crf", "1")
    assert run.code == 1, "some frames were lost"
    assert run.seconds < 6 + SLACK_S, "it would take a minute and more to encode them all"
    found = ledger(place.folder / "out.mp4")
    assert found["frames"] == 300
    lost = found["states"]["lost"]
    assert lost > 0
    assert found["reasons"]["sink_overload"] == lost
    assert "failed" not in found["states"]
    kept = [line for line in run.told if line["state"] != "lost"]
    assert len(run.told) == 300
    times = frame_times(place.folder / "out.mp4")
    assert [float(time) for time in times] == pytest.approx([line["pts"] for line in kept], abs=1e-3)
    assert kept[-1]["index"] >= 150, "it goes on to show pictures"
