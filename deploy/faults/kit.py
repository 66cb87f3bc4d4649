"""Runs the table of faults: one case after the other, whatever becomes of each."""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from common.errors import HeadraceError, UsageError
from deploy.faults import cases_broker, cases_ends, cases_links, cases_outputs, cases_streams, cases_workers
from deploy.faults.bench import Bench, Case
from deploy.faults.trial import Row, Skipped, Stuck

#: The whole table, in the order in which it is run.
CASES: tuple[Case, ...] = (
    *cases_workers.CASES,
    *cases_broker.CASES,
    *cases_ends.CASES,
    *cases_outputs.CASES,
    *cases_streams.CASES,
    *cases_links.CASES,
)


def choose(only: Sequence[str], short: bool) -> list[Case]:
    """The cases to run. Raises UsageError for a name that is not there."""
    known = {case.name: case for case in CASES}
    for name in only:
        if name not in known:
            raise UsageError(f"no fault is named {name!r}: see headrace faults --list")
    if only:
        return [case for case in CASES if case.name in only]
    return [case for case in CASES if case.short or not short]


def run(cases: Sequence[Case], out: Path, short: bool, seed: int, say: Callable[[str], None]) -> list[Row]:
    """Run ``cases`` → their rows. Files of a case that failed stay in ``out``; others' are removed."""
    out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    with _sigterm_as_interrupt(), tempfile.TemporaryDirectory(prefix="headrace-faults-") as work:
        bench = Bench(Path(work), out, short, seed, say)
        for number, case in enumerate(cases, 1):
            say(f"{number}/{len(cases)} {case.name}: {case.what}")
            rows.append(run_case(case, bench))
            say(f"    {rows[-1].verdict} ({rows[-1].seconds:.0f} s)")
    return rows


def run_case(case: Case, bench: Bench) -> Row:
    """One case → its row; an error of the kit itself is a failure as well."""
    bench.enter(case.name)
    since = time.monotonic()
    try:
        row = case.run(bench)
    except Skipped as why:
        row = Row(case.name, verdict=f"skipped: {why}")
    except Stuck as why:
        row = _stuck(case, bench, f"FAILED: {why}")
    except HeadraceError as error:
        row = _stuck(case, bench, f"FAILED: {error}")
    except Exception as error:  # noqa: BLE001  the other cases go on
        (bench.folder / "kit-error.txt").write_text(traceback.format_exc(), encoding="utf-8")
        row = _stuck(case, bench, f"FAILED: the kit itself: {type(error).__name__}: {error}")
    row.what, row.requirement = case.what, case.requirement
    row.seconds = row.seconds or round(time.monotonic() - since, 1)
    if row.state != "FAILED":
        shutil.rmtree(bench.folder, ignore_errors=True)
    return row


def _stuck(case: Case, bench: Bench, verdict: str) -> Row:
    row = bench.last.row(case.name) if bench.last is not None else Row(case.name)
    row.verdict = verdict
    return row


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """A supervisor's SIGTERM unwinds the stack as Ctrl-C does, so that no fleet is left behind."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
