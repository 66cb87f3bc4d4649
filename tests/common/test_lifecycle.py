"""Signals, orphans and exit codes, with real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from common.lifecycle import FOLDER_ENV, FOLDER_MARK, PARENT_ENV
from tests.support import wait_for

ROOT = Path(__file__).resolve().parents[2]
#: Longest that a small Python process may take for anything, in seconds.
SOON_S = 20

#: A part that says "ready", then "draining", and ends when its drain is over: at once, or never.
PART = """
import sys
from common import log
from common.lifecycle import run_part
from common.transport import Poller
log.setup("part")
def body(stopper):
    poller = Poller(stopper.waker)
    print("ready", flush=True)
    while not stopper.draining:
        poller.wait(10)
    print("draining", flush=True)
    while {stubborn}:
        poller.wait(10)
    return 0
run_part("part", body)
"""

Spawn = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Starts Python code in a process; what is left of it is killed at the end."""
    running: list[subprocess.Popen[str]] = []

    def start(code: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | (env or {}),
        )
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def says(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline().strip() == word


def end(process: subprocess.Popen[str]) -> tuple[int, list[dict[str, Any]]]:
    """Exit code and log lines."""
    _, err = process.communicate(timeout=SOON_S)
    return process.returncode, [json.loads(line) for line in err.splitlines()]


def test_the_first_sigterm_drains(spawn: Spawn) -> None:
    part = spawn(PART.format(stubborn=False))
    says(part, "ready")
    part.send_signal(signal.SIGTERM)
    says(part, "draining")
    assert end(part) == (0, [])


def test_the_second_sigterm_leaves_at_once(spawn: Spawn) -> None:
    part = spawn(PART.format(stubborn=True))
    says(part, "ready")
    part.send_signal(signal.SIGTERM)
    says(part, "draining")
    assert part.poll() is None
    part.send_signal(signal.SIGTERM)
    assert end(part) == (130, [])


def test_sigint_drains_too_unless_a_parent_looks_after_it(spawn: Spawn) -> None:
    alone = spawn(PART.format(stubborn=False))
    child = spawn(PART.format(stubborn=False), {PARENT_ENV: str(os.getpid())})
    for part in (alone, child):
        says(part, "ready")
        part.send_signal(signal.SIGINT)
    says(alone, "draining")
    assert end(alone) == (0, [])
    assert child.poll() is None
    child.send_signal(signal.SIGTERM)
    says(child, "draining")
    assert end(child) == (0, [])


def test_a_terminal_that_goes_away_drains_unless_a_parent_looks_after_it(spawn: Spawn) -> None:
    """The shell may say so as well as the kernel, which is no wish to leave at once."""
    alone = spawn(PART.format(stubborn=True))
    child = spawn(PART.format(stubborn=False), {PARENT_ENV: str(os.getpid())})
    kept = spawn("import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + PART.format(stubborn=False))
    for part in (alone, child, kept):
        says(part, "ready")
        part.send_signal(signal.SIGHUP)
    says(alone, "draining")
    alone.send_signal(signal.SIGHUP)
    for part in (child, kept):
        part.send_signal(signal.SIGTERM)
        says(part, "draining")
        assert end(part) == (0, [])
    assert alone.poll() is None
    alone.send_signal(signal.SIGTERM)
    assert end(alone) == (130, [])


@pytest.mark.parametrize(
    ("raised", "code", "level"),
    [
        ("from common.errors import SourceError; raise SourceError('rtsp://a:secret@h is mute')", 3, "error"),
        ("from common.errors import LinkError; raise LinkError('refused')", 6, "error"),
        ("raise KeyboardInterrupt", 130, None),
        ("1 / 0", 70, "critical"),
        ("return 1", 1, None),
    ],
)
def test_exit_codes(spawn: Spawn, raised: str, code: int, level: str | None) -> None:
    part = spawn(
        f"""
        from common import log
        from common.lifecycle import run_part
        log.setup("part")
        def body(stopper):
            {raised}
        run_part("part", body)
        """
    )
    got, lines = end(part)
    assert got == code
    assert [line["level"] for line in lines] == ([level] if level else [])
    assert "secret" not in json.dumps(lines)
    if level:
        assert lines[0]["fatal"] is True


def test_a_part_leaves_though_a_thread_hangs(spawn: Spawn) -> None:
    part = spawn(
        """
        import threading
        from common.lifecycle import run_part
        def body(stopper):
            threading.Thread(target=threading.Event().wait).start()
            return 0
        run_part("part", body)
        """
    )
    assert end(part)[0] == 0


def test_leave_within(spawn: Spawn) -> None:
    part = spawn(
        """
        import threading
        from common import log
        from common.lifecycle import leave_within
        log.setup("part")
        leave_within(0.2)
        threading.Event().wait()
        """
    )
    code, lines = end(part)
    assert code == 70
    assert "leaving now" in lines[0]["message"]


#: A parent that starts the part, tells its pid and dies when it is told to, without a word to its child.
PARENT = """
import os, subprocess, sys
env = os.environ | {{{parent!r}: str(os.getpid()), {folder!r}: sys.argv[1]}}
child = subprocess.Popen([sys.executable, "-c", {code!r}], env=env, stdout=open(sys.argv[2], "w"))
print(child.pid, flush=True)
sys.stdin.readline()
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("stubborn", [True, False])
def test_an_orphan_ends_and_removes_the_run_folder(tmp_path: Path, marked: bool, stubborn: bool) -> None:
    """Only the folder that carries our mark; a stubborn part has to be told once more."""
    folder, said = tmp_path / "run", tmp_path / "said"
    folder.mkdir()
    (folder / "socket").touch()
    if marked:
        (folder / FOLDER_MARK).touch()
    code = PARENT.format(parent=PARENT_ENV, folder=FOLDER_ENV, code=PART.format(stubborn=stubborn))
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(folder), str(said)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    try:
        wait_for(lambda: said.read_text() == "ready\n", SOON_S, "the part's start")
        assert child.is_running()
        parent.communicate("die\n", timeout=SOON_S)
        wait_for(lambda: "draining" in said.read_text(), SOON_S, "draining of the orphan")
        if stubborn:
            child.send_signal(signal.SIGTERM)
        wait_for(lambda: not alive(child), SOON_S, "the orphan's end")
    finally:
        if alive(child):
            child.kill()
    assert folder.exists() is not marked


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_child_that_comes_too_late_for_its_parent_drains(spawn: Spawn) -> None:
    """The parent died before the kernel was asked for its signal: nobody would ever send one."""
    gone = subprocess.run([sys.executable, "-c", ""], check=True)
    assert gone.returncode == 0
    part = spawn(PART.format(stubborn=False), {PARENT_ENV: "999999999"})
    says(part, "ready")
    says(part, "draining")
    assert end(part)[0] == 0


def test_a_part_with_a_living_parent_leaves_the_folder(spawn: Spawn, tmp_path: Path) -> None:
    (tmp_path / FOLDER_MARK).touch()
    part = spawn(PART.format(stubborn=False), {PARENT_ENV: str(os.getpid()), FOLDER_ENV: str(tmp_path)})
    says(part, "ready")
    part.send_signal(signal.SIGTERM)
    says(part, "draining")
    assert end(part)[0] == 0
    assert (tmp_path / FOLDER_MARK).exists()


def test_draining_is_noticed_within_a_sleep(spawn: Spawn) -> None:
    """The waker ends the poller's sleep: no loop has to be short for the signal's sake."""
    part = spawn(PART.format(stubborn=False))
    says(part, "ready")
    started = time.monotonic()
    part.send_signal(signal.SIGTERM)
    says(part, "draining")
    assert time.monotonic() - started < 5, "the part sleeps 10 s"
    end(part)
