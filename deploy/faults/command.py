"""``headrace faults``: what the user typed, and what is shown and written."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from common.errors import Exit

EXAMPLES = """Examples:

  headrace faults                               the whole table, some ten minutes

  headrace faults --short                       chosen cases in a short form, about a minute and a half

  headrace faults --only worker-killed --only sink-killed

  headrace faults --minutes 30 --seed 7         a soak: random faults on one lossless run

  headrace faults --write-docs                  write the table into docs/faults.md

Exit codes: 0 all as required, 1 something failed, 2 usage, 130 interrupted.
"""
#: Where ``--write-docs`` writes to.
PAGE = Path("docs/faults.md")


def faults(
    only: Annotated[list[str] | None, typer.Option(help="run this case only; repeat for several")] = None,
    listed: Annotated[bool, typer.Option("--list", help="list the cases and leave")] = False,
    short: Annotated[bool, typer.Option("--short", help="chosen cases, each some seconds long")] = False,
    seed: Annotated[int | None, typer.Option(help="of all that is random; default: a new one, printed")] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.1, max=600, help="soak: random faults on one lossless run for so long")
    ] = None,
    folder: Annotated[
        Path, typer.Option("-o", "--output", help="folder for faults.json and for what failed cases leave")
    ] = Path("faults"),
    markdown: Annotated[Path | None, typer.Option(help="write the table as Markdown to this file")] = None,
    write_docs: Annotated[bool, typer.Option("--write-docs", help=f"the same as --markdown {PAGE}")] = False,
) -> None:
    """Do the table of faults to a real fleet on this machine, and judge what comes out."""
    from deploy.faults import kit, report
    from deploy.faults.soak import soak

    console, progress = Console(highlight=False), Console(stderr=True, highlight=False)
    cases = kit.choose(only or [], short) if minutes is None else [soak(minutes)]
    if listed:
        report.list_cases(cases, console)
        return
    seed = secrets.randbelow(2**31) if seed is None else seed
    progress.print(f"seed {seed}", markup=False)
    rows = kit.run(cases, folder, short, seed, lambda text: progress.print(text, markup=False, soft_wrap=True))
    report.show(rows, console)
    (folder / "faults.json").write_text(report.as_json(rows, seed, short), encoding="utf-8")
    page = markdown or (PAGE if write_docs else None)
    if page is not None:
        page.write_text(report.as_markdown(rows, seed, short), encoding="utf-8")
    if any(row.state == "FAILED" for row in rows):
        console.print(f"logs and outputs of failed cases: {folder}", markup=False, soft_wrap=True)
        raise typer.Exit(int(Exit.INCOMPLETE))
