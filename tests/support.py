"""What integration tests share: generated clips, running the command as a user would, reading media back."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
from numpy.typing import NDArray

#: A run of a short clip on a busy two-core machine, in seconds.
RUN_S = 100


@dataclass(frozen=True, slots=True)
class Ran:
    """A finished ``headrace run``."""

    code: int
    out: str
    err: str


def headrace(
    *arguments: str | Path, cwd: Path | None = None, timeout: float = RUN_S, env: Mapping[str, str] | None = None
) -> Ran:
    """Run the command to its end; its whole process group is killed if it hangs."""
    process = start(*arguments, cwd=cwd, env=env)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"headrace hung for {timeout} s\n{out}\n{err}") from None
    return Ran(process.returncode, out, err)


def start(
    *arguments: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None, err: Path | None = None
) -> subprocess.Popen[str]:
    """Start the command in a process group of its own; ``env`` is added to the environment, ``err``: a file for
    standard error, else both are pipes."""
    with err.open("wb") if err is not None else contextlib.nullcontext(subprocess.PIPE) as stderr:
        return subprocess.Popen(
            [sys.executable, "-m", "deploy.cli", *map(str, arguments)],
            stdout=subprocess.PIPE if err is None else subprocess.DEVNULL,
            stderr=stderr,
            text=True,
            cwd=cwd,
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parent.parent), **(env or {})},
        )


@dataclass(frozen=True, slots=True)
class Place:
    """A working folder, and a folder of its own for what runs put into XDG_RUNTIME_DIR (fixture ``place``)."""

    folder: Path
    runtime: Path

    def run(self, *arguments: str | Path, timeout: float = RUN_S) -> Ran:
        return headrace(*arguments, cwd=self.folder, timeout=timeout, env=self.env)

    def start(self, *arguments: str | Path, err: Path | None = None) -> subprocess.Popen[str]:
        """``err``: where standard error goes, to be read while the run goes on; standard output is dropped then."""
        return start(*arguments, cwd=self.folder, env=self.env, err=err)

    @property
    def env(self) -> dict[str, str]:
        return {"XDG_RUNTIME_DIR": str(self.runtime), "TMPDIR": str(self.runtime)}

    def parts(self, module: str = "") -> list[psutil.Process]:
        """Running parts of this place's runs, orphans too; ``module``: only those started as ``python -m module``."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                if process.environ().get("HEADRACE_RUN_FOLDER", "").startswith(f"{self.runtime}/"):
                    words = process.cmdline()
                    if not module or words[1:3] == ["-m", module]:
                        found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def leftovers(self) -> list[str]:
        """Names of processes and files that runs have left."""
        return [f"process {one.pid}" for one in self.parts()] + [one.name for one in self.runtime.iterdir()]


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


#: Bits of the number in each picture of a numbered clip, and the height at which they can be read.
NUMBER_BITS, NUMBER_ROW = 10, 0.94


def numbered_clip(path: Path, frames: int, *codec: str, rate: int = 25, sound: str = "-c:a aac") -> Path:
    """A 320 × 180 clip whose pictures show their number as black and white blocks along the lower edge."""
    bar = f"if(lt(Y,160),96,if(mod(floor(N/pow(2,floor(X*{NUMBER_BITS}/W))),2),235,16))"
    codec = codec or ("-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-bf", "0")
    ffmpeg(
        "-f", "lavfi", "-i", f"nullsrc=s=320x180:r={rate},format=yuv420p,geq=lum='{bar}':cb=128:cr=128",
        "-f", "lavfi", "-i", "sine=440:r=48000",
        "-frames:v", str(frames), "-t", str(frames / rate), *codec, *sound.split(), path,
    )  # fmt: skip
    return path


def numbers(path: Path) -> list[int]:
    """The numbers that the pictures of an output show, in order."""
    with av.open(str(path)) as container:
        return [number_in(frame.to_ndarray(format="gray")) for frame in container.decode(video=0)]  # type: ignore[arg-type]


def number_in(grey: NDArray[np.uint8]) -> int:
    """The number in one H × W picture."""
    height, width = grey.shape
    row = grey[int(height * NUMBER_ROW)]
    return sum(int(row[int((bit + 0.5) * width / NUMBER_BITS)] > 127) << bit for bit in range(NUMBER_BITS))


def frame_times(path: Path) -> list[Fraction]:
    """Time of every decoded frame, in seconds."""
    with av.open(str(path)) as container:
        return [Fraction(frame.pts or 0) * Fraction(frame.time_base or 1) for frame in container.decode(video=0)]


def sound_packets(path: Path, track: int = 0) -> list[bytes]:
    """Payload of every packet of a sound track."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=track) if packet.size]


def lines(path: Path) -> list[dict[str, Any]]:
    """A JSON-lines file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def so_far(path: Path) -> list[dict[str, Any]]:
    """A JSON-lines file that is being written: of the last line perhaps only a part can be read yet."""
    return [json.loads(line) for line in path.read_bytes().rpartition(b"\n")[0].splitlines()]


def ledger(output: Path) -> dict[str, Any]:
    """The one stream of the ledger beside ``output``; its counts must add up."""
    (stream,) = json.loads(output.with_suffix(".ledger.json").read_text())["streams"]
    assert sum(stream["states"].values()) == stream["frames"], stream
    return stream


def part_files(found: Mapping[str, Any], folder: Path, output: str) -> list[Path]:
    """The files of ``output`` in the order of the ledger's entry ``found`` (relative to ``folder``)."""
    name = Path(output)
    alike = re.compile(rf"{re.escape(name.stem)}(\.part\d+)?{re.escape(name.suffix)}")
    return [folder / part for part in found["parts"] if alike.fullmatch(Path(part).name)]


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
