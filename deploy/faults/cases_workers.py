"""Faults of workers: killed, all gone, late, standing still, hanging in the model, dying of one picture, too slow."""

from __future__ import annotations

import signal
import time
from typing import Any

from deploy.faults import judge
from deploy.faults.bench import Bench, Case
from deploy.faults.clip import Clip
from deploy.faults.number import BAD
from deploy.faults.require import (
    NAMED_S,
    require_annotated,
    require_failed,
    require_full_rate,
    require_told_of_no_worker,
)
from deploy.faults.trial import Row

#: Seconds between two kills.
KILL_EVERY_S = 5.0
#: A picture that hangs blocks its batch for the broker's patience (2 s after fast batches), three times in all.
HANG_STALL_S = 12.0


def worker_killed(bench: Bench) -> Row:
    seconds = bench.pick(60, 10)
    # Three workers of 40 ms a picture do 75 a second.
    clip = Clip(frames=int(seconds * 75), rate=50)
    with bench.trial(clip, workers=3, model="echo:40", mode="lossless") as trial:
        trial.begin()
        kills = 0
        while trial.wait(KILL_EVERY_S):
            name = trial.fleet.workers[kills % 3]
            trial.fleet.kill(name)
            trial.fleet.start(name)
            kills += 1
        trial.finish()
        trial.figures["kills"] = kills
        trial.require(judge.at_least("kills", kills, seconds // KILL_EVERY_S - 1, ""))
        trial.require_whole()
        trial.require_stall(1.0)
    return trial.row(bench.case)


def all_workers_gone(bench: Bench) -> Row:
    clip = Clip(frames=int(bench.pick(500, 250)), rate=50)
    with bench.trial(clip, workers=2, model="echo:20", mode="lossless") as trial:
        trial.begin()
        since = time.monotonic()
        trial.fleet.kill(*trial.fleet.workers)
        trial.wait(bench.pick(10, 4))
        require_told_of_no_worker(trial, since)
        trial.require(judge.Check("the run waits", not trial.over and len(trial.lines) < clip.frames))
        back = time.monotonic()
        trial.fleet.start("worker-1")
        trial.finish()
        trial.require_whole()
        resumed = next((line.at - back for line in trial.lines if line.at > back + 0.05), None)
        trial.require(judge.at_most("goes on after a worker's start within", resumed, 10, "s"))
    return trial.row(bench.case)


def all_workers_gone_live(bench: Bench) -> Row:
    seconds = bench.pick(20, 8)
    clip = Clip(frames=int(seconds * 25))
    with bench.trial(clip, workers=2, model="echo:10", mode="live") as trial:
        trial.begin()
        trial.wait(1.0)
        since = time.monotonic()
        trial.fleet.kill(*trial.fleet.workers)
        trial.wait(seconds / 2)
        require_told_of_no_worker(trial, since)
        back = time.monotonic()
        trial.fleet.start(*trial.fleet.workers)
        trial.finish()
        require_full_rate(trial)
        trial.require(
            judge.at_least("counted, not annotated, while there is no worker", sum(
                line.state != "annotated" for line in trial.lines if since + 1 < line.at < back
            ), seconds / 2 * 25 * 0.5, "frames"),
        )  # fmt: skip
        require_annotated(trial, back, 1, "they returned")
    return trial.row(bench.case)


def worker_late(bench: Bench) -> Row:
    clip = Clip(frames=200)
    with bench.trial(clip, model="echo", mode="lossless") as trial:
        since = time.monotonic()
        trial.begin("worker-1", lines=0)
        trial.wait(bench.pick(60, 8))
        trial.require(judge.Check("the run waits", not trial.over and not trial.lines))
        at = trial.fleet.status(since, "producer", "progress", lambda said: said["waits_for"] == "no_worker")
        # Time to start the parts comes on top of the two seconds.
        trial.require(judge.at_most("status says no_worker within", at, NAMED_S + 4, "s"))
        trial.fleet.start("worker-1")
        trial.finish()
        trial.require_whole()
    return trial.row(bench.case)


def no_worker_live(bench: Bench) -> Row:
    clip = Clip(frames=int(bench.pick(10, 4) * 25))
    with bench.trial(clip, model="echo", mode="live") as trial:
        trial.begin("worker-1", lines=1)
        trial.finish()
        require_full_rate(trial)
        states = (trial.entry or {}).get("states", {})
        reasons = (trial.entry or {}).get("reasons", {})
        ok = states == {"skipped": clip.frames} and reasons == {"no_worker": clip.frames}
        trial.require(judge.Check("all frames skipped: no_worker", ok, "" if ok else f"{states} {reasons}"))
    return trial.row(bench.case)


def worker_stopped(bench: Bench) -> Row:
    with bench.trial(Clip(frames=600, rate=50), workers=2, model="echo:20", mode="lossless") as trial:
        trial.begin()
        since = time.monotonic()
        trial.fleet.stop("worker-1")
        trial.wait(4.0)
        trial.require_named(since, "silent", "worker-1", parts=("broker",))
        trial.fleet.resume("worker-1")
        trial.finish()
        trial.require_whole()
        trial.require_stall(3.0)
    return trial.row(bench.case)


def model_hangs(bench: Bench) -> Row:
    """Three workers hang for good on the first bad picture, which is then given up; one is left, and one more hangs."""
    clip = Clip(frames=BAD[1] - 10, rate=50)  # the first bad picture only
    options: dict[str, Any] = {"workers": 4, "model": "deploy.faults.models:Hangs", "mode": "lossless"}
    with bench.trial(clip, **options) as trial:
        trial.begin()
        trial.finish()
        trial.require_named(trial.started, "hangs", parts=("broker",), within=60)
        trial.require_whole({"poison": 1})
        require_failed(trial, [BAD[0]], "poison")
        trial.require_stall(HANG_STALL_S)
    return trial.row(bench.case)


def poison(bench: Bench) -> Row:
    options: dict[str, Any] = {"workers": 2, "model": "deploy.faults.models:Poison", "mode": "lossless"}
    with bench.trial(Clip(frames=250, rate=50), **options) as trial:
        trial.fleet.keep(*trial.fleet.workers)
        trial.begin()
        trial.finish()
        trial.require_whole({"poison": len(BAD)})
        require_failed(trial, list(BAD), "poison")
        deaths = sum(
            code == -signal.SIGKILL for name in trial.fleet.workers for code in trial.fleet.codes.get(name, [])
        )
        trial.figures["workers that died"] = deaths
        trial.require(judge.at_most("workers that died", deaths, 3 * len(BAD), ""))
    return trial.row(bench.case)


def model_raises(bench: Bench) -> Row:
    options: dict[str, Any] = {"workers": 2, "model": "deploy.faults.models:Raises", "mode": "lossless"}
    with bench.trial(Clip(frames=250, rate=50), **options) as trial:
        trial.begin()
        trial.finish()
        trial.require_whole({"model_error": len(BAD)})
        require_failed(trial, list(BAD), "model_error")
        trial.require_stall(2.0)
    return trial.row(bench.case)


def slow_workers(bench: Bench) -> Row:
    seconds, bound = bench.pick(60, 10), 1.0
    clip = Clip(frames=int(seconds * 25))
    # 25 pictures a second come, 2.5 can be inferred.
    with bench.trial(clip, model="echo:400", batch=1, mode="live", latency=bound) as trial:
        trial.begin()
        trial.finish()
        require_full_rate(trial)
        ages = (trial.fleet.closed or {}).get("ages") or {}
        trial.figures |= {f"age {name} s": round(ages[name], 3) for name in ("p50", "p95", "p99") if name in ages}
        trial.figures["results"] = ages.get("count", 0)
        trial.require(
            judge.at_most("p95 of results' age", ages.get("p95"), bound, "s"),
            judge.at_least("results", ages.get("count"), seconds * 2.5 * 0.5, ""),
            judge.flat(trial.watch.sizes(trial.lines[0].at if trial.lines else 0.0, trial.lines[-1].at), 0.05),
        )
    return trial.row(bench.case)


CASES = (
    Case(
        "worker-killed", "one of 3 workers killed every 5 s for 60 s, started again at once",
        "0 lost, doubled, out of order; stall ≤ 1 s", worker_killed, short=True,
    ),
    Case(
        "all-workers-gone", "lossless: all workers killed, one returns after 10 s",
        "waits, says so within 2 s, goes on; 0 lost", all_workers_gone, short=True,
    ),
    Case(
        "all-workers-gone-live", "live: all workers killed, they return after 10 s",
        "≥ 99 % of the input's rate, says so within 2 s, annotates again", all_workers_gone_live,
    ),
    Case("worker-late", "lossless: the first worker joins 60 s late", "waits and says so; 0 lost", worker_late),
    Case("no-worker-live", "live: no worker at all", "≥ 99 % of the input's rate; all skipped", no_worker_live),
    Case(
        "worker-stopped", "one of 2 workers stands still (SIGSTOP) for 4 s",
        "0 lost, named within 2 s; stall ≤ 3 s", worker_stopped,
    ),
    Case(
        "model-hangs", "the model never returns from one picture, heartbeats go on",
        "that one failed: poison; the others annotated; stall ≤ 12 s", model_hangs,
    ),
    Case(
        "poison", "two pictures kill each worker that touches them",
        "those failed: poison after at most 3 deaths each; the others annotated", poison, short=True,
    ),
    Case(
        "model-raises", "the model raises on two pictures",
        "those failed: model_error; the others annotated; stall ≤ 2 s", model_raises,
    ),
    Case(
        "slow-workers", "live: workers 10 times too slow for 60 s, bound 1 s",
        "≥ 99 % of the input's rate; p95 of results' age ≤ 1 s; memory flat ± 5 %", slow_workers, short=True,
    ),
)  # fmt: skip
