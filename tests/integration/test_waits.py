"""What a run has to wait for: space on a disk, a reader of a pipe, a part that is dead. Named, bounded, over by itself."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.faulty import Run
from tests.support import Place, ledger, lines, numbered_clip, numbers, wait_for

FRAMES = 250
#: A disk with room for the beginning of a run beside the ballast.
DISK = 12 * 2**20
LEFT = 200_000
#: Whatever is waited for, an interrupted command is gone after this many seconds.
GONE_S = 20


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return numbered_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", FRAMES)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk that is nearly full; ``ballast`` lies there."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("this user cannot mount a small disk")
    (folder / "ballast").write_bytes(bytes(DISK - LEFT))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


FULL = "No space left on device; waiting for space"


def test_disk_full_waits(place: Place, clip: Path, disk: Path) -> None:
    outputs = [disk / name for name in ("out.mp4", "out.mkv", "out.ts", "out.jsonl")]
    run = Run(place, clip, "--model", "echo:5", "--preset", "veryfast", outputs=outputs)
    run.until(lambda: (disk / "out.ts").exists() and os.statvfs(disk).f_bavail * 4096 < 20_000, "a full disk")
    since = time.monotonic()
    run.until(lambda: FULL in run.err, "its name in the log")
    print("named after", time.monotonic() - since)
    time.sleep(3)
    print(run.err)
    durable = run.durable
    (disk / "ballast").unlink()
    since = time.monotonic()
    assert run.finish() == 0, run.err
    print("finished after", time.monotonic() - since, "durable then", durable)
    print(run.err)
    run.check_whole(FRAMES)


def test_disk_full_for_too_long(place: Place, clip: Path, disk: Path) -> None:
    run = Run(place, clip, "--model", "echo:5", "--disk-wait", "2s", outputs=[disk / "out.ts", disk / "out.jsonl"])
    code = run.finish()
    print(run.err)
    assert code == 4
    assert "no space came free in 2 s" in run.last_word


def test_disk_full_and_the_producer_dies(place: Place, clip: Path, disk: Path) -> None:
    run = Run(place, clip, "--model", "echo:5", "--disk-wait", "6s", outputs=[disk / "out.ts", disk / "out.jsonl"])
    run.until(lambda: FULL in run.err, "its name in the log")
    run.kill("producer")
    code = run.finish(60)
    print(run.err)
    assert code == 4


def test_disk_full_and_the_sink_dies(place: Place, clip: Path, disk: Path) -> None:
    run = Run(place, clip, "--model", "echo:5", outputs=[disk / "out.ts", disk / "out.jsonl"])
    run.until(lambda: FULL in run.err, "its name in the log")
    run.kill("sink")
    run.until(lambda: run.err.count(FULL) > 1, "its name once more")
    (disk / "ballast").unlink()
    assert run.finish() == 0, run.err
    run.check_whole(FRAMES)


@pytest.mark.parametrize("why", ["disk", "sink", "workers"])
def test_interrupted_while_waiting(place: Place, clip: Path, disk: Path, why: str) -> None:
    if why == "disk":
        run = Run(place, clip, "--model", "echo:5", outputs=[disk / "out.ts", disk / "out.jsonl"])
        run.until(lambda: FULL in run.err, "its name in the log")
    else:
        run = Run(place, clip, "--model", "echo:20")
        run.until_durable(30)
        for _ in range(3):  # the third time it is started again only after a pause
            dead = run.kill(why)
            run.until(lambda: dead not in [one.pid for one in place.parts(why)], "its end")
    since = time.monotonic()
    os.killpg(run.process.pid, signal.SIGINT)
    assert run.finish(60) == 130, run.err
    print(run.err, time.monotonic() - since, ledger(run.outputs[0]))
    assert time.monotonic() - since < GONE_S
    found = ledger(run.outputs[0])
    print(len(lines(run.outputs[-1])), [len(numbers(p)) for o in run.outputs if o.suffix != ".jsonl" for p in run.parts(o)])


class Reader:
    """Reads a named pipe into memory, when it is let."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.data = bytearray()
        self.may = threading.Event()
        self.gone = threading.Event()
        self._pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, 4096)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        begun = False
        while not self.gone.is_set():
            self.may.wait()
            if not select.select([self._pipe], [], [], 0.05)[0]:
                continue
            try:
                data = os.read(self._pipe, 4096)
            except BlockingIOError:  # the writer has only just come
                continue
            if not data and begun:
                break
            begun = begun or bool(data)
            self.data += data
        os.close(self._pipe)

    def join(self) -> None:
        self._thread.join(30)


@pytest.mark.parametrize("end", ["ts", "jsonl"])
def test_slow_reader(place: Place, clip: Path, end: str) -> None:
    path = place.folder / f"pipe.{end}"
    reader = Reader(path)
    reader.may.set()
    run = Run(place, clip, "--model", "echo:20", outputs=["out.mp4", path, "out.jsonl"])
    run.until_told(30)
    reader.may.clear()
    since = time.monotonic()
    word = "an output of clip takes nothing"
    run.until(lambda: word in run.err, "its name in the log")
    print("named after", time.monotonic() - since)
    time.sleep(4)
    print(run.err, run.told, psutil.Process(run.part("sink").pid).memory_info().rss / 1e6)
    reader.may.set()
    assert run.finish() == 0, run.err
    reader.join()
    print(run.err)
    if end == "ts":
        copy = place.folder / "copy.ts"
        copy.write_bytes(reader.data)
        assert numbers(copy) == list(range(FRAMES))
    else:
        assert bytes(reader.data) == (place.folder / "out.jsonl").read_bytes()
    assert numbers(place.folder / "out.mp4") == list(range(FRAMES))


@pytest.mark.parametrize("end", ["ts", "jsonl"])
def test_reader_that_leaves(place: Place, clip: Path, end: str) -> None:
    path = place.folder / f"pipe.{end}"
    reader = Reader(path)
    reader.may.set()
    run = Run(place, clip, "--model", "echo:20", outputs=["out.mp4", path, "out.jsonl"])
    run.until_told(30)
    reader.gone.set()
    code = run.finish()
    print(run.err)
    assert code == 4
    assert numbers(place.folder / "out.mp4") == list(range(FRAMES))
    assert [line["index"] for line in lines(place.folder / "out.jsonl")] == list(range(FRAMES))


def test_crash_loop(place: Place, clip: Path) -> None:
    run = Run(place, clip, "--model", "echo:20")
    run.until_durable(30)
    since = time.monotonic()
    dead: set[int] = set()
    while run.process.poll() is None and time.monotonic() < since + 60:
        for part in place.parts("sink"):
            if part.pid not in dead:
                part.kill()
                dead.add(part.pid)
    code = run.finish()
    print(run.err, len(dead), time.monotonic() - since)
    assert code == 6
    assert "sink died 6 times without having worked, the last time: killed by SIGKILL" in run.last_word


def test_live_sink_killed(place: Place, clip: Path) -> None:
    run = Run(place, clip, "--model", "echo:20", "--live")
    run.until_told(60)
    start = time.monotonic()
    run.kill("sink")
    code = run.finish()
    print(run.err, code, time.monotonic() - start)
    found = ledger(run.outputs[0])
    print(found["frames"], found["states"], found["reasons"])
    for path in run.outputs[:-1]:
        shown = [number for part in run.parts(path) for number in numbers(part)]
        print(path.name, [len(numbers(part)) for part in run.parts(path)])
        assert shown == sorted(set(shown))
        assert len(shown) == found["frames"] - found["states"].get("lost", 0)
    told = lines(run.outputs[-1])
    assert [l["index"] for l in told] == list(range(FRAMES))
