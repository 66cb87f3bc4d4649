"""A terminal that goes away ends a run in order; nohup keeps it."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import Place, ffmpeg, numbered_clip, numbers, wait_for

SOON_S = 60.0
#: Makes the terminal that is its standard input its own, and becomes the command.
LEADER = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
if sys.argv[1] == "nohup":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, "-m", "deploy.cli", *sys.argv[2:]])
"""


class Terminal:
    """A run of ``headrace`` on a terminal of its own."""

    def __init__(self, place: Place, how: str, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", LEADER, how, *arguments],
            stdin=slave, stdout=slave, stderr=slave, cwd=place.folder, start_new_session=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2]), **place.env},
        )  # fmt: skip
        os.close(slave)
        os.set_blocking(self._master, False)
        self._said = b""

    def read(self) -> bytes:
        """All that was said so far; a terminal that nobody reads would hold the run up."""
        with contextlib.suppress(OSError):
            while data := os.read(self._master, 65536):
                self._said += data
        return self._said

    def hang_up(self) -> None:
        if self._master >= 0:
            os.close(self._master)
            self._master = -1

    def close(self) -> None:
        self.hang_up()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(SOON_S)


@pytest.fixture
def clip(place: Place) -> Path:
    numbered_clip(place.folder / "short.mp4", 25, sound="-an")
    ffmpeg("-stream_loop", "99", "-i", place.folder / "short.mp4", "-c", "copy", place.folder / "clip.mp4")
    return place.folder / "clip.mp4"


@contextlib.contextmanager
def running(place: Place, how: str, model: str = "echo") -> Iterator[Terminal]:
    """A run that has shown some frames."""
    terminal = Terminal(
        place, how, "run", "clip.mp4", "-o", "out.ts", "-o", "out.jsonl", "--live", "--model", model,
        "--preset", "ultrafast",
    )  # fmt: skip

    def shown() -> bool:
        terminal.read()
        assert terminal.process.poll() is None
        lines = place.folder / "out.jsonl"
        return lines.exists() and lines.read_bytes().count(b"\n") > 25

    try:
        wait_for(shown, SOON_S, "some frames")
        yield terminal
    finally:
        terminal.close()


def ended_well(place: Place) -> None:
    assert place.leftovers() == []
    (stream,) = json.loads((place.folder / "out.ledger.json").read_text())["streams"]
    assert stream["states"].get("pending", 0) == stream["states"].get("lost", 0) == 0
    shown = numbers(place.folder / "out.ts")
    assert len(shown) == stream["frames"] == (place.folder / "out.jsonl").read_bytes().count(b"\n")
    assert shown == [number % 25 for number in range(len(shown))]


def test_a_terminal_that_goes_away_ends_the_run_in_order(place: Place, clip: Path) -> None:
    with running(place, "plain") as terminal:
        terminal.hang_up()
        assert terminal.process.wait(SOON_S) == 130
    ended_well(place)


def test_the_shell_says_so_as_well(place: Place, clip: Path) -> None:
    """More than one signal, and to the parts too; what is under way takes its time."""
    with running(place, "plain", "echo:300") as terminal:
        os.killpg(terminal.process.pid, signal.SIGHUP)
        wait_for(lambda: b"stopping" in terminal.read(), SOON_S, "its word on it")
        os.killpg(terminal.process.pid, signal.SIGHUP)
        wait_for(lambda: terminal.read() and terminal.process.poll() is not None, SOON_S, "the run's end")
        assert b"written: out.ts" in terminal.read(), "its outputs were closed"
        assert terminal.process.wait(SOON_S) == 130
    ended_well(place)


def test_with_nohup_it_goes_on(place: Place, clip: Path) -> None:
    with running(place, "nohup") as terminal:
        os.killpg(terminal.process.pid, signal.SIGHUP)
        terminal.hang_up()
        lines = place.folder / "out.jsonl"
        before = lines.read_bytes().count(b"\n")
        wait_for(lambda: lines.read_bytes().count(b"\n") > before + 25, SOON_S, "more frames")
        assert terminal.process.poll() is None
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.process.wait(SOON_S) == 130
    ended_well(place)
