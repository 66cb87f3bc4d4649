"""The run as a person sees it: a progress bar on a terminal, plain lines elsewhere, the ledger at the end."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
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
#: What several parts may name, each under its own name; and what the producer waits for then.
ABOUT = {
    "no_worker": "worker",
    "no_worker_yet": "worker",
    "broker_away": "broker",
    "broker_silent": "broker",
    "broker_full": "broker",
    "sink_away": "sink",
    "sink_silent": "sink",
    "sink_silent_yet": "sink",
}
#: A part that says nothing this long, in seconds, has no troubles: it was started again.
SILENT_S = 3.0
#: Most troubles in one line.
MAX_TROUBLES = 4
#: What a terminal's line holds beside the text: description, bar, remaining time and the spaces between, in characters.
BAR_WIDTH, BESIDE = 40, 64
#: A trouble is cut to this width at the least, in characters, whatever the terminal's is.
LEAST = 24


class Ailing:
    """The troubles of all parts, as their status lines name them. Pure: time is an argument."""

    def __init__(self) -> None:
        self._parts: dict[str, tuple[float, list[dict[str, Any]]]] = {}

    def hear(self, child: str, troubles: object, now: float) -> None:
        """``troubles`` of a status record: a list of {"name", "text", "since"}; it replaces the child's last one."""
        self._parts[child] = (now, [one for one in troubles if _is_trouble(one)] if isinstance(troubles, list) else [])

    def about(self, now: float) -> set[str]:
        """What the troubles are about: ``worker``, ``broker``, ``sink``, or a trouble's own name."""
        return {_about(one) for one in self._current(now)}

    def words(self, now: float) -> list[str]:
        """One trouble each, the newest first: ``no worker serves face (12 s)``; what several parts name counts once."""
        found: dict[str, dict[str, Any]] = {}
        for one in sorted(self._current(now), key=lambda one: -one["since"]):
            found.setdefault(_about(one), one)
        return [f"{_printable(one['text'])} ({one['since']:.0f} s)" for one in reversed(found.values())]

    def _current(self, now: float) -> list[dict[str, Any]]:
        return [one for at, troubles in self._parts.values() if now - at < SILENT_S for one in troubles]


def fit(words: list[str], room: int | None) -> str:
    """As many of ``words`` as ``room`` characters hold (None: no limit), at least the first one, cut to ``LEAST``."""
    shown = words[:MAX_TROUBLES]
    if room is not None and shown:
        room = max(room, LEAST)
        while len(shown) > 1 and len("; ".join(shown)) > room:
            shown.pop()
        if len(shown[0]) > room:
            shown[0] = shown[0][: room - 1] + "…"
    return "; ".join(shown)


class _Console(Console):
    """Falls silent when nobody reads any more; rich would end the process."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class RunDisplay:
    """Shows one run on standard error. ``verbose``: also the parts' logs of level info."""

    def __init__(
        self, verbose: bool = False, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console or _Console(stderr=True, highlight=False)
        self._verbose, self._clock = verbose, clock
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        if self._console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(BAR_WIDTH),
                TextColumn("{task.fields[text]}", markup=False),
                TimeRemainingColumn(compact=True),
                console=self._console,
                transient=True,
            )
            self._task = self._progress.add_task("starting", total=None, text="")
            self._progress.start()
        self._known = False  # the source is open
        self._total: int | None = None
        self._resolved = self._in_flight = 0
        self._waits_for = ""
        self._ailing = Ailing()
        self._marks: deque[tuple[float, int]] = deque([(clock(), 0)])
        self._next_line = clock() + PLAIN_S

    def said(self, said: Said) -> None:
        """A line of a child."""
        record = said.record
        if said.kind == "log":
            self._log(said)
            return
        if "troubles" in record:
            self._ailing.hear(said.child, record["troubles"], self._clock())
        if record["event"] == "source":
            self._known, self._total = True, record["frames"]
            sound = f", sound {'+'.join(record['sound'])}" if record["sound"] else ", no sound"
            self.note(f"{record['stream']}: {record['width']}x{record['height']} at {record['rate']:.5g} fps{sound}")
        elif record["event"] == "progress" and said.child == "producer":
            self._in_flight = record["in_flight"]
            self._waits_for = record["waits_for"]
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
        now = self._clock()
        if self._resolved < self._marks[-1][1]:  # a part goes on from its last durable frame
            self._marks.clear()
            self._marks.append((now, self._resolved))
        elif self._resolved != self._marks[-1][1]:
            self._marks.append((now, self._resolved))
        while len(self._marks) > 2 and now - self._marks[0][0] > RATE_S:
            self._marks.popleft()
        text = f"{self._resolved}{f'/{self._total}' if self._total else ''} frames, {self._rate(now):.1f} fps"
        text += f", {self._in_flight} in flight"
        if self._waits_for and ABOUT.get(self._waits_for) not in self._ailing.about(now):
            waits = WAITS.get(self._waits_for, self._waits_for)
            text += f", {waits}" if waits else ""
        if words := self._ailing.words(now):
            room = self._console.width - BESIDE - len(text) if self._progress is not None else None
            text += f"; {fit(words, room)}"
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


def _is_trouble(one: object) -> bool:
    return (
        isinstance(one, dict)
        and isinstance(one.get("name"), str)
        and isinstance(one.get("text"), str)
        and isinstance(one.get("since"), int | float)
    )


def _about(trouble: dict[str, Any]) -> str:
    return ABOUT.get(trouble["name"], trouble["name"])


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)


def incomplete(result: dict[str, Any] | None) -> str:
    """One line for a run that came to its end with gaps. ``result``: the ledger entry."""
    if result is None:
        return "stopped before the outputs were closed: what was written before stays playable"
    states = result["states"]
    bad = {state: states[state] for state in ("failed", "lost") if states.get(state)}
    counts = " and ".join(f"{count} {state}" for state, count in bad.items()) or "some lost"
    reasons = ", ".join(f"{reason} {count}" for reason, count in result["reasons"].items())
    return f"{counts} of {result['frames']} frames" + (f" ({reasons})" if reasons else "")
