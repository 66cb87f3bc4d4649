"""One case's run: a fleet, a watch on its outputs, and the requirements that it is held to."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import av

from common import config
from common.files import ledger_path
from deploy.faults import judge
from deploy.faults.clip import Clip, numbers
from deploy.faults.fleet import Fleet
from deploy.faults.watch import Line, Watch, parse
from deploy.spec import RunOptions

#: Deadlines in seconds: for the first lines of output (busy machines start slowly), and for the end.
BEGIN_S, END_S = 60.0, 60.0
#: Lines that are out when a run counts as begun.
BEGUN = 25


class Stuck(Exception):
    """Something that had to happen did not happen in time."""


class Skipped(Exception):
    """This machine or user cannot run the case."""


@dataclass(slots=True)
class Row:
    """What a case came to: one row of the table."""

    name: str
    what: str = ""
    requirement: str = ""
    verdict: str = ""
    #: Pictures in the source, and in the outputs.
    frames_in: int = 0
    frames_out: int = 0
    states: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    missing: int = 0
    duplicates: int = 0
    reordered: int = 0
    #: Longest time without a line of output, in milliseconds.
    stall_ms: float = 0.0
    #: Peak of the fleet's memory (proportional set sizes), in MB of 10⁶ bytes.
    memory_mb: float = 0.0
    seconds: float = 0.0
    #: Further figures of the case, by name.
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """``ok``, ``FAILED`` or ``skipped``."""
        return self.verdict.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a trial is set up. ``options`` are fields of RunOptions."""

    source: Path
    clip: Clip
    folder: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[str, ...] = ("out.mp4", "out.jsonl")
    tweak: Callable[[config.Fleet], config.Fleet] = lambda fleet: fleet
    #: The video that is judged, where it is not the first that the fleet writes (a copy of what a pipe gave).
    video: Path | None = None
    #: Quarter turns, counter-clockwise, that bring the number to the lower edge.
    turns: int = 0


class Trial:
    """Use as a context; every fleet that was begun is ended at its exit."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.clip, self.folder = plan, plan.clip, plan.folder
        self.checks: list[judge.Check] = []
        self.figures: dict[str, float] = {}
        paths = [str(self.folder / name) for name in plan.outputs]
        known: dict[str, Any] = {"model": "echo", "preset": "ultrafast", "batch": 4, "name": "clip"}
        options = RunOptions(source=str(plan.source), outputs=paths, **{**known, **plan.options})
        self.fleet = Fleet(options, self.folder / "parts.log", plan.tweak)
        self.watch = Watch(self.folder, self.fleet.pids)
        self.started = time.monotonic()
        self._ended = 0.0
        #: Numbers of the pictures in the outputs, and the lines as they stand there at the end.
        self.shown: list[int] = []
        self.told: list[Line] = []
        #: The video's files, in order.
        self.parts: list[Path] = []
        self.entry: dict[str, Any] | None = None

    def __enter__(self) -> Trial:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()
        self.fleet.close()

    # -- what cases do ---------------------------------------------------------------------------------------------

    def begin(self, *without: str, lines: int = BEGUN) -> None:
        """Start all parts but ``without`` and wait for the first ``lines`` of output. Raises Stuck."""
        self.fleet.start(*(name for name in self.fleet.names if name not in without))
        if lines:
            self.until(lambda: len(self.lines) >= lines, BEGIN_S, f"the first {lines} lines")

    @property
    def lines(self) -> list[Line]:
        """The lines of output so far, as they arrived."""
        return self.watch.lines.seen

    @staticmethod
    def now() -> float:
        """The clock that everything here is measured with, in seconds."""
        return time.monotonic()

    @property
    def over(self) -> bool:
        """The producer has come to its end."""
        return not self.fleet.running("producer")

    def wait(self, seconds: float) -> bool:
        """Let the run go on. False where it came to its end meanwhile. Raises Stuck where a part died by itself."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not self.over:
            self.fleet.listen(min(left, 0.05))
            self._check_parts()
        return not self.over

    def until(self, condition: Callable[[], Any], seconds: float, what: str, alive: bool = True) -> Any:
        """Wait for something true and return it. Raises Stuck after ``seconds``, or where the producer ended
        (``alive``)."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            self.fleet.listen(0.02)
            self._check_parts()
            if alive and self.over and not condition():
                raise Stuck(f"{what} did not come: the producer ended ({self.fleet.fatal.get('producer', '')})")
            if time.monotonic() > deadline:
                raise Stuck(f"{what} did not come within {seconds:g} s")
        return found

    def _check_parts(self) -> None:
        """Raises Stuck where a part of the middle or the sink has died by itself: nothing good will come."""
        for name, why in self.fleet.died.items():
            if name != "producer":
                raise Stuck(f"{name} died by itself: {why}")

    def progress(self, count: int, seconds: float, what: str) -> float:
        """Wait for ``count`` more lines → seconds that it took. Raises Stuck."""
        since, before = time.monotonic(), len(self.lines)
        self.until(lambda: len(self.lines) >= before + count or self.over, seconds, what, alive=False)
        return time.monotonic() - since

    def finish(self, seconds: float = END_S) -> None:
        """Wait for the producer's end by itself, then end the others in peace. Raises Stuck."""
        self.until(lambda: self.over, seconds, "the end of the run", alive=False)
        self.fleet.finish()
        self.end()

    # -- requirements ----------------------------------------------------------------------------------------------

    def require(self, *checks: judge.Check) -> None:
        self.checks.extend(checks)

    def require_whole(self, failed: Mapping[str, int] | None = None) -> None:
        """Lossless: every picture and every line once and in order, the ledger agrees, the producer ended with 0."""
        self.require(
            judge.complete(judge.order(self.shown, self.clip.frames)),
            judge.complete(judge.order([line.index for line in self.told], self.clip.frames), "lines"),
            judge.lossless(self.entry, failed),
        )
        self.require_accounted()

    def require_accounted(self, frames: int | None = None) -> None:
        """The ledger adds up to ``frames`` (default: the clip's), and the producer ended with 0."""
        expected = self.clip.frames if frames is None else frames
        counted = None if self.entry is None else self.entry["frames"]
        self.require(
            judge.ledger_adds_up(self.entry),
            judge.Check(f"{expected} frames in the ledger", counted == expected, f"{counted}"),
        )
        self.require_exit("producer")

    def require_exit(self, name: str, code: int = 0) -> None:
        codes = self.fleet.codes.get(name, [])
        ok = codes[-1:] == [code]
        self.require(judge.Check(f"{name} ends with {code}", ok, "" if ok else self.fleet.fatal.get(name, "runs")))

    def require_stall(self, limit: float, since: float = 0.0, until: float = float("inf")) -> None:
        """The longest stall between two times, ``limit`` in seconds."""
        self.require(judge.at_most("stall", self.watch.stall(since, until), limit, "s"))

    def require_named(self, since: float, *words: str, parts: tuple[str, ...] = (), within: float = 2.0) -> None:
        """A log record with all ``words`` within seconds of ``since``."""
        at = self.fleet.named(since, *words, parts=parts)
        self.figures[f"named {' '.join(words)} s"] = -1.0 if at is None else round(at, 2)
        self.require(judge.at_most(f"the log names “{' '.join(words)}”", at, within, "s"))

    # -- the end ---------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Read what there is now; the parts have ended."""
        if self._ended:
            return
        self._ended = time.monotonic()
        self.watch.close()
        self.entry = read_ledger(ledger_path(Path(self.fleet.stream.outputs[0].path)))
        outputs = [self.folder / name for name in self.plan.outputs]
        for path in outputs:
            if path.suffix == ".jsonl":
                told = b"".join(part.read_bytes() for part in parts_of(path))
                self.told = [line for text in told.splitlines() if (line := parse(text)) is not None]
        self.parts = parts_of(self.plan.video or next(path for path in outputs if path.suffix != ".jsonl"))
        try:
            self.shown = numbers(self.parts, self.plan.turns)
        except (av.FFmpegError, OSError, IndexError) as error:
            self.require(judge.Check("every part of the video can be read", False, str(error)))

    def row(self, name: str) -> Row:
        """The figures, once the run has ended."""
        order = judge.order(self.shown, self.clip.frames)
        entry = self.entry or {"states": {}, "reasons": {}}
        return Row(
            name=name,
            verdict=judge.verdict(self.checks),
            frames_in=self.clip.frames,
            frames_out=order.count,
            states=dict(entry["states"]),
            reasons=dict(entry["reasons"]),
            missing=order.missing,
            duplicates=order.duplicates,
            reordered=order.reordered,
            stall_ms=round(self.watch.stall() * 1000, 1),
            memory_mb=round(self.watch.peak / 1e6, 1),
            seconds=round((self._ended or time.monotonic()) - self.started, 1),
            figures=dict(self.figures),
        )


def read_ledger(path: Path) -> dict[str, Any] | None:
    """The one stream's entry; None where there is no ledger."""
    try:
        (entry,) = json.loads(path.read_text(encoding="utf-8"))["streams"]
    except (OSError, ValueError, KeyError):
        return None
    return dict(entry)


def parts_of(path: Path) -> list[Path]:
    """``out.mp4``, ``out.part2.mp4``, … in the order in which they were written."""
    found = [one for one in path.parent.glob(f"{path.stem}*{path.suffix}") if one.is_file()]
    return sorted((one for one in found if one == path or part_number(one) > 1), key=part_number)


def part_number(path: Path) -> int:
    """2 for ``out.part2.mp4``; 1 for ``out.mp4``."""
    numbered = re.search(r"\.part(\d+)$", path.stem)
    return int(numbered[1]) if numbered else 1
