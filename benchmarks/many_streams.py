"""Many small streams on one fleet: does each come out at full rate, and is the model shared fairly between them?

``python -m benchmarks.many_streams`` runs sixteen live streams of 320×240 at 12 fps, once with ``echo`` (there is
enough of it for all) and once with ``face`` (there is not), and looks at the fleet from the outside for a while.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from deploy.ask import ask
from deploy.control import List, Row
from deploy.faults.report import machine
from deploy.folder import CONTROL
from tests.support import Place, ffmpeg, wait_for

#: What the design asks for: share of the clip's rate at which all pictures come out, least share of the largest.
FULL, FAIR = 0.98, 0.9
WIDTH, HEIGHT = 320, 240
#: Starting a dozen processes takes long on two cores, in seconds.
BEGIN_S = 180.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """``rates``: frames a second that came out, ``shares``: annotated part of them, both by stream; ``cpu``: cores."""

    model: str
    rates: list[float]
    shares: list[float]
    states: dict[str, int]
    cpu: float

    @property
    def fairness(self) -> float:
        return min(self.shares) / max(max(self.shares), 1e-9)


def clip(path: Path, rate: int, seconds: int) -> Path:
    """A moving picture, the same for all streams: so their frames cost the same."""
    ffmpeg(
        "-f", "lavfi", "-i", f"testsrc2=s={WIDTH}x{HEIGHT}:r={rate}", "-t", str(seconds),
        "-c:v", "libx264", "-preset", "veryfast", "-g", str(rate * 2), "-pix_fmt", "yuv420p", path,
    )  # fmt: skip
    return path


def fleet(source: Path, count: int, model: str) -> str:
    """The fleet's file."""
    streams = "".join(
        f'[[streams]]\nname = "cam{number:02}"\nsource = "{source}"\noutputs = ["cam{number:02}.mp4"]\n'
        for number in range(count)
    )
    shared = 'mode = "live"\nrealtime = true\nloop = true\nencoding = {preset = "ultrafast"}\n'
    return f'[workers]\nmodel = "{model}"\n[defaults]\n{shared}{streams}'


def run(folder: Path, model: str, count: int, rate: int, warm: float, seconds: float) -> Outcome:
    (folder / "runtime").mkdir(parents=True)
    place = Place(folder, folder / "runtime")
    source = clip(folder / "clip.mp4", rate, 60)
    (folder / "fleet.toml").write_text(fleet(source, count, model))
    process = place.start("run", "-c", "fleet.toml", err=folder / "err.txt")
    try:
        rows = wait_for(lambda: _running(place, process, count), BEGIN_S, f"{count} streams")
        rows = _after(place, warm)
        began, busy = time.monotonic(), _cpu(place)
        later = _after(place, seconds)
        took = time.monotonic() - began
        cpu = (_cpu(place) - busy) / took
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    grown = {name: _grown(rows[name], row) for name, row in later.items()}
    total: dict[str, int] = {}
    for states in grown.values():
        for state, more in states.items():
            total[state] = total.get(state, 0) + more
    frames = {name: max(1, later[name].frames - rows[name].frames) for name in later}
    return Outcome(
        model,
        [round(frames[name] / took, 3) for name in sorted(frames)],
        [round(grown[name].get("annotated", 0) / frames[name], 4) for name in sorted(frames)],
        {state: more for state, more in total.items() if more},
        round(cpu, 2),
    )


def _rows(place: Place) -> dict[str, Row]:
    folder = next((one.parent for one in place.runtime.glob(f"*/{CONTROL}")), None)
    return {row.name: row for row in ask(folder, List(), 60).streams} if folder is not None else {}


def _running(place: Place, process: subprocess.Popen[str], count: int) -> dict[str, Row] | None:
    assert process.poll() is None, (place.folder / "err.txt").read_text()
    rows = _rows(place)
    return rows if len(rows) == count and all(row.frames for row in rows.values()) else None


def _after(place: Place, seconds: float) -> dict[str, Row]:
    end = time.monotonic() + seconds
    wait_for(lambda: time.monotonic() >= end, seconds + 5, "the time")
    return _rows(place)


def _grown(old: Row, new: Row) -> dict[str, int]:
    return {state: count - old.states.get(state, 0) for state, count in new.states.items()}


def _cpu(place: Place) -> float:
    """Seconds of processor time that the fleet's processes have used."""
    used = 0.0
    for part in place.parts():
        try:
            times = part.cpu_times()
        except psutil.Error:
            continue
        used += times.user + times.system
    return used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--rate", type=int, default=12, help="frames a second of each stream (default: 12)")
    parser.add_argument("--warm", type=float, default=20, help="seconds before the measurement (default: 20)")
    parser.add_argument("--seconds", type=float, default=60, help="seconds of the measurement (default: 60)")
    parser.add_argument("--model", action="append", help="default: echo, then face")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    outcomes = []
    print(f"{machine()}; {options.streams} live streams of {WIDTH}x{HEIGHT} at {options.rate} fps")
    for model in options.model or ["echo", "face"]:
        with tempfile.TemporaryDirectory() as folder:
            out = run(Path(folder) / model, model, options.streams, options.rate, options.warm, options.seconds)
        outcomes.append(out)
        print(f"{model}: {min(out.rates):.2f} to {max(out.rates):.2f} fps out ({FULL * options.rate:.2f} asked)")
        print(f"  annotated: {min(out.shares):.1%} to {max(out.shares):.1%}, least/most {out.fairness:.3f}", end="")
        print(f" ({FAIR} asked); {out.cpu:.2f} cores; {out.states}", flush=True)
    if options.json is not None:
        found = {"machine": machine(), "streams": [asdict(one) for one in outcomes]}
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    full = all(min(one.rates) >= FULL * options.rate for one in outcomes)
    sys.exit(not (full and all(one.fairness >= FAIR for one in outcomes)))


if __name__ == "__main__":
    main()
