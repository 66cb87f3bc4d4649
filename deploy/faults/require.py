"""Requirements that several cases share."""

from __future__ import annotations

from deploy.faults import judge
from deploy.faults.trial import Trial

#: What overload, absence and hostile bytes must be named within, in seconds.
NAMED_S = 2.0
#: A live run's rate is measured from so long after its first line, in seconds: with no worker yet, lines come early.
SETTLED_S = 2.0


def require_accounted_live(trial: Trial) -> None:
    """Live: every frame of the source is in the ledger and in the lines, no picture comes twice or out of order."""
    trial.require_accounted()
    shown = judge.order(trial.shown, trial.clip.frames)
    orderly = not (shown.duplicates or shown.reordered or shown.strange)
    trial.require(
        judge.complete(judge.order([line.index for line in trial.told], trial.clip.frames), "lines"),
        judge.Check("no picture doubled or out of order", orderly, "" if orderly else f"{shown}"),
    )


def require_full_rate(trial: Trial, share: float = 0.99) -> None:
    """Live: every frame is accounted for, and pictures come out at the input's rate."""
    require_accounted_live(trial)
    out = len(trial.shown) / trial.clip.frames * 100
    trial.require(judge.at_least("pictures out of those that went in", out, share * 100, "%"))
    settled = trial.lines[0].at + SETTLED_S if trial.lines else 0.0
    rate = judge.rate([line.at for line in trial.lines if line.at >= settled])
    trial.figures["frames a second"] = round(rate or 0.0, 2)
    trial.require(judge.at_least("frames a second", rate, share * trial.clip.rate, ""))


def require_annotated(trial: Trial, since: float, least: float, what: str) -> None:
    """So many frames that were told of after ``since`` show their own results."""
    again = sum(line.state == "annotated" for line in trial.lines if line.at > since)
    trial.require(judge.at_least(f"annotated after {what}", again, least, "frames"))


def require_told_of_no_worker(trial: Trial, since: float) -> None:
    """Both the status and the log say within 2 s that no worker is left."""
    at = trial.fleet.status(since, "broker", "progress", lambda said: said["workers"] == 0)
    trial.figures["status says no worker, s"] = -1.0 if at is None else round(at, 2)
    trial.require(judge.at_most("status says that no worker is left within", at, NAMED_S, "s"))
    for name in trial.fleet.workers:
        trial.require_named(since, "worker", name, parts=("broker", "producer", "sink"))


def require_failed(trial: Trial, pictures: list[int], reason: str) -> None:
    """Exactly these failed, for ``reason``; each other one shows its own number."""
    failed = [(line.index, line.reason) for line in trial.told if line.state == "failed"]
    ok = failed == [(one, reason) for one in pictures]
    trial.require(judge.Check(f"{pictures} failed: {reason}", ok, "" if ok else f"{failed}"))
    wrong = [line.index for line in trial.told if line.state == "annotated" and line.labels != (str(line.index),)]
    found = f"{wrong[:5]} have another's" if wrong else ""
    trial.require(judge.Check("each other picture has its own result", not wrong, found))


def require_goes_on(trial: Trial, since: float, within: float) -> None:
    """A line of output comes within seconds of ``since``: waits for it, raises Stuck where none comes."""
    at = trial.until(
        lambda: next((line.at for line in reversed(trial.lines) if line.at > since), None), 60, "further output"
    )
    trial.figures["goes on after, s"] = round(at - since, 2)
    trial.require(judge.at_most("output goes on after", at - since, within, "s"))
