"""The whole chain against ffmpeg's bare transcode: CPU per frame, speed, memory, time to the first frame.

``python -m benchmarks.chain`` (or ``make bench``) makes a 1080p50 clip, runs both programs in turn and prints ratios.
CPU per frame is the difference between a long and a short run, so that starting up is not in it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import Measured, measure
from benchmarks.model_alone import measured
from deploy.faults.report import machine

#: Frames of the short and the long clip, at 50 a second.
SHORT, LONG = 250, 1000
#: Limits that the design set (docs/limits.md): CPU against ffmpeg, CPU of the model beside it, bytes, seconds.
MAX_RATIO, MODEL_FACTOR, MAX_MEMORY, FIRST_FRAME = 1.7, 1.15, 1.5e9, 6.0


@dataclass(frozen=True, slots=True)
class Line:
    """CPU ms a frame, and frames a second of the long run."""

    cpu_ms: float
    fps: float


def clip(folder: Path, frames: int) -> Path:
    """1080p50 H.264 with sound: a real clip of a street, enlarged and looped, at 8 Mbit/s."""
    path = folder / f"clip-{frames}.mp4"
    if not path.exists():
        from tests.clips import clip as fetch

        source = fetch("bikes.mp4")
        subprocess.run(
            [
                "ffmpeg", "-v", "error", "-nostdin", "-y", "-stream_loop", "-1", "-i", source,
                "-f", "lavfi", "-i", "sine=440:r=48000",
                "-map", "0:v", "-map", "1:a", "-vf", "scale=1920:1080,setpts=N/50/TB,fps=50",
                "-frames:v", str(frames), "-t", str(frames / 50), "-c:v", "libx264", "-preset", "veryfast",
                "-b:v", "8M", "-maxrate", "10M", "-bufsize", "10M", "-pix_fmt", "yuv420p", "-c:a", "aac", path,
            ],
            check=True,
        )  # fmt: skip
    return path


def ffmpeg(source: Path, target: Path) -> list[str]:
    return [
        "ffmpeg", "-v", "error", "-nostdin", "-y", "-i", str(source),
        "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-c:a", "copy", str(target),
    ]  # fmt: skip


def headrace(source: Path, target: Path, model: str, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "deploy.cli", "run", str(source), "-o", str(target),
        "--model", model, "--preset", "ultrafast", *more,
    ]  # fmt: skip


def per_frame(make: Any, folder: Path, name: str) -> Line:
    """One long and one short run."""
    runs: list[Measured] = [measure(make(clip(folder, frames), folder / f"{name}.mp4")) for frames in (SHORT, LONG)]
    short, long = runs
    return Line((long.cpu - short.cpu) / (LONG - SHORT) * 1000, (LONG - SHORT) / (long.wall - short.wall))


def first_frame(folder: Path) -> float:
    """Seconds from the start of the command to the first annotated line on disk."""
    target = folder / "first.jsonl"
    target.unlink(missing_ok=True)
    started = time.monotonic()
    process = subprocess.Popen(
        headrace(clip(folder, SHORT), folder / "first.mp4", "face", "-o", str(target)),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while not (target.exists() and target.stat().st_size):
            if process.poll() is not None:
                raise SystemExit("the run ended before its first frame")
            time.sleep(0.005)
        return time.monotonic() - started
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds; medians are printed")
    parser.add_argument("--folder", type=Path, help="where clips are kept; default: a temporary folder")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        figures = run(folder, options.rounds)
    print(json.dumps(figures, indent=2))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def run(folder: Path, rounds: int) -> dict[str, Any]:
    """All figures; each round runs every program once, so that the machine's moods hit all alike."""
    base, echo, face = [], [], []
    for number in range(rounds):
        base.append(per_frame(ffmpeg, folder, "ffmpeg"))
        echo.append(per_frame(lambda s, t: headrace(s, t, "echo"), folder, "echo"))
        face.append(per_frame(lambda s, t: headrace(s, t, "face"), folder, "face"))
        print(f"round {number + 1}: ffmpeg {base[-1]}, echo {echo[-1]}, face {face[-1]}", file=sys.stderr)
    model = measured(16)
    memory = [
        measure(headrace(clip(folder, frames), folder / "memory.mp4", "face", "--workers", "2"), watch_memory=True)
        for frames in (SHORT, LONG)
    ]
    medians = {
        name: statistics.median(one.cpu_ms for one in lines)
        for name, lines in (("ffmpeg", base), ("echo", echo), ("face", face))
    }
    ratios = [a.cpu_ms / b.cpu_ms for a, b in zip(echo, base, strict=True)]
    # Pairs of one round: the machine's speed drifts from round to round.
    shares = [a.cpu_ms / (MAX_RATIO * b.cpu_ms + MODEL_FACTOR * model) for a, b in zip(face, base, strict=True)]
    return {
        "machine": machine(),
        "clip": "1920x1080, 50 fps, H.264, AAC",
        "ffmpeg_cpu_ms": round(medians["ffmpeg"], 2),
        "echo_cpu_ms": round(medians["echo"], 2),
        "echo_fps": round(statistics.median(one.fps for one in echo), 1),
        "echo_ratio": round(statistics.median(ratios), 2),
        "echo_ratios": [round(one, 2) for one in ratios],
        "echo_ratio_allowed": MAX_RATIO,
        "face_cpu_ms": round(medians["face"], 2),
        "face_fps": round(statistics.median(one.fps for one in face), 1),
        "face_model_alone_cpu_ms": round(model, 2),
        "face_share_of_allowed": round(statistics.median(shares), 2),
        "memory_short_mb": round(memory[0].peak / 1e6),
        "memory_long_mb": round(memory[1].peak / 1e6),
        "memory_allowed_mb": round(MAX_MEMORY / 1e6),
        "first_annotated_frame_s": round(first_frame(folder), 2),
        "first_annotated_frame_allowed_s": FIRST_FRAME,
    }


if __name__ == "__main__":
    main()
