"""With what each stream's next epoch begins: what its last one left, in memory or on disk, or nothing."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from common import messages as m
from common.config import Fleet
from sink.checkpoint import Checkpoint, load

#: A disk that was full counts as having space again from so many free bytes on.
SPACE = 4 * 2**20
#: First pause before a full disk is tried again, in seconds; doubled while that brings nothing, up to the maximum.
RETRY_S, RETRY_MAX_S = 0.5, 10.0


@dataclass(slots=True)
class _Full:
    """A stream that waits for space."""

    text: str
    since: float
    frames: int  # that were durable then
    next_try: float
    pause: float


class Registry:
    """Knows the past of every stream. ``known``: the streams that have been here."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._full: dict[str, _Full] = {}
        self.past: dict[str, Checkpoint] = {}

    @property
    def known(self) -> set[str]:
        return {stream.name for stream in self._fleet.streams}

    def full(self, name: str) -> str:
        """Why this stream waits for space, "" where it does not."""
        full = self._full.get(name)
        return full.text if full is not None else ""

    def put(self, name: str, checkpoint: Checkpoint, full: str, now: float) -> None:
        """An epoch is over. ``full``: it ran into a full disk."""
        self.past[name] = checkpoint
        if not full:
            self._full.pop(name, None)
            return
        before, frames = self._full.get(name), checkpoint.books.frames
        stalled = before is not None and frames == before.frames
        pause = min(RETRY_MAX_S, before.pause * 2) if before is not None and stalled else RETRY_S
        since = before.since if before is not None and stalled else now
        self._full[name] = _Full(full, since, frames, now + pause, pause)

    def next(self, hello: m.Hello, now: float) -> Checkpoint | str:
        """What a new epoch of this stream begins with. A string: it cannot begin; "" not yet, else why never."""
        stream = self._fleet.stream(hello.stream)
        full = self._full.get(stream.name)
        if full is not None:
            if now > full.since + self._fleet.sink.disk_wait:
                return f"{full.text}; no space came free in {self._fleet.sink.disk_wait:.0f} s"
            if now < full.next_try or not _has_space([output.path for output in stream.outputs]):
                return ""
        past = self.past.get(stream.name) or load(stream, self._fleet.run)
        if past is None:
            return Checkpoint(run=self._fleet.run, epoch=1)
        # A run that has a name is not begun again: its producer, or we, ended before the last word was heard.
        if past.finished and hello.mode == "lossless" and not self._fleet.run:  # it is done: this is another run of it
            return Checkpoint(run=self._fleet.run, epoch=past.epoch + 1)
        return Checkpoint(run=past.run, epoch=past.epoch + 1, books=past.books, marks=past.marks, error=past.error)


def _has_space(paths: list[str]) -> bool:
    try:
        return all(shutil.disk_usage(Path(path).absolute().parent).free >= SPACE for path in paths)
    except OSError:
        return False
