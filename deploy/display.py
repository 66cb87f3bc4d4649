"""The run as a person sees it: a progress bar on a terminal, plain lines elsewhere, the ledger at the end."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from deploy.children import Said

#: Seconds between two plain progress lines.
PLAIN_S = 2.0
#: Frames a second are averaged over this long, in seconds.
RATE_S = 3.0
#: What each state means to a reader of the ledger.
MEANINGS = {
    "annotated": "shows its own results",
    "carried": "not sampled: shows the last boxes",
    "skipped": "not inferred: the workers were busy",
    "late": "its result came too late",
    "failed": "model error, damaged frame or no picture",
    "lost": "did not come out",
    "pending": "not decided",
}
WAITS = {
    "no_worker": "waiting for a worker",
    "window_full": "",
    "broker_full": "waiting for the broker",
    "sink": "",
}


class _Console(Console):
    """Falls silent when nobody reads any more; rich would end the process."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class RunDisplay:
    """Shows one run on standard error. ``verbose``: also the parts' logs of level info."""

    def __init__(self, verbose: bool = False) -> None:
        self._console = _Console(stderr=True, highlight=False)
        self._verbose = verbose
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        if self._console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[text]}"),
                TimeRemainingColumn(compact=True),
                console=self._console,
                transient=True,
            )
            self._task = self._progress.add_task("starting", total=None, text="")
            self._progress.start()
        self._known = False  # the source is open
        self._total: int | None = None
        self._resolved = self._in_flight = 0
        self._waits = ""
        self._marks: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        self._next_line = time.monotonic() + PLAIN_S

    def said(self, said: Said) -> None:
        """A line of a child."""
        record = said.record
        if said.kind == "log":
            self._log(said)
        elif record["event"] == "source":
            self._known, self._total = True, record["frames"]
            sound = f", sound {'+'.join(record['sound'])}" if record["sound"] else ", no sound"
            self.note(f"{record['stream']}: {record['width']}x{record['height']} at {record['rate']:.5g} fps{sound}")
        elif record["event"] == "progress" and said.child == "producer":
            self._in_flight = record["in_flight"]
            self._waits = WAITS.get(record["waits_for"], record["waits_for"])
        elif record["event"] in ("progress", "closed") and said.child == "sink":
            self._resolved = record["resolved"] if "resolved" in record else record["frames"]

    def note(self, text: str) -> None:
        """A line that stays."""
        try:
            self._console.print(text, markup=False, soft_wrap=True)
        except OSError:  # a terminal that is gone must not end the run
            self._console.quiet = True

    def tick(self) -> None:
        """Called several times a second."""
        now = time.monotonic()
        if self._resolved != self._marks[-1][1]:
            self._marks.append((now, self._resolved))
        while len(self._marks) > 2 and now - self._marks[0][0] > RATE_S:
            self._marks.popleft()
        text = f"{self._resolved}{f'/{self._total}' if self._total else ''} frames, {self._rate(now):.1f} fps"
        text += f", {self._in_flight} in flight" + (f", {self._waits}" if self._waits else "")
        if self._progress is not None and self._task is not None:
            self._progress.update(
                self._task, description="annotating" if self._resolved else "starting",
                completed=self._resolved, total=self._total, text=text,
            )  # fmt: skip
        elif self._known and now >= self._next_line:
            self._next_line = now + PLAIN_S
            self.note(text)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def ledger(self, result: dict[str, Any]) -> None:
        """The ledger as a small table, on standard output."""
        console = _Console(file=sys.stdout, highlight=False)
        table = Table(title=f"{result['stream']}: {result['frames']} frames", title_justify="left", box=None)
        table.add_column("state")
        table.add_column("frames", justify="right")
        table.add_column("")
        for state, count in result["states"].items():
            table.add_row(state, str(count), MEANINGS.get(state, ""))
        for reason, count in result["reasons"].items():
            table.add_row(f"  {reason}", str(count), "reason", style="dim")
        for repair, count in result["repairs"].items():
            table.add_row(f"  {repair}", str(count), "repair of the time line", style="dim")
        console.print(table)
        for path in result["parts"]:
            console.print(f"written: {path}", markup=False, soft_wrap=True)

    def _rate(self, now: float) -> float:
        (then, count), newest = self._marks[0], self._resolved
        return (newest - count) / (now - then) if now > then else 0.0

    def _log(self, said: Said) -> None:
        record = said.record
        # A fatal record comes back as the run's own last line; its trace is for those who ask.
        if record.get("fatal") and not self._verbose:
            return
        if self._verbose or record.get("level") in ("warning", "error", "critical", "print"):
            self.note(f"{said.child}: {record['message']}")
            if self._verbose and "trace" in record:
                self.note(str(record["trace"]))


def incomplete(result: dict[str, Any] | None) -> str:
    """One line for a run that came to its end with gaps. ``result``: the ledger entry."""
    if result is None:
        return "stopped before the outputs were closed: what was written before stays playable"
    states = result["states"]
    bad = {state: states[state] for state in ("failed", "lost") if states.get(state)}
    counts = " and ".join(f"{count} {state}" for state, count in bad.items()) or "some lost"
    reasons = ", ".join(f"{reason} {count}" for reason, count in result["reasons"].items())
    return f"{counts} of {result['frames']} frames" + (f" ({reasons})" if reasons else "")
