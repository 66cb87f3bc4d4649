"""Glass to glass: RTSP 1080p25 in, RTMP out, through Headrace and through ffmpeg's decode + encode alone, in turn.

``python -m benchmarks.latency`` (or ``make latency``). A numbered clip is published to an RTSP server, each program
sends it on to an RTMP server, and a viewer there reads the numbers: the difference is what Headrace adds. What each of
its stages takes comes from its own ledger. The servers are those of the tests.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import glass
from deploy.faults.report import machine
from tests.clips import clip as fetch
from tests.servers import Nginx, Program, RtspServer
from tests.support import wait_for

#: The first seconds are those in which programs start and buffers empty.
SKIP_S = 8
#: What the design asks for: added at the 95th percentile, in seconds.
LIMIT_S = 0.120


@dataclass(frozen=True, slots=True)
class Run:
    """``ages``: glass to glass in seconds, sorted; ``sent``: pictures from the first to the last that was seen."""

    ages: list[float]
    sent: int
    stages: dict[str, Any]

    def quantile(self, share: float) -> float:
        return self.ages[min(len(self.ages) - 1, int(share * len(self.ages)))]


def ffmpeg(source: str, target: str, folder: Path) -> list[str]:
    return [
        "ffmpeg", "-v", "error", "-nostdin", "-fflags", "nobuffer", "-flags", "low_delay", "-rtsp_transport", "tcp",
        "-analyzeduration", "1000000", "-i", source, "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency",
        "-g", "50", "-c:a", "copy", "-flush_packets", "1", "-f", "flv", target,
    ]  # fmt: skip


def headrace(source: str, target: str, folder: Path) -> list[str]:
    return [
        sys.executable, "-m", "deploy.cli", "run", source, "-o", target, "-o", str(folder / "out.jsonl"),
        "--model", "echo", "--preset", "ultrafast", "--name", "glass",
    ]  # fmt: skip


def measure(make: Any, clip: Path, folder: Path, seconds: float) -> Run:
    """One program, from its start to the end of the clip."""
    folder.mkdir()
    notes = folder / "camera", folder / "viewer"
    with RtspServer(folder) as server, Nginx(folder) as nginx:
        camera = [sys.executable, "-m", "benchmarks.glass", "camera", *map(str, (clip, server.publish(), notes[0]))]
        with Program(folder, camera, "camera") as source:
            wait_for(lambda: notes[0].exists(), 20, "the camera")
            with Program(folder, make(server.play(), nginx.rtmp(), folder), "program") as program:
                viewer = [
                    sys.executable,
                    "-m",
                    "benchmarks.glass",
                    "viewer",
                    *map(str, (nginx.rtmp(), seconds + 30, notes[1])),
                ]
                with Program(folder, viewer, "viewer") as watching:
                    source.wait(seconds + 60)
                    program.stop(signal.SIGINT)
                    watching.wait(40)
    sent, seen = glass.read(notes[0]), glass.read(notes[1])
    first = min(sent) + SKIP_S * glass.RATE
    known = [number for number in seen if number in sent and number >= first]
    ages = sorted(seen[number] - sent[number] for number in known)
    if not ages:
        raise SystemExit(f"nothing was seen: {program.said[-2000:]}")
    ledger = folder / "out.ledger.json"
    stages = json.loads(ledger.read_text())["streams"][0].get("stages", {}) if ledger.exists() else {}
    return Run(ages, sum(min(known) <= number <= max(known) for number in sent), stages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=40, help="of each run (default: 40)")
    parser.add_argument("--rounds", type=int, default=1, help="of both programs in turn")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        clip = glass.make_clip(Path(fetch("bikes.mp4")), base / "clip.mp4", options.seconds * glass.RATE)
        runs: dict[str, list[Run]] = {"ffmpeg": [], "headrace": []}
        for number in range(options.rounds):
            for name, make in (("ffmpeg", ffmpeg), ("headrace", headrace)):
                runs[name].append(measure(make, clip, base / f"{name}-{number}", options.seconds))
    report(runs, options.json)


def report(runs: dict[str, list[Run]], target: Path | None) -> None:
    print(f"{machine()}; RTSP 1080p{glass.RATE} to RTMP on loopback, glass to glass, in ms")
    told: dict[str, Any] = {"machine": machine()}
    for name, found in runs.items():
        best = min(found, key=lambda run: run.quantile(0.95))
        told[name] = {f"p{share}": round(best.quantile(share / 100), 4) for share in (50, 95, 99)}
        told[name]["seen"] = round(len(best.ages) / best.sent, 4)
        figures = "  ".join(f"{key} {value * 1000:6.0f}" for key, value in told[name].items() if key != "seen")
        print(f"{name:10} {figures}   {told[name]['seen']:.1%} of the pictures seen, once there were any")
    added = {key: told["headrace"][key] - told["ffmpeg"][key] for key in ("p50", "p95", "p99")}
    told["added"] = {key: round(value, 4) for key, value in added.items()}
    verdict = "as asked for" if added["p95"] <= LIMIT_S else "more than asked for"
    print(f"{'added':10} " + "  ".join(f"{key} {value * 1000:6.0f}" for key, value in added.items()))
    print(f"added at p95: {added['p95'] * 1000:.0f} ms, {LIMIT_S * 1000:.0f} ms allowed: {verdict}")
    told["stages"] = min(runs["headrace"], key=lambda run: run.quantile(0.95)).stages
    for stage, figures in told["stages"].items():
        shown = "  ".join(f"{key} {figures[key] * 1000:6.1f}" for key in ("p50", "p95", "p99"))
        print(f"  {stage:10} {shown}")
    if target is not None:
        target.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        raise SystemExit(str(error)) from None
