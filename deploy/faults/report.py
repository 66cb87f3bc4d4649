"""The table: on a terminal, as JSON, as a Markdown page."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from deploy.faults.bench import Case
from deploy.faults.trial import Row

HEADINGS = (
    "fault", "in", "out", "states", "doubled", "reordered", "stall ms", "memory MB", "s", "verdict",
)  # fmt: skip


def machine() -> str:
    """The machine in one line, as the benchmarks name it."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    system = f"{platform.system()} {platform.release().split('-')[0]}, Python {platform.python_version()}"
    return f"{os.cpu_count()} cores of {model}, {memory} GiB, {system}"


def cells(row: Row) -> list[str]:
    """One row of the table, under HEADINGS."""
    if row.state == "skipped":
        return [row.name, *([""] * 8), row.verdict]
    states = ", ".join(f"{count} {state}" for state, count in row.states.items())
    if row.reasons:
        states += " (" + ", ".join(f"{reason} {count}" for reason, count in row.reasons.items()) + ")"
    return [
        row.name, str(row.frames_in), str(row.frames_out), states, str(row.duplicates), str(row.reordered),
        f"{row.stall_ms:.0f}", f"{row.memory_mb:.0f}", f"{row.seconds:.0f}", row.verdict,
    ]  # fmt: skip


def list_cases(cases: Sequence[Case], console: Console) -> None:
    """What can be run."""
    table = Table(box=None)
    for heading in ("fault", "what is done", "what it must come to", "short form"):
        table.add_column(heading, no_wrap=heading == "fault", overflow="fold")
    for case in cases:
        table.add_row(case.name, case.what, case.requirement, "yes" if case.short else "")
    console.print(table)


def show(rows: Sequence[Row], console: Console) -> None:
    """The whole table."""
    if not console.is_terminal:  # a log file has no edge that words must be squeezed before
        console.width = max(console.width, 200)
    table = Table(box=None)
    for number, heading in enumerate(HEADINGS):
        figure = number in (1, 2, 4, 5, 6, 7, 8)
        table.add_column(heading, justify="right" if figure else "left", no_wrap=figure or number == 0, overflow="fold",
                         min_width=0 if figure else 14)  # fmt: skip
    for row in rows:
        style = {"ok": "", "FAILED": "bold red", "skipped": "dim"}.get(row.state, "")
        table.add_row(*cells(row), style=style)
    console.print(table)


def as_json(rows: Sequence[Row], seed: int, short: bool) -> str:
    """Everything, for programs."""
    whole = {"machine": machine(), "seed": seed, "short": short, "cases": [asdict(row) for row in rows]}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def as_markdown(rows: Sequence[Row], seed: int, short: bool) -> str:
    """A page: what each fault is and must come to, and what it came to."""
    form = "short form" if short else "full form"
    ok, skipped = sum(row.state == "ok" for row in rows), sum(row.state == "skipped" for row in rows)
    lines = [
        "# Faults",
        "",
        "Written by `headrace faults --write-docs`: each fault is done to a real fleet on one machine, and judged by "
        "the numbers that the pictures of the outputs show, by the JSON lines and by the ledger.",
        "",
        f"Measured on {machine()}; {form}, seed {seed}: {ok} of {len(rows)} as required"
        + (f", {skipped} skipped" if skipped else "")
        + ".",
        "",
        "## What is done, and what it must come to",
        "",
        "| fault | what is done | requirement |",
        "|---|---|---|",
        *(f"| `{row.name}` | {_cell(row.what)} | {_cell(row.requirement)} |" for row in rows),
        "",
        "## What it came to",
        "",
        "Frames in the source and pictures in the outputs; the ledger's states; pictures that came twice or out of "
        "order; the longest time without a line of output; the peak of the whole fleet's memory (proportional set "
        "sizes).",
        "",
        f"| {' | '.join(HEADINGS)} |",
        "|---|--:|--:|---|--:|--:|--:|--:|--:|---|",
        *(f"| {' | '.join(map(_cell, [f'`{row.name}`', *cells(row)[1:]]))} |" for row in rows),
        "",
    ]
    if figures := [row for row in rows if row.figures]:
        lines += ["## Further figures", "", "| fault | figures |", "|---|---|"]
        lines += [
            f"| `{row.name}` | {_cell(', '.join(f'{name}: {value:g}' for name, value in row.figures.items()))} |"
            for row in figures
        ]
        lines.append("")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
