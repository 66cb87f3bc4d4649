"""Signals and sudden deaths in the middle of a run: what was written is playable, in order, and nothing is left.

For the death of sink and producer see test_restarts.py.
"""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.marks import slow
from tests.support import Place, ledger, lines, numbered_clip, numbers, wait_for

FRAMES = 200
#: Frames that are through when something happens to the run.
BEGUN = 25
#: Whatever happens, the command is gone after this many seconds (DESIGN §7 allows each part a grace).
GONE_S = 25


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return numbered_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", FRAMES)


def begin(place: Place, clip: Path, *more: str, model: str = "echo:20") -> subprocess.Popen[str]:
    """A run of some seconds, with its first frames through."""
    process = place.start("run", clip, "-o", "out.mp4", "-o", "out.jsonl", "--model", model, "--batch", "4", *more)
    path = place.folder / "out.jsonl"
    wait_for(
        lambda: process.poll() is not None or (path.exists() and path.read_bytes().count(b"\n") >= BEGUN),
        60,
        "the run's beginning",
    )
    assert process.poll() is None, process.communicate()
    return process


def wait_until_playable(place: Place) -> None:
    """MP4 can be played from its first whole fragment on, which comes after what the encoder looks ahead."""
    path = place.folder / "out.mp4"
    wait_for(lambda: path.exists() and path.read_bytes().count(b"moof") >= 2, 30, "a whole fragment on disk")


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and standard error."""
    try:
        _, err = process.communicate(timeout=GONE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        pytest.fail(f"still running after {GONE_S} s")
    assert "Traceback" not in err
    return process.returncode, err


def own_line(err: str) -> str:
    (line,) = [line for line in err.splitlines() if line.startswith("headrace: ")]
    return line


def kill(place: Place, module: str) -> None:
    """kill -9 of one part."""
    place.parts(module)[0].send_signal(signal.SIGKILL)


def check_beginning(place: Place, slack: int = 0) -> int:
    """The outputs hold the clip's beginning, every frame once and in order; returns how many of them.

    ``slack``: frames that one output may have more than the other (it was not closed in peace).
    """
    shown = numbers(place.folder / "out.mp4")
    assert shown == list(range(len(shown)))
    told = lines(place.folder / "out.jsonl")
    assert [line["index"] for line in told] == list(range(len(told)))
    assert abs(len(shown) - sum(line["state"] != "lost" for line in told)) <= slack
    return len(shown)


def check_ledger(place: Place, shown: int) -> None:
    """``shown`` frames were finished, all others are accounted for."""
    found = ledger(place.folder / "out.mp4")
    lost = found["states"].get("lost", 0)
    assert found["states"] == {"annotated": shown, **({"lost": lost} if lost else {})}
    assert found["reasons"] == ({"shutdown": lost} if lost else {})


def check_whole(place: Place) -> None:
    """Nothing is missing and nothing was lost."""
    assert numbers(place.folder / "out.mp4") == list(range(FRAMES))
    assert [line["index"] for line in lines(place.folder / "out.jsonl")] == list(range(FRAMES))
    assert ledger(place.folder / "out.mp4")["states"] == {"annotated": FRAMES}


@pytest.mark.parametrize("way", ["SIGINT to the group", "SIGTERM to the command"])
def test_interrupted(place: Place, clip: Path, way: str) -> None:
    """Ctrl-C reaches the whole process group, a supervisor's SIGTERM the command alone: both drain."""
    process = begin(place, clip)
    if way.startswith("SIGINT"):
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.terminate()
    code, err = finish(process)
    assert code == 130, err
    assert "died" not in err
    count = check_beginning(place)
    assert BEGUN <= count < FRAMES
    found = ledger(place.folder / "out.mp4")
    assert found["frames"] == count
    assert found["states"] == {"annotated": count}, "what was under way was finished"


def test_interrupted_twice(place: Place, clip: Path) -> None:
    """The second Ctrl-C does not wait for the slow model; what is on disk is playable."""
    process = begin(place, clip)
    wait_until_playable(place)
    os.killpg(process.pid, signal.SIGINT)
    path = place.folder / "out.jsonl"
    wait_for(lambda: path.read_bytes().count(b"\n") > BEGUN, 20, "some draining")
    since = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    code, err = finish(process)
    assert code == 130, err
    assert time.monotonic() - since < 5
    check_beginning(place, slack=40)  # a fragment of MP4, and what the encoder held


@pytest.mark.parametrize("parts", [0, 3])
def test_interrupted_at_the_start(place: Place, clip: Path, parts: int) -> None:
    """Before the first part runs, and while the parts are still being loaded."""
    process = place.start("run", clip, "-o", "out.mp4", "--model", "face")
    wait_for(lambda: any(place.runtime.iterdir()) and len(place.parts()) >= parts, 30, "the start")
    os.killpg(process.pid, signal.SIGINT)
    code, err = finish(process)
    assert code == 130, err
    assert "died" not in err


@pytest.mark.parametrize("when", ["starting", "running"])
def test_command_killed(place: Place, clip: Path, when: str) -> None:
    """Orphans finish what is under way, close the outputs, and the last one clears up (the fixture looks)."""
    if when == "starting":
        process = place.start("run", clip, "-o", "out.mp4", "-o", "out.jsonl", "--model", "face")
        wait_for(lambda: len(place.parts()) == 4, 30, "the start")
    else:
        process = begin(place, clip)
    process.kill()
    process.communicate()
    wait_for(lambda: not place.leftovers(), 12, "the end of all parts")
    if when == "running":
        count = check_beginning(place)
        check_ledger(place, count)


@pytest.mark.parametrize("part", [slow("workers"), "broker"])
def test_replaceable_part_killed(place: Place, clip: Path, part: str) -> None:
    """In lossless mode a worker or the broker may die at any time: every frame comes out annotated, once, in order."""
    process = begin(place, clip, "--workers", "2", "--lossless", model="echo:40")
    kill(place, part)
    code, err = finish(process)
    assert code == 0, err
    assert "died (killed by SIGKILL); it is started again" in err
    check_whole(place)


def test_all_workers_killed_again_and_again(place: Place, clip: Path) -> None:
    """Lossless waits for the next worker, however often. Progress is told in plain lines: this is no terminal."""
    process = begin(place, clip, "--lossless")
    for _ in range(3):
        (worker,) = place.parts("workers")
        worker.kill()
        wait_for(lambda dead=worker.pid: [one for one in place.parts("workers") if one.pid != dead], 20, "a new worker")
    code, err = finish(process)
    assert code == 0, err
    check_whole(place)
    assert not set("\x1b\r") & set(err)
    assert [line for line in err.splitlines() if f"/{FRAMES} frames, " in line and " fps" in line], err


def test_a_stopped_reader_of_the_log(place: Place, clip: Path) -> None:
    """Nobody reads standard error and standard output any more (``| head``): the run goes on to its end."""
    process = begin(place, clip)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stderr.close()
    wait_for(lambda: process.poll() is not None, GONE_S, "the end")
    assert process.returncode == 0
    check_whole(place)


def test_progress_on_a_terminal(place: Place, clip: Path) -> None:
    """A bar with count and speed on a terminal; its cursor is given back."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "deploy.cli", "run", str(clip), "-o", "out.mp4", "--model", "echo"],
        cwd=place.folder,
        env=os.environ | place.env | {"TERM": "xterm", "COLUMNS": "120", "PYTHONPATH": os.getcwd()},
        stdin=follower, stdout=follower, stderr=follower, start_new_session=True,
    )  # fmt: skip
    os.close(follower)
    shown = b""
    deadline = time.monotonic() + GONE_S
    while time.monotonic() < deadline and select.select([leader], [], [], GONE_S)[0]:
        try:
            shown += os.read(leader, 65536)
        except OSError:  # the terminal is closed: all writers have gone
            break
    os.close(leader)
    assert process.wait(GONE_S) == 0
    text = shown.decode()
    assert "\u2501" in text, "a bar"
    assert f"/{FRAMES} frames" in text
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l"), "the cursor is shown again"
    assert "annotated" in text
    assert "written: out.mp4" in text
