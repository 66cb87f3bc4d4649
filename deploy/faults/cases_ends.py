"""Faults of the two ends: sink and producer killed, standing still, absent, told to stop."""

from __future__ import annotations

import time

from deploy.faults import judge
from deploy.faults.bench import Bench, Case
from deploy.faults.clip import Clip
from deploy.faults.require import NAMED_S, require_accounted_live, require_annotated, require_goes_on
from deploy.faults.trial import BEGUN, Row, Trial

#: How long parts stand still, in seconds.
STILL_S = 3.0


def killed(bench: Bench, part: str, parts: int) -> Row:
    """The run of a file goes on in at least so many parts of the video."""
    clip = Clip(frames=int(bench.pick(900, 500)), rate=50)
    with bench.trial(clip, workers=2, model="echo:20", mode="lossless") as trial:
        trial.begin()
        trial.wait(bench.pick(3, 1.5))
        trial.fleet.kill(part)
        back = time.monotonic()
        trial.fleet.start(part)
        require_goes_on(trial, back, 10)
        trial.finish()
        trial.require_whole()
        require_parts(trial, parts)
    return trial.row(bench.case)


def sink_killed_often(bench: Bench) -> Row:
    """With the clip's own B-frames and open GOPs, at moments that the seed chooses."""
    options = {"preset": "veryfast", "g": "40", "bf": "3", "x264-params": "open-gop=1:scenecut=0"}
    clip = Clip(frames=1500, rate=50, noise=24, options=options)
    with bench.trial(clip, workers=2, model="echo:20", mode="lossless") as trial:
        trial.begin()
        kills = 0
        while kills < 4 and trial.wait(bench.chance.uniform(0.5, 3.0)):
            trial.fleet.kill("sink")
            trial.fleet.start("sink")
            kills += 1
        trial.finish(120)
        trial.figures["kills"] = kills
        trial.require(judge.at_least("kills", kills, 2, ""))
        trial.require_whole()
    return trial.row(bench.case)


def sink_killed_live(bench: Bench) -> Row:
    clip = Clip(frames=int(bench.pick(20, 10) * 25))
    with bench.trial(clip, workers=2, model="echo:10", mode="live") as trial:
        trial.begin()
        trial.wait(2)
        trial.fleet.kill("sink")
        back = time.monotonic()
        trial.fleet.start("sink")
        require_goes_on(trial, back, 10)
        trial.finish()
        require_accounted_live(trial)
        require_annotated(trial, back, 25, "its return")
    return trial.row(bench.case)


def sink_stopped(bench: Bench) -> Row:
    with bench.trial(Clip(frames=600, rate=50), workers=2, model="echo:20", mode="lossless") as trial:
        trial.begin()
        since = time.monotonic()
        trial.fleet.stop("sink")
        trial.wait(STILL_S)
        trial.require_named(since, "sink", parts=("producer",), within=STILL_S)
        trial.fleet.resume("sink")
        trial.finish()
        trial.require_whole()
        trial.require_stall(STILL_S + 2.0)
    return trial.row(bench.case)


def sink_stopped_live(bench: Bench) -> Row:
    clip = Clip(frames=int(bench.pick(20, 8) * 25))
    with bench.trial(clip, workers=2, model="echo:10", mode="live") as trial:
        trial.begin()
        trial.wait(1)
        trial.fleet.stop("sink")
        trial.wait(STILL_S)
        back = time.monotonic()
        trial.fleet.resume("sink")
        trial.finish()
        require_accounted_live(trial)
        require_annotated(trial, back + 1, 1, "it went on")
        took = time.monotonic() - trial.started
        trial.require(judge.at_most("the source is not held up: run", took, clip.seconds + 15, "s"))
    return trial.row(bench.case)


def sink_absent(bench: Bench) -> Row:
    with bench.trial(Clip(frames=200), model="echo", mode="lossless") as trial:
        trial.begin("sink", lines=0)
        opened = trial.until(
            lambda: trial.fleet.status(trial.started, "producer", "source", lambda said: True), 30, "the open source"
        )
        since = trial.started + opened
        trial.wait(bench.pick(10, 5))
        trial.require(judge.Check("the run waits", not trial.over and not trial.lines))
        trial.require_named(since, "sink", parts=("producer",), within=NAMED_S)
        trial.fleet.start("sink")
        trial.finish()
        trial.require_whole()
    return trial.row(bench.case)


def sigterm(bench: Bench) -> Row:
    with bench.trial(Clip(frames=2000, rate=50), workers=2, model="echo:20", mode="lossless") as trial:
        trial.begin(lines=2 * BEGUN)
        since = time.monotonic()
        trial.fleet.finish()
        trial.figures["seconds to the end"] = round(time.monotonic() - since, 1)
        trial.end()
        announced = (trial.entry or {}).get("frames", 0)
        shown = judge.order(trial.shown, announced)
        trial.require(
            judge.at_least("frames", announced, 2 * BEGUN, ""),
            judge.complete(shown),
            judge.complete(judge.order([line.index for line in trial.told], announced), "lines"),
            judge.lossless(trial.entry),
        )
        trial.require_accounted(announced)
        for name in ("broker", "sink", *trial.fleet.workers):
            trial.require_exit(name)
        row = trial.row(bench.case)
        row.frames_in, row.missing = announced, shown.missing
    return row


def require_parts(trial: Trial, least: int) -> None:
    """The ledger names at least so many video files, and each of them is there."""
    parts = [part for part in (trial.entry or {}).get("parts", []) if not part.endswith(".jsonl")]
    found = [path.name for path in trial.parts]
    ok = len(parts) >= least and sorted(part.rpartition("/")[2] for part in parts) == sorted(found)
    trial.require(judge.Check(f"≥ {least} parts, all named in the ledger", ok, "" if ok else f"{parts}, found {found}"))


CASES = (
    Case(
        "sink-killed", "lossless: the sink killed once, started again at once",
        "0 lost, doubled, out of order over the parts; goes on within 10 s",
        lambda bench: killed(bench, "sink", 2), short=True,
    ),
    Case(
        "sink-killed-often", "lossless: the sink killed 4 times at random moments; B-frames and open GOPs",
        "0 lost, doubled, out of order over the parts", sink_killed_often,
    ),
    Case(
        "sink-killed-live", "live: the sink killed once, started again at once",
        "goes on within 10 s, all frames accounted for, no picture doubled or out of order", sink_killed_live,
    ),
    Case(
        "sink-stopped", "lossless: the sink stands still (SIGSTOP) for 3 s",
        "0 lost; named; stall ≤ 5 s", sink_stopped,
    ),
    Case(
        "sink-stopped-live", "live: the sink stands still (SIGSTOP) for 3 s",
        "all frames accounted for, the source not held up, annotates again", sink_stopped_live,
    ),
    Case(
        "sink-absent", "lossless: the sink starts 10 s after the others",
        "waits, named within 2 s of the source's opening; 0 lost", sink_absent,
    ),
    Case(
        "producer-killed", "lossless, a file: the producer killed once, started again at once",
        "0 lost, doubled, out of order; goes on within 10 s",
        lambda bench: killed(bench, "producer", 1), short=True,
    ),
    Case(
        "sigterm", "SIGTERM to producer, broker, workers, sink in turn in the middle of a run",
        "drained: all exit with 0, the ledger adds up, nothing pending or lost", sigterm, short=True,
    ),
)  # fmt: skip
