"""What integration tests share: generated clips, running the command as a user would, reading media back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import psutil

#: A run of a short clip on a busy two-core machine, in seconds.
RUN_S = 100


@dataclass(frozen=True, slots=True)
class Ran:
    """A finished ``headrace run``."""

    code: int
    out: str
    err: str


def headrace(*arguments: str | Path, cwd: Path | None = None, timeout: float = RUN_S) -> Ran:
    """Run the command to its end; its whole process group is killed if it hangs."""
    process = start(*arguments, cwd=cwd)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"headrace hung for {timeout} s\n{out}\n{err}") from None
    return Ran(process.returncode, out, err)


def start(*arguments: str | Path, cwd: Path | None = None) -> subprocess.Popen[str]:
    """Start the command in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "deploy.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)},
    )


def ffmpeg(*arguments: str | Path) -> None:
    """Run the ffmpeg program (an independent judge, and a maker of clips)."""
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y", *map(str, arguments)], check=True)


def make_clip(
    path: Path, *codec: str, seconds: float = 2, size: str = "640x360", rate: str = "25", sound: str = ""
) -> Path:
    """A generated clip: FFmpeg's moving test picture, and a tone where ``sound`` names its options."""
    tone = ["-f", "lavfi", "-i", "sine=440:r=48000"] if sound else []
    ffmpeg(
        "-f", "lavfi", "-i", f"testsrc2=s={size}:r={rate}", *tone,
        "-t", str(seconds), *codec, *sound.split(), path,
    )  # fmt: skip
    return path


def frame_times(path: Path) -> list[Fraction]:
    """Time of every decoded frame, in seconds."""
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def sound_packets(path: Path, track: int = 0) -> list[bytes]:
    """Payload of every packet of a sound track."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=track) if packet.size]


def lines(path: Path) -> list[dict[str, Any]]:
    """A JSON-lines file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def ledger(output: Path) -> dict[str, Any]:
    """The one stream of the ledger beside ``output``; its counts must add up."""
    (stream,) = json.loads(output.with_suffix(".ledger.json").read_text())["streams"]
    assert sum(stream["states"].values()) == stream["frames"], stream
    return stream


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Poll until ``condition`` gives something true; fails with ``what`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(0.02)
    return found


def family(pid: int) -> list[psutil.Process]:
    """All descendants of a process."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
