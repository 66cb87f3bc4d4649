"""How a placed fleet is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from deploy.cluster.rows import Row

HEADINGS = ("slot", "state", "node", "gpu", "pid", "device", "done", "restarts", "last error")
RIGHT = ("pid", "done", "restarts")


def as_data(fleet: str, rows: Sequence[Row]) -> dict[str, Any]:
    return {"fleet": fleet, "workers": [asdict(row) for row in rows]}


def show(rows: Sequence[Row]) -> None:
    """A table on standard output; read by a program, a slot a line."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 1000
    table = Table(box=None)
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading in RIGHT else "left", overflow="fold")
    for row in rows:
        pid = str(row.pid or "")
        table.add_row(
            row.slot, row.state, row.node, ",".join(row.gpus), pid, row.device, str(row.done), str(row.restarts),
            row.error,
        )  # fmt: skip
    console.print(table)


def count(rows: Sequence[Row], word: str = "worker") -> str:
    """3 workers: 2 running, 1 pending"""
    states: dict[str, int] = {}
    for row in rows:
        states[row.state] = states.get(row.state, 0) + 1
    told = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
    return f"{len(rows)} {word}{'' if len(rows) == 1 else 's'}" + (f": {told}" if told else "")
