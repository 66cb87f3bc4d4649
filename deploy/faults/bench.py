"""What cases are run on: clips, a folder for each, short or full length, seeded chance, a line of progress."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.faults.clip import Clip, make
from deploy.faults.trial import Plan, Row, Trial


@dataclass(frozen=True, slots=True)
class Case:
    """One fault. ``run`` returns its row; it may raise Stuck (the case failed) or Skipped."""

    name: str
    #: What is done to the fleet.
    what: str
    #: What it must come to.
    requirement: str
    run: Callable[[Bench], Row]
    #: Whether it belongs to the short form.
    short: bool = False


class Bench:
    """Handed to each case. ``work`` is a private folder for clips, ``out`` where the case's files go."""

    def __init__(self, work: Path, out: Path, short: bool, seed: int, say: Callable[[str], None] = print) -> None:
        self._work, self._out = work, out
        self.short, self.seed = short, seed
        self.chance = random.Random(seed)
        self.say = say
        self._sources: dict[str, Path] = {}
        self.case = ""
        #: The trial that was begun last, for the figures of a case that got stuck.
        self.last: Trial | None = None

    def enter(self, case: str) -> None:
        """From now on for ``case``; its chance depends on the seed and its own name only."""
        self.case, self.last = case, None
        self.chance = random.Random(f"{self.seed} {case}")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)

    @property
    def folder(self) -> Path:
        """The present case's folder."""
        return self._out / self.case

    def pick(self, full: float, short: float) -> float:
        """A length: ``short`` in the short form."""
        return short if self.short else full

    def source(self, clip: Clip, kind: str = "mp4") -> Path:
        """The file of a clip, made once."""
        key = f"{kind} {clip!r}"
        if key not in self._sources:
            self._sources[key] = make(self._work / f"clip-{len(self._sources)}.{kind}", clip)
        return self._sources[key]

    def trial(
        self,
        clip: Clip,
        source: Path | None = None,
        outputs: tuple[str, ...] = ("out.mp4", "out.jsonl"),
        **options: Any,
    ) -> Trial:
        """A fleet for ``clip`` (or ``source`` with the same numbers), not begun. ``options``: fields of RunOptions."""
        return self.begin(Plan(source or self.source(clip), clip, self.folder, options, outputs))

    def begin(self, plan: Plan) -> Trial:
        """A fleet for a plan of the case's own."""
        self.last = Trial(plan)
        return self.last
