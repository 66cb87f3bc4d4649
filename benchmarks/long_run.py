"""Days in short: RTSP in, RTMP out, the camera killed and started again over and over.

``python -m benchmarks.long_run --minutes 30`` measures what a viewer gets: is the output monotonic, is its sound in
sync at the end, how long does each outage last beyond the source's own, does the memory stay flat. The clip flashes and
beeps once a second. The servers are those of the tests.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path

import av

from deploy.faults.report import machine
from deploy.faults.watch import Watch
from tests.flashbeep import make_clip, offsets
from tests.servers import Nginx, Program, Receiver, RtspServer
from tests.support import wait_for

#: What the design asks for: seconds of an outage beyond the source's own, of sound against picture, share of memory.
OUTAGE_S, SYNC_S, MEMORY = 3.0, 0.040, 0.05
#: The camera is away for so long each time, in seconds.
AWAY_S = 6.0
#: The clip is so much longer than the time between two kills, in seconds.
SPARE_S = 30
#: At the start memory grows until every buffer was used once, in seconds.
WARM_S = 60.0
#: Of the record's end so much is looked at for the sound, in seconds.
TAIL_S = 20


@dataclass(slots=True)
class Outcome:
    """``outages``: seconds each, beyond the source's own; ``grown``: share that memory grew by, first to last third."""

    seconds: float = 0.0
    outages: list[float] = field(default_factory=list)
    backwards: int = 0
    sync: list[float] = field(default_factory=list)
    grown: float = 0.0
    memory: list[int] = field(default_factory=list)
    states: dict[str, int] = field(default_factory=dict)
    repairs: dict[str, int] = field(default_factory=dict)


def run(folder: Path, seconds: float, every: float, away: float = AWAY_S) -> Outcome:
    """The camera is killed ``every`` so many seconds."""
    out, record = Outcome(seconds), folder / "record.mkv"
    # The server plays a file to its reader: sound and picture leave it in sync, which they do not leave a relay.
    clip = make_clip(folder / "clip.mp4", seconds=int(every + SPARE_S), fps=25, size=(640, 360))
    with contextlib.ExitStack() as stack:
        camera = stack.enter_context(RtspServer(folder, {"cam": clip}, relays=()))
        nginx = stack.enter_context(Nginx(folder))
        command = [
            sys.executable, "-m", "deploy.cli", "run", camera.play(), "-o", nginx.rtmp("out"),
            "-o", str(folder / "out.jsonl"), "--model", "echo", "--preset", "ultrafast", "--placeholder",
        ]  # fmt: skip
        with Program(folder, command, "headrace") as program:
            watch = Watch(folder, lambda: [program.pid])
            try:
                wait_for(partial(_more, watch, 25), 40, "the first frames")
                wait_for(partial(nginx.has_hls, "out", 1), 20, "the output at the server")
                # The server sends sound at once, the picture from its next keyframe on.
                with Receiver(folder, nginx.rtmp("out"), record, "-analyzeduration", "8000000"):
                    _disturb(watch, camera, out, seconds, every, away)
            finally:
                watch.close()
            program.stop(signal.SIGINT)
    _judge(folder, watch, record, out)
    return out


def _disturb(watch: Watch, camera: RtspServer, out: Outcome, seconds: float, every: float, away: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() + every < end:
        _pass(every)
        camera.kill()
        gone = time.monotonic()
        _pass(away)
        camera.start()
        back = time.monotonic()
        seen = len(watch.lines.seen)
        wait_for(partial(_more, watch, seen + 5), 30, "frames after an outage")
        first = watch.lines.seen[seen].at
        out.outages.append(max(0.0, first - gone - (back - gone)))
    _pass(max(0.0, end - time.monotonic()))


def _pass(seconds: float) -> None:
    """Time goes by: this is what is measured, nothing is waited for."""
    end = time.monotonic() + seconds
    wait_for(lambda: time.monotonic() >= end, seconds + 5, "the time")


def _more(watch: Watch, count: int) -> bool:
    return len(watch.lines.seen) > count


def _judge(folder: Path, watch: Watch, record: Path, out: Outcome) -> None:
    out.backwards = backwards(record)
    out.sync = offsets(record)[-TAIL_S:]
    began = watch.lines.seen[0].at
    sizes = watch.sizes(began + min(WARM_S, out.seconds / 3))
    third = max(1, len(sizes) // 3)
    out.memory = sizes[:: max(1, len(sizes) // 100)]
    out.grown = statistics.median(sizes[-third:]) / statistics.median(sizes[:third]) - 1
    found = json.loads((folder / "out.ledger.json").read_text())["streams"][0]
    out.states, out.repairs = found["states"], found["repairs"]


def backwards(path: Path) -> int:
    """How many packets do not come after their predecessor in the same track."""
    last: dict[int, Fraction] = {}
    count = 0
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.dts is None or packet.time_base is None:
                continue
            time_ = packet.dts * packet.time_base
            count += packet.stream_index in last and time_ <= last[packet.stream_index]
            last[packet.stream_index] = time_
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--every", type=float, default=120, help="seconds between two kills (default: 120)")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = run(Path(folder), options.minutes * 60, options.every)
    worst = max(map(abs, out.sync), default=float("nan"))
    print(f"{machine()}; RTSP to RTMP for {options.minutes:g} min, {len(out.outages)} outages of {AWAY_S:g} s")
    print(f"packets that go back in time: {out.backwards}")
    print(f"outages beyond the source's own: at most {max(out.outages, default=0):.2f} s ({OUTAGE_S:g} s allowed)")
    print(f"sound against picture at the end: at most {worst * 1000:.0f} ms ({SYNC_S * 1000:.0f} ms allowed)")
    print(f"memory, last third against first: {out.grown:+.1%} (± {MEMORY:.0%} allowed)")
    print(f"frames: {out.states}; repairs: {out.repairs}")
    if options.json is not None:
        options.json.write_text(json.dumps({"machine": machine(), **asdict(out)}, indent=2) + "\n")


if __name__ == "__main__":
    main()
