"""A run seen from outside: when each JSON line arrived, and how much memory the processes hold.

Two threads that only read: one tails the lines' files, one sums proportional set sizes.
"""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

#: Seconds between two looks at the lines, at the folder for new files, and at the memory.
LOOK_S, FOLDER_S, MEMORY_S = 0.005, 0.1, 0.5


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the output, without its findings."""

    at: float
    epoch: int
    index: int
    state: str
    reason: str
    #: Labels of the detections.
    labels: tuple[str, ...]


def parse(text: bytes, at: float = 0.0) -> Line | None:
    """A line of the output, read at ``at``; None where it is none."""
    try:
        raw: dict[str, Any] = json.loads(text)
        labels = tuple(one["label"] for one in raw["detections"])
        return Line(at, raw["epoch"], raw["index"], raw["state"], raw.get("reason", ""), labels)
    except (ValueError, KeyError, TypeError):
        return None


class Lines:
    """Tails ``out.jsonl`` and its further parts in ``folder``; :attr:`seen` grows in order of arrival."""

    def __init__(self, folder: Path, stem: str = "out") -> None:
        self._folder, self._pattern = folder, f"{stem}*.jsonl"
        self._files: dict[Path, _Tail] = {}
        self._next_folder = 0.0
        self.seen: list[Line] = []
        self.broken = 0  #: lines that are none

    def look(self, now: float) -> None:
        """Read what has come since."""
        if now >= self._next_folder:
            self._next_folder = now + FOLDER_S
            for path in sorted(self._folder.glob(self._pattern)):
                if path not in self._files and path.is_file():
                    self._files[path] = _Tail(path)
        for tail in self._files.values():
            for text in tail.lines():
                self._take(text, now)

    def _take(self, text: bytes, now: float) -> None:
        if (line := parse(text, now)) is None:
            self.broken += 1
        else:
            self.seen.append(line)

    def close(self) -> None:
        for tail in self._files.values():
            tail.close()


class _Tail:
    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("rb")
        self._rest = b""

    def lines(self) -> list[bytes]:
        if os.fstat(self._file.fileno()).st_size < self._file.tell():  # cut back by a sink that goes on in it
            self._file.seek(0, os.SEEK_END)
            self._rest = b""
        data = self._file.read()
        if not data:
            return []
        *whole, self._rest = (self._rest + data).split(b"\n")
        return whole

    def close(self) -> None:
        self._file.close()


class Watch:
    """Both threads. ``pids`` gives the processes to count now."""

    def __init__(self, folder: Path, pids: Callable[[], Iterable[int]]) -> None:
        self.lines = Lines(folder)
        self._pids = pids
        #: ``(when, bytes)``
        self.memory: list[tuple[float, int]] = []
        self._done = threading.Event()
        self._threads = [threading.Thread(target=one, daemon=True) for one in (self._tail, self._weigh)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """A last look, then no more."""
        self._done.set()
        for thread in self._threads:
            thread.join()
        self.lines.look(time.monotonic())
        self.lines.close()

    @property
    def peak(self) -> int:
        """Bytes."""
        return max((size for _, size in self.memory), default=0)

    def sizes(self, since: float = 0.0, until: float = float("inf")) -> list[int]:
        """The samples between two times, in bytes."""
        return [size for at, size in self.memory if since <= at <= until]

    def stall(self, since: float = 0.0, until: float = float("inf")) -> float:
        """The longest gap between two lines, in seconds: from the first line to the last, as far as it touches
        ``since`` … ``until``."""
        return longest_gap([line.at for line in self.lines.seen], since, until)

    def _tail(self) -> None:
        while not self._done.wait(LOOK_S):
            self.lines.look(time.monotonic())

    def _weigh(self) -> None:
        while not self._done.wait(MEMORY_S):
            self.memory.append((time.monotonic(), sum(map(weight, _with_children(self._pids())))))


def longest_gap(arrivals: list[float], since: float = 0.0, until: float = float("inf")) -> float:
    """The longest distance of two successive times of which the later is after ``since``, the earlier before
    ``until``; 0 for none. ``arrivals`` rise."""
    gaps = [b - a for a, b in itertools.pairwise(arrivals) if b >= since and a <= until]
    return max(gaps, default=0.0)


def weight(pid: int) -> int:
    """Proportional set size of a process in bytes; 0 where it is gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        return 0
    return 0


def _with_children(pids: Iterable[int]) -> list[int]:
    found: list[int] = []
    rest = list(pids)
    while rest:
        pid = rest.pop()
        found.append(pid)
        try:
            rest += [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except (OSError, ValueError):
            continue
    return found
