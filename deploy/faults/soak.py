"""The soak: random faults on one lossless run, drawn from a printed seed, then the same judgement as everywhere."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from deploy.faults import judge
from deploy.faults.bench import Bench, Case
from deploy.faults.clip import Clip
from deploy.faults.trial import Row, Trial

#: Workers, and the time that each takes for a picture, in milliseconds: 25 pictures a second in all.
WORKERS, PICTURE_MS = 2, 80
RATE = WORKERS * 1000 // PICTURE_MS
#: Seconds between two faults, at least and at most.
PAUSE_S = (1.0, 6.0)
#: How long a part stands still, in seconds, at most.
STILL_S = 4.0
#: Share of faults that kill; of the others, those in which another part is killed while one stands still.
KILLED, BOTH = 0.6, 0.5
#: A run that shows nothing new for so long, in seconds, is stuck.
STUCK_S = 60.0


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to one part."""

    part: str
    #: ``killed`` (and started again at once), or ``stopped`` for ``seconds``.
    how: str
    seconds: float = 0.0
    #: Killed in the middle of that time; "": nothing is.
    meanwhile: str = ""

    def __str__(self) -> str:
        still = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.part} {self.how}{still}" + (f", {self.meanwhile} killed meanwhile" if self.meanwhile else "")


def draw(chance: random.Random) -> Fault:
    """The next fault. Workers are hit more often than the others, as there are more of them."""
    parts = [*(f"worker-{number}" for number in range(1, WORKERS + 1)), "broker", "sink", "producer"]
    part = chance.choice(parts)
    if chance.random() < KILLED:
        return Fault(part, "killed")
    other = chance.choice([one for one in parts if one != part])
    return Fault(part, "stopped", chance.uniform(0.2, STILL_S), other if chance.random() < BOTH else "")


def soak(minutes: float) -> Case:
    """A case of so many minutes."""

    def run(bench: Bench) -> Row:
        clip = Clip(frames=int(minutes * 60 * RATE * 1.1) + 2 * RATE, rate=RATE)
        bench.say(f"    making a clip of {clip.frames} pictures")
        with bench.trial(clip, workers=WORKERS, model=f"echo:{PICTURE_MS}", mode="lossless") as trial:
            trial.begin()
            faults = _spoil(trial, bench.chance, time.monotonic() + minutes * 60, bench.say)
            _see_off(trial)
            trial.figures["faults"] = faults
            trial.require(judge.at_least("faults", faults, 1, ""))
            trial.require_whole()
            return trial.row(bench.case)

    what = f"{minutes:g} minutes of random faults: any part killed, or standing still"
    return Case("soak", what, "0 lost, doubled, out of order over the parts", run)


def _spoil(trial: Trial, chance: random.Random, until: float, say: Callable[[str], None]) -> int:
    """Faults until the time is over → how many."""
    began, count = time.monotonic(), 0
    while time.monotonic() < until and trial.wait(chance.uniform(*PAUSE_S)):
        fault = draw(chance)
        count += 1
        say(f"    {time.monotonic() - began:5.0f} s, {len(trial.lines)} lines: {fault}")
        if fault.how == "killed":
            trial.fleet.kill(fault.part)
            trial.fleet.start(fault.part)
        else:
            trial.fleet.stop(fault.part)
            trial.wait(fault.seconds / 2)
            if fault.meanwhile:
                trial.fleet.kill(fault.meanwhile)
                trial.fleet.start(fault.meanwhile)
            trial.wait(fault.seconds / 2)
            trial.fleet.resume(fault.part)
    return count


def _see_off(trial: Trial) -> None:
    """Wait for the end as long as there is progress."""
    while not trial.over:
        trial.progress(1, STUCK_S, "further output")
    trial.finish()
