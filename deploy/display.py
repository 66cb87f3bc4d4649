"""The run as a person sees it: progress bars on a terminal, plain lines elsewhere, the ledger at the end."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from typing import IO, Any, TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from deploy.ailing import ABOUT, Ailing, fit, printable
from deploy.children import Said
from deploy.streams import StreamLife, Streams, part_of, stream_in

#: Seconds between two plain progress lines, and between two looks of a terminal's.
PLAIN_S, SHOW_S = 2.0, 0.25
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
#: What a terminal's line holds beside the text: description, bar, remaining time and the spaces between, in characters.
BAR_WIDTH, BESIDE = 40, 64
#: The same of the bars of several streams.
SMALL_BAR_WIDTH = 16
#: Longest name of a stream in front of its bar, in characters.
MAX_NAME = 24


class _Unbreakable:
    """``file``, which is dropped when nobody reads it any more: a terminal that is gone must not end the run."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _console(file: TextIO, **more: Any) -> Console:
    return Console(file=cast(IO[str], _Unbreakable(file)), highlight=False, **more)


class RunDisplay:
    """Shows one run on standard error. ``verbose``: also the parts' logs of level info."""

    def __init__(
        self, verbose: bool = False, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console or _console(sys.stderr)
        self._verbose, self._clock = verbose, clock
        self._progress: Progress | None = None
        self._bar = BarColumn(BAR_WIDTH)
        self._tasks: dict[str, TaskID] = {}
        if self._console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}", markup=False),
                self._bar,
                TextColumn("{task.fields[text]}", markup=False),
                TimeRemainingColumn(compact=True),
                console=self._console,
                transient=True,
                refresh_per_second=1 / SHOW_S,
            )
            self._progress.start()
        self._several = False
        self._away: set[str] = set()
        self._next_line, self._next_look = clock() + PLAIN_S, clock()

    def said(self, said: Said) -> None:
        """A line of a child."""
        record = said.record
        if said.kind == "log":
            self._log(said)
        elif record.get("event") == "source":
            sound = f", sound {'+'.join(record['sound'])}" if record["sound"] else ", no sound"
            self.note(f"{record['stream']}: {record['width']}x{record['height']} at {record['rate']:.5g} fps{sound}")

    def note(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, markup=False, emoji=False, soft_wrap=True)

    def tick(self, streams: Streams, ailing: Ailing) -> None:
        """Called several times a second."""
        now = self._clock()
        if streams.several and not self._several:
            self._several, self._bar.bar_width = True, SMALL_BAR_WIDTH
        self._tell_returns(streams)
        if self._progress is not None:
            # Whoever calls does so with each word of any part.
            if now >= self._next_look:
                self._next_look = now + SHOW_S
                self._show(self._progress, streams, ailing, now)
        elif now >= self._next_line and any(life.known for life in streams):
            self._next_line = now + PLAIN_S
            if self._several:
                self.note(_summary(list(streams), ailing, now))
            else:
                words, about = ailing.words(now), ailing.about(now)
                for life in streams:
                    self.note(_text(life, words, about, now))

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _show(self, progress: Progress, streams: Streams, ailing: Ailing, now: float) -> None:
        """One line a stream; of several, those that have not ended, below one line of all, as many as there is room
        for."""
        shown: dict[str, tuple[str, str, int, int | None]] = {}
        width = self._console.width - BESIDE
        words, about = ([] if self._several else ailing.words(now)), ailing.about(now)
        if self._several:
            width += BAR_WIDTH - SMALL_BAR_WIDTH
            ended = sum(life.ended is not None for life in streams)
            text = _summary(list(streams), ailing, now, width)
            shown[""] = f"{len(streams)} streams", text, ended, len(streams)
        for life in streams:
            title = "annotating" if life.resolved else "starting"
            if self._several:
                if life.ended is not None:
                    continue
                if len(shown) >= self._console.height - 1:
                    break
                title, words = printable(life.name)[:MAX_NAME], _own_words(life, ailing, now)
            shown[life.name] = title, _text(life, words, about, now, width), life.resolved, life.total
        progress.disable = True  # it would draw all of them for each new one
        for name in self._tasks.keys() - shown.keys():
            progress.remove_task(self._tasks.pop(name))
        if "" in shown and "" not in self._tasks:  # the line of all is the first one
            for task in self._tasks.values():
                progress.remove_task(task)
            self._tasks.clear()
        for name, (title, text, completed, total) in shown.items():
            if name not in self._tasks:
                self._tasks[name] = progress.add_task(title, total=None, text="")
            progress.update(self._tasks[name], description=title, completed=completed, total=total, text=text)
        progress.disable = False

    def _tell_returns(self, streams: Streams) -> None:
        """That a source is away is in the log; here it is said that it is back."""
        for life in streams:
            if life.state == "away":
                self._away.add(life.name)
            elif life.name in self._away:
                self._away.discard(life.name)
                if life.state == "running":
                    self.note(f"{life.name}: the source is back")

    def _log(self, said: Said) -> None:
        record = said.record
        # A fatal record comes back as the run's own last line; its trace is for those who ask.
        if record.get("fatal") and not self._verbose:
            return
        if self._verbose or record.get("level") in ("warning", "error", "critical", "print"):
            who = said.child if self._several or stream_in(said.child) is None else "producer"
            about = record.get("stream")
            if self._several and about and stream_in(said.child) is None:
                who = f"{who} ({about})"
            self.note(f"{who}: {record['message']}")
            if self._verbose and "trace" in record:
                self.note(str(record["trace"]))


def _text(life: StreamLife, words: list[str], about: set[str], now: float, room: int | None = None) -> str:
    """One stream in one line, with ``words`` of its troubles; ``about``: what is said of others, and not again here.

    ``room``: so many characters are there, None: as many as needed.
    """
    text = f"{life.resolved}{f'/{life.total}' if life.total else ''} frames, {life.rate(now):.1f} fps"
    text += f", {life.in_flight} in flight"
    if life.waits_for and ABOUT.get(life.waits_for) not in about:
        waits = WAITS.get(life.waits_for, life.waits_for)
        text += f", {waits}" if waits else ""
    if words:
        text += f"; {fit(words, None if room is None else room - len(text))}"
    return text


def _own_words(life: StreamLife, ailing: Ailing, now: float) -> list[str]:
    words = ailing.words_of(life.name, part_of(life.name), now)
    away = f"source away: {printable(life.why)} ({life.since(now):.0f} s)"
    return [away, *words] if life.state == "away" else words


def _summary(lives: list[StreamLife], ailing: Ailing, now: float, room: int | None = None) -> str:
    """All streams in one line."""
    states = [life.state for life in lives]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    frames = sum(life.resolved for life in lives)
    decided = sum(count for life in lives for state, count in life.states.items() if state != "pending")
    annotated = sum(life.states.get("annotated", 0) for life in lives)
    text = f"{counts}: {frames} frames, {sum(life.rate(now) for life in lives):.1f} fps"
    if decided:
        text += f", {100 * annotated / decided:.0f} % annotated"
    if words := ailing.words(now):
        text += f"; {fit(words, None if room is None else room - len(text))}"
    return text


def say(line: str) -> None:
    """A last word on standard error."""
    with contextlib.suppress(OSError):
        print(f"headrace: {line}", file=sys.stderr)


def show_ledgers(results: list[dict[str, Any]]) -> None:
    """The ledger on standard output: of one stream a table with reasons, of several a row each."""
    console = _console(sys.stdout, markup=False, emoji=False)
    console.print(_one(results[0]) if len(results) == 1 else _many(results))
    for result in results:
        for path in result["parts"]:
            console.print(f"written: {path}", soft_wrap=True)


def _one(result: dict[str, Any]) -> Table:
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
    return table


def _many(results: list[dict[str, Any]]) -> Table:
    states = [state for state in MEANINGS if any(state in result["states"] for result in results)]
    table = Table(box=None)
    table.add_column("stream")
    for heading in ("frames", *states):
        table.add_column(heading, justify="right")
    table.add_column("reasons and repairs")
    for result in results:
        counts = [str(result["states"].get(state, 0)) for state in states]
        more = {**result["reasons"], **result["repairs"]}
        told = ", ".join(f"{reason} {count}" for reason, count in more.items())
        table.add_row(result["stream"], str(result["frames"]), *counts, told)
    return table
