"""Several streams on one fleet: they come and go, and those that stay notice nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from common import config
from deploy.ask import ask
from deploy.control import Add, Answer, List, Remove, Row
from deploy.folder import CONFIG, CONTROL
from deploy.spec import StreamOptions, stream_of
from tests.support import Place, Ran, ffmpeg, ledger, lines, numbered_clip, numbers, wait_for

#: Frames a second of the streams that stay.
RATE = 12
#: Pictures of the short clip, and length of the long one in seconds.
ROUND, LONG_S = 120, 900
#: Longest wait for what takes a moment, on a busy machine.
SOON_S = 60.0


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``short.mp4`` of ``ROUND`` numbered pictures, and ``long.mp4``, which is that again and again."""
    folder = tmp_path_factory.mktemp("clips")
    numbered_clip(folder / "short.mp4", ROUND, rate=RATE, sound="-an")
    ffmpeg(
        "-stream_loop", str(LONG_S * RATE // ROUND - 1), "-i", folder / "short.mp4", "-c", "copy", folder / "long.mp4"
    )
    return folder


class Farm:
    """A running fleet, asked over its socket as ``headrace streams`` does."""

    def __init__(self, place: Place, process: subprocess.Popen[str], err: Path) -> None:
        self.place, self.process, self.err = place, process, err
        self.folder: Path = wait_for(self._found, SOON_S, "the fleet's beginning")

    def _found(self) -> Path | None:
        assert self.process.poll() is None, self.err.read_text()
        return next((one.parent for one in self.place.runtime.glob(f"*/{CONTROL}")), None)

    def rows(self) -> dict[str, Row]:
        return {row.name: row for row in ask(self.folder, List(), SOON_S).streams}

    def add(self, name: str, source: str | Path, **options: Any) -> Answer:
        workers = config.load(self.folder / CONFIG).workers
        typed = {"realtime": True, "mode": "live", "preset": "ultrafast", **options}
        outputs = typed.pop("outputs", [str(self.place.folder / f"{name}.mp4")])
        stream = stream_of(StreamOptions(str(source), outputs, name=name, **typed), workers, self.folder)
        return ask(self.folder, Add([stream]), SOON_S)

    def remove(self, name: str) -> str:
        return ask(self.folder, Remove(name, 30.0), SOON_S).done

    def until(self, name: str, frames: int = 1, state: str = "running") -> Row:
        def there() -> Row | None:
            assert self.process.poll() is None, self.err.read_text()
            row = self.rows().get(name)
            return row if row is not None and row.state == state and row.frames >= frames else None

        found: Row = wait_for(there, SOON_S, f"{name}, {state}")
        return found

    def part(self, module: str) -> psutil.Process:
        (found,) = self.place.parts(module)
        return found

    def producer(self, name: str) -> psutil.Process:
        (found,) = [one for one in self.place.parts("producer") if one.cmdline()[-3] == name]
        return found

    def weights(self) -> dict[str, tuple[int, int, int]]:
        """Open descriptors, threads and resident bytes of what all streams share."""
        shared = {module: self.part(module) for module in ("broker", "sink", "workers")}
        shared["run"] = psutil.Process(self.process.pid)
        return {name: (one.num_fds(), one.num_threads(), one.memory_info().rss) for name, one in shared.items()}

    def end(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(SOON_S)


@contextmanager
def farm(place: Place, text: str) -> Iterator[Farm]:
    (place.folder / "fleet.toml").write_text(text)
    err = place.folder / "err.txt"
    process = place.start("run", "-c", "fleet.toml", err=err)
    try:
        yield Farm(place, process, err)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def fleet_of(*streams: str, model: str = "echo", **defaults: str) -> str:
    """The text of a fleet's file."""
    shared = "".join(f"{key} = {value}\n" for key, value in defaults.items())
    return f'[workers]\nmodel = "{model}"\n[defaults]\n{shared}encoding = {{preset = "ultrafast"}}\n' + "".join(streams)


def entry(name: str, source: str | Path, *outputs: str, more: str = "") -> str:
    named = ", ".join(f'"{output}"' for output in outputs or (f"{name}.mp4", f"{name}.jsonl"))
    return f'[[streams]]\nname = "{name}"\nsource = "{source}"\noutputs = [{named}]\n{more}\n'


def check_untouched(place: Place, name: str) -> None:
    """Every frame came out, once, in order, with its own picture; none was lost or failed."""
    told = lines(place.folder / f"{name}.jsonl")
    assert [line["index"] for line in told] == list(range(len(told)))
    assert {line["epoch"] for line in told} == {1}
    assert {line["state"] for line in told} <= {"annotated", "skipped", "late"}
    assert numbers(place.folder / f"{name}.mp4") == [index % ROUND for index in range(len(told))]
    assert ledger(place.folder / f"{name}.mp4")["frames"] == len(told)


def come_and_go(here: Farm, clips: Path, turn: int) -> None:
    """A stream comes, gives some frames and leaves: every other time under the same name."""
    name = "guest" if turn % 2 else f"guest {turn}"
    assert here.add(name, clips / "long.mp4").done == f"added {name}"
    here.until(name, 6)
    assert here.remove(name).startswith(f"removed {name}, ")
    assert name not in here.rows()
    path = here.place.folder / f"{name}.mp4"
    shown = numbers(path)
    assert shown == [index % ROUND for index in range(ledger(path)["frames"])], (
        "its outputs were closed, and begun anew"
    )
    assert "resume" not in ledger(path)


@pytest.mark.parametrize("times", [6, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])])
def test_streams_come_and_go(place: Place, clips: Path, times: int) -> None:
    stay = [entry(name, clips / "long.mp4") for name in ("one", "two")]
    with farm(place, fleet_of(*stay, mode='"live"', realtime="true")) as here:
        for name in ("one", "two"):
            here.until(name, 6)
        warm = min(10, times // 3)
        for turn in range(warm):
            come_and_go(here, clips, turn)
        before = here.weights()
        since = time.monotonic(), {name: row.frames for name, row in here.rows().items()}
        for turn in range(warm, times):
            come_and_go(here, clips, turn)
        seconds, rows = time.monotonic() - since[0], here.rows()
        for name in ("one", "two"):
            rate = (rows[name].frames - since[1][name]) / seconds
            assert rate == pytest.approx(RATE, rel=0.1), "at full rate all the time"
        wait_for(
            lambda: all(new[:2] <= old[:2] for old, new in pairs(before, here)),
            10,
            f"no leak: {before}, {here.weights()}",
        )
        for old, new in pairs(before, here) if times > 6 else ():
            assert new[2] < 1.1 * old[2] + 8 * 2**20, (before, here.weights())
        assert here.end() == 130
    for name in ("one", "two"):
        check_untouched(place, name)
    said = here.err.read_text()
    assert "died" not in said
    assert "crashed" not in said


def pairs(before: dict[str, tuple[int, int, int]], here: Farm) -> Iterator[tuple[Any, Any]]:
    now = here.weights()
    return ((before[name], now[name]) for name in before)


def test_one_bad_source_and_one_crash_among_others(place: Place, clips: Path) -> None:
    """Each stream has its own end; the worst of them is the run's."""
    bad = entry("bad", "tcp://127.0.0.1:9", more="source_wait = 0")
    streams = [entry("good", clips / "short.mp4", more="realtime = true"), bad]
    with farm(place, fleet_of(*streams, entry("killed", clips / "short.mp4", more="realtime = true"))) as here:
        row = here.until("bad", 0, "ended")
        assert "127.0.0.1" in row.why
        here.until("killed", 6)
        here.producer("killed").kill()
        assert here.process.wait(SOON_S) == 3
    for name in ("good", "killed"):
        assert [line["index"] for line in lines(place.folder / f"{name}.jsonl")] == list(range(ROUND))
        assert ledger(place.folder / f"{name}.mp4")["states"] == {"annotated": ROUND}
    assert numbers(place.folder / "good.mp4") == list(range(ROUND))
    said = here.err.read_text()
    assert "bad has ended, 0 frames: " in said
    assert "producer:killed died (killed by SIGKILL); it is started again" in said
    assert said.splitlines()[-1] == "headrace: 1 of 3 streams did not end well: bad"


def test_the_command(place: Place, clips: Path) -> None:
    """What a person types, and what is said of mistakes."""
    with farm(place, fleet_of(entry("one", clips / "long.mp4"), mode='"live"', realtime="true")) as here:

        def streams(verb: str, *arguments: str | Path) -> Ran:
            return place.run("streams", verb, *arguments, "--fleet", here.folder.name)

        here.until("one")
        options = ["-o", "sub.mp4", "--name", "two", "--realtime", "--live", "--preset", "ultrafast"]
        added = streams("add", clips / "long.mp4", *options)
        assert (added.code, added.out) == (0, "added two\n"), added.err
        here.until("two")
        found = {row["name"]: row for row in json.loads(streams("list", "--json").out)["streams"]}
        assert found["two"]["outputs"] == [{"path": str(place.folder / "sub.mp4"), "kind": "mp4"}]
        table = streams("list").out.splitlines()
        assert [line.split()[:2] for line in table[:3]] == [["stream", "state"], ["one", "running"], ["two", "running"]]
        for arguments, code, words in [
            (["add", "x.mp4", "-o", "y.mp4"], 3, "no such file: x.mp4"),
            (["add", clips / "long.mp4", "-o", "y.mp4", "--name", "one"], 2, "there is a stream 'one' already"),
            (["remove", "three"], 2, "there is no stream 'three': there are one, two"),
        ]:
            ran = streams(*arguments)
            assert (ran.code, words in ran.err, len(ran.err.splitlines())) == (code, True, 1), ran.err
        assert streams("remove", "one").out.startswith("removed one, ")
        assert streams("remove", "two").out.endswith("; it was the last one, the fleet ends\n")
        assert here.process.wait(SOON_S) == 0
    assert ledger(place.folder / "sub.mp4")["frames"] > 0
    assert os.listdir(place.runtime) == []
