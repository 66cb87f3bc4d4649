"""A node as a person sees it in a terminal: its parts, streams and workers, once or again and again."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from deploy.ailing import printable

#: Colours of states; what is not named here is plain.
COLOURS = {
    "running": "green", "ready": "green", "starting": "yellow", "away": "yellow", "paused": "dim", "ended": "dim",
    "exited": "dim", "stopped": "dim", "backoff": "red", "fatal": "red", "failing": "red", "unknown": "yellow",
}  # fmt: skip
#: Longest text of a cell, in characters.
MAX_CELL = 160


def show(snapshot: dict[str, Any], console: Console) -> None:
    """Once."""
    console.print(render(snapshot))


def watch(look: Callable[[], dict[str, Any]], every: float) -> None:
    """Again and again, until Ctrl-C; on no terminal, once a look."""
    console = Console(highlight=False)
    with contextlib.suppress(KeyboardInterrupt):
        if not console.is_terminal:
            while True:
                show(look(), console)
                sys.stdout.flush()
                time.sleep(every)
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                snapshot = look()
                shown = render(snapshot) if snapshot else Text("the agent does not answer", style="red")
                live.update(shown, refresh=True)
                time.sleep(every)


@contextlib.contextmanager
def waiting(text: str) -> Iterator[None]:
    """Something that turns while it is waited, on a terminal."""
    console = Console(stderr=True, highlight=False)
    with console.status(text) if console.is_terminal else contextlib.nullcontext():
        yield


def render(snapshot: dict[str, Any]) -> RenderableType:
    """``snapshot``: as deploy/agent/model.py makes it."""
    parts: list[RenderableType] = [_head(snapshot), _parts(snapshot.get("parts", []))]
    if snapshot.get("streams"):
        parts.append(_streams(snapshot["streams"]))
    if snapshot.get("workers"):
        parts.append(_workers(snapshot["workers"]))
    unready = snapshot.get("unready", [])
    wrong = dict.fromkeys([*unready, *snapshot.get("troubles", [])])
    return Group(*parts, *(Text(printable(one), style="red" if one in unready else "yellow") for one in wrong))


def _head(snapshot: dict[str, Any]) -> Text:
    broker = snapshot.get("broker") or {}
    queue = f", {broker['queued']} frames queued, {broker['leased']} with workers" if "queued" in broker else ""
    word = "works" if snapshot.get("ready") else "does not work"
    return Text(f"{printable(str(snapshot.get('file', '')))} {word}: {', '.join(snapshot.get('roles', []))}{queue}")


def _parts(rows: list[dict[str, Any]]) -> Table:
    table = _table("part", "state", "pid", "up", "restarts", "")
    for one in rows:
        state = "ready" if one["ready"] else one["state"]
        why = one["why"] if one["state"] in ("backoff", "fatal", "exited") or one.get("crash_loop") else ""
        if one.get("crash_loop"):
            why = f"crashes again and again: {why}"
        table.add_row(_cell(one["name"]), _state(state), str(one["pid"] or ""), _age(one["uptime"]),
                      str(one["restarts"] or ""), _cell(why))  # fmt: skip
    return table


def _streams(rows: list[dict[str, Any]]) -> Table:
    table = _table("stream", "state", "frames", "annotated", "fps", "late", "lost", "")
    for one in rows:
        states = one["states"]
        share = "" if one["annotated"] is None else f"{one['annotated']:.0%}"
        words = "; ".join([one["why"], *one["troubles"]] if one["why"] else one["troubles"])
        table.add_row(_cell(one["name"]), _state(one["state"]), str(one["frames"]), share, f"{one['fps']:.1f}",
                      str(states.get("late", 0) or ""), str(states.get("lost", 0) or ""), _cell(words))  # fmt: skip
    return table


def _workers(rows: list[dict[str, Any]]) -> Table:
    table = _table("worker", "device", "fps", "batch", "holds", "last beat")
    for one in rows:
        table.add_row(
            _cell(one.get("name", "")),
            _cell(one.get("device", "")),
            _number(one.get("fps")),
            _number(one.get("batch")),
            str(one.get("leased", "")),
            f"{_number(one.get('beat_age'), 2)} s",
        )
    return table


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right" if heading in ("pid", "frames", "fps", "restarts") else "left")
    return table


def _state(state: str) -> Text:
    return Text(state, style=COLOURS.get(state, ""))


def _cell(text: object) -> Text:
    return Text(printable(str(text))[:MAX_CELL])


def _number(value: object, digits: int = 1) -> str:
    return f"{value:.{digits}f}" if isinstance(value, int | float) else ""


def _age(seconds: float) -> str:
    """``5 s``, ``12 min``, ``3 h``, ``4 d``."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds else ""
