"""Runs in which something is killed, stopped or full, and what must hold of their outputs afterwards."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support import Place, ledger, lines, numbers, part_files, wait_for

OUTPUTS = ("out.mp4", "out.mkv", "out.ts", "out.jsonl")
#: A run of a short clip that is disturbed comes to its end within so many seconds on a busy machine.
END_S = 90


class Run:
    """``headrace run`` of a numbered clip, seen from outside."""

    def __init__(self, place: Place, clip: Path, *more: str | Path, outputs: Sequence[str | Path] = OUTPUTS) -> None:
        self.place, self.outputs = place, [place.folder / output for output in outputs]
        words = [word for output in outputs for word in ("-o", str(output))]
        preset = () if "--preset" in more else ("--preset", "ultrafast")
        self._err = place.folder / "err.txt"
        self.process = place.start("run", clip, *words, *preset, *more, err=self._err)
        self.ended = 0.0

    @property
    def err(self) -> str:
        """Standard error so far."""
        return self._err.read_text()

    @property
    def told(self) -> int:
        """JSON lines so far."""
        path = next(path for path in reversed(self.outputs) if path.suffix == ".jsonl")
        return path.read_bytes().count(b"\n") if path.exists() else 0

    @property
    def resume(self) -> dict[str, Any]:
        """The sink's last checkpoint."""
        try:
            (entry,) = json.loads(self.outputs[0].with_suffix(".ledger.json").read_text())["streams"]
        except (OSError, ValueError):
            return {"books": {"frames": 0}}
        found: dict[str, Any] = entry["resume"]
        return found

    @property
    def durable(self) -> int:
        """Frames that are on disk for good."""
        return int(self.resume["books"]["frames"])

    def until(self, condition: Callable[[], Any], what: str, seconds: float = END_S) -> None:
        """Wait for ``condition`` while the run goes on."""
        wait_for(lambda: condition() or self.process.poll() is not None, seconds, what)
        assert self.process.poll() is None, f"ended before {what}: {self.err}"

    def until_told(self, count: int) -> None:
        self.until(lambda: self.told >= count, f"frame {count}")

    def until_durable(self, count: int) -> None:
        self.until(lambda: self.durable >= count, f"durable frame {count}")

    def part(self, module: str) -> psutil.Process:
        """The first running part of that kind; waits for it."""
        found: list[psutil.Process] = []

        def look() -> bool:
            found.extend(self.place.parts(module))
            return bool(found)

        self.until(look, f"a {module}")
        return found[0]

    def kill(self, module: str, wait: bool = False) -> int:
        """kill -9 of one part; ``wait``: until it is gone. Returns its pid."""
        part = self.part(module)
        part.kill()
        if wait:
            self.until(lambda: part.pid not in [one.pid for one in self.place.parts(module)], "its end")
        return part.pid

    def finish(self, seconds: float = END_S) -> int:
        """The exit code."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            pytest.fail(f"still running after {seconds} s: {self.err}")
        self.ended = time.monotonic()
        assert "Traceback" not in self.err
        return self.process.returncode

    @property
    def last_word(self) -> str:
        """The command's own line at its end."""
        (line,) = [line for line in self.err.splitlines() if line.startswith("headrace: ")]
        return line

    def parts(self, path: Path) -> list[Path]:
        """The files of one output in order; no file may lie there that the ledger does not name."""
        named = part_files(ledger(self.outputs[0]), self.place.folder, path.name)
        there = {one for one in path.parent.iterdir() if one.suffix == path.suffix and one.name.startswith(path.stem)}
        assert set(named) == there, "the ledger names other files than there are"
        return named

    def check_whole(self, count: int, states: dict[str, int] | None = None) -> None:
        """Each output has frames 0 … ``count`` − 1 once and in order over its parts."""
        found = ledger(self.outputs[0])
        assert found["states"] == (states or {"annotated": count}), found
        for path in self.outputs:
            files = self.parts(path)
            if path.suffix == ".jsonl":
                assert files == [path], "lines go on in the same file"
                assert [line["index"] for line in lines(path)] == list(range(count))
            else:
                assert [number for file in files for number in numbers(file)] == list(range(count)), path.name
