"""Faults of the broker and of the sockets: killed and started again, standing still, strangers that talk rubbish."""

from __future__ import annotations

import time

from deploy.faults import judge
from deploy.faults.bench import Bench, Case
from deploy.faults.clip import Clip
from deploy.faults.garbage import REFUSALS, throw
from deploy.faults.require import require_annotated, require_full_rate
from deploy.faults.trial import Row


def broker_killed(bench: Bench) -> Row:
    clip = Clip(frames=int(bench.pick(1500, 600)), rate=50)
    with bench.trial(clip, workers=2, model="echo:20", mode="lossless") as trial:
        trial.begin()
        kills = 0
        while kills < 3 and trial.wait(bench.pick(3, 1)):
            trial.fleet.kill("broker")
            trial.fleet.start("broker")
            kills += 1
            since = time.monotonic()
            trial.progress(BEGUN_AGAIN, 20, "output after the broker's restart")
            trial.figures[f"stall {kills}, s"] = round(trial.watch.stall(since), 2)
        trial.finish()
        trial.require(judge.Check("killed three times", kills == 3, f"{kills} times"))
        trial.require_whole()
        trial.require_stall(2.0)
    return trial.row(bench.case)


def broker_killed_live(bench: Bench) -> Row:
    clip = Clip(frames=int(bench.pick(20, 8) * 25))
    with bench.trial(clip, workers=2, model="echo:10", mode="live") as trial:
        trial.begin()
        trial.wait(2)
        trial.fleet.kill("broker")
        trial.wait(1)
        back = time.monotonic()
        trial.fleet.start("broker")
        trial.finish()
        require_full_rate(trial)
        require_annotated(trial, back + 0.5, 1, "it returned")
    return trial.row(bench.case)


def broker_stopped(bench: Bench) -> Row:
    with bench.trial(Clip(frames=600, rate=50), workers=2, model="echo:20", mode="lossless") as trial:
        trial.begin()
        trial.fleet.stop("broker")
        trial.wait(3)
        trial.fleet.resume("broker")
        trial.finish()
        trial.require_whole()
        trial.require_stall(3 + 2.0)
    return trial.row(bench.case)


def garbage(bench: Bench) -> Row:
    with bench.trial(Clip(frames=int(bench.pick(400, 250)), rate=50), model="echo:20", mode="lossless") as trial:
        trial.begin()
        since = time.monotonic()
        throw(trial.fleet.config, trial.fleet.stream.name, trial.fleet.listen)
        trial.wait(2.5)
        for part, words in REFUSALS:
            trial.require_named(since, *words, parts=(part,))
        trial.finish()
        trial.require_whole()
        told = sum(one.kind == "log" and "refused" in one.text for one in trial.fleet.heard)
        trial.require(judge.at_most("lines about it", told, 40, ""))
        ended = {name: codes for name, codes in trial.fleet.codes.items() if codes != [0]}
        trial.require(judge.Check("no part died", not ended, f"{ended}"))
    return trial.row(bench.case)


#: Lines of output after which a run counts as going on again: more than what was under way to the sink.
BEGUN_AGAIN = 30

CASES = (
    Case(
        "broker-killed", "lossless: the broker killed 3 times, started again at once",
        "0 lost, doubled, out of order; stall ≤ 2 s", broker_killed, short=True,
    ),
    Case(
        "broker-killed-live", "live: the broker killed, started again after 1 s",
        "≥ 99 % of the input's rate, annotates again", broker_killed_live,
    ),
    Case("broker-stopped", "the broker stands still (SIGSTOP) for 3 s", "0 lost; stall ≤ 5 s", broker_stopped),
    Case(
        "garbage", "random bytes, wrong shapes, another version, lies, on every socket",
        "refused, named within 2 s, the run whole", garbage, short=True,
    ),
)  # fmt: skip
