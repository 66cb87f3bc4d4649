"""What a person sees of a run, on a terminal and in plain lines."""

from __future__ import annotations

import io
import os
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from deploy.ailing import Ailing
from deploy.children import Said
from deploy.display import PLAIN_S, SHOW_S, RunDisplay, _Unbreakable, show_ledgers
from deploy.streams import WORD_S
from tests.deploy.lives import Scene, result, stream, trouble


class Bench(Scene):
    """A display of streams; ``width`` makes it a terminal."""

    def __init__(self, width: int | None = None, *names: str) -> None:
        self._file, self.now = io.StringIO(), 100.0
        console = Console(
            file=self._file, force_terminal=width is not None, width=width, height=50, highlight=False,
            color_system=None,
        )  # fmt: skip
        super().__init__(*(names or ("s",)), display=RunDisplay(console=console, clock=lambda: self.now))
        for life in self.streams:
            self.open(life.name)

    def line(self, wait: float = PLAIN_S) -> str:
        """The next line, or what a terminal shows then."""
        assert self.display is not None
        self._file.truncate(0)
        self._file.seek(0)
        self.now += wait
        self.display.tick(self.streams, self.ailing)
        if self.display._progress is not None:
            self.display._progress.refresh()
        return self._file.getvalue()

    def told(self) -> str:
        """What has been said since the last line."""
        return self._file.getvalue()

    def close(self) -> None:
        assert self.display is not None
        self.display.close()


@pytest.fixture(params=[None, 200], ids=["plain", "terminal"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = Bench(request.param)
    yield made
    made.close()


def test_troubles_are_in_the_line_and_vanish_when_they_are_over(bench: Bench) -> None:
    bench.part("broker", trouble("no_worker", "no worker serves face: 3 frames wait", 12.4))
    bench.show("s", 5, trouble("disk_full s", "disk full: out.mp4", 2.0))
    line = bench.line()
    assert "5/100 frames" in line
    assert "7 in flight" not in line, "the producer has not said so"
    assert "; disk full: out.mp4 (2 s); no worker serves face: 3 frames wait (12 s)" in line
    bench.part("broker")
    bench.show("s", 5, trouble("disk_full s", "disk full: out.mp4", 4.0))
    line = bench.line()
    assert "disk full: out.mp4 (4 s)" in line
    assert "no worker" not in line
    bench.say("sink", {"event": "troubles", "troubles": [trouble("x", "no stream yet")]})
    assert "no stream yet (3 s)" in bench.line()
    bench.show("s", 5)
    assert "(" not in bench.line()


def test_the_text_is_shown_as_it_is(bench: Bench) -> None:
    """No markup, no pictures, and no line or terminal control."""
    bench.show("s", 5, trouble("disk_full", "disk full: [/bold] [red] :a:\n\x1b[2Jout.mp4"))
    assert "disk full: [/bold] [red] :a:??[2Jout.mp4 (3 s)" in bench.line()


def test_what_the_producer_waits_for_is_not_said_twice(bench: Bench) -> None:
    bench.produce("s", waits_for="no_worker")
    assert ", waiting for a worker" in bench.line()
    bench.produce("s", trouble("no_worker", "no worker serves face"), waits_for="no_worker")
    line = bench.line()
    assert "waiting for a worker" not in line
    assert "no worker serves face (3 s)" in line
    bench.produce("s", trouble("no_worker", "no worker serves face"), waits_for="broker_full")
    assert ", waiting for the broker; no worker serves face (3 s)" in bench.line()


def test_a_narrow_terminal_shows_the_newest() -> None:
    bench = Bench(100)
    bench.show("s", 5, trouble("a", "this one is older, and long", 50), trouble("b", "the disk is full", 2))
    line = bench.line()
    bench.close()
    assert "the disk is full (2 s)" in line
    assert "older" not in line


@pytest.mark.parametrize("width", [60, 100, 160])
def test_a_long_trouble_keeps_to_its_line(width: int) -> None:
    bench = Bench(width)
    bench.show("s", 5, trouble("a", "x" * 300))
    line = bench.line()
    bench.close()
    assert "x…" in line
    assert "\n" not in line


def test_several_streams_in_plain_lines() -> None:
    """One line for all of them; what changes has a line of its own."""
    bench = Bench(None, "door", "yard", "roof")
    bench.show("door", 30, annotated=10, skipped=20)
    bench.produce("yard", state="away", why="it refused", since=5.0)
    bench.show("roof", 10)
    (line,) = bench.line().splitlines()
    assert line.startswith("2 running, 1 away: 40 frames, ")
    assert "50 % annotated" in line
    assert bench.line(0.1) == "", "every two seconds"
    bench.produce("yard")
    bench.show("yard", 1)
    bench.line(0.1)
    assert bench.told() == "yard: the source is back\n"
    bench.line(0.1)
    assert bench.told() == "", "once"


def rows(shown: str) -> list[list[str]]:
    """The words of each line that the terminal shows in the end."""
    return [line.split() for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.rpartition("\r")[2]).splitlines()]


def test_several_streams_on_a_terminal() -> None:
    """All of them first; those that have ended have no line."""
    bench = Bench(200, "door", "yard", "roof")
    bench.show("door", 30, trouble("disk_full door", "no space for door"), annotated=10, skipped=20)
    bench.produce("door")
    bench.produce("yard", state="away", why="it refused")
    shown = rows(bench.line())
    assert [row[0] for row in shown] == ["3", "door", "yard", "roof"]
    told = [" ".join(row) for row in shown]
    assert "1 running, 1 away, 1 starting: 30 frames" in told[0]
    assert "30/100 frames" in told[1]
    assert "7 in flight; no space for door (3 s)" in told[1]
    assert "source away: it refused (5 s)" in told[2]
    life = bench.streams.get("door")
    assert life is not None
    life.exited(3, "gone", bench.now)
    bench.streams.settle(bench.now + WORD_S, sink=True)
    shown = rows(bench.line())
    assert [row[0] for row in shown] == ["3", "yard", "roof"]
    assert "1 ended" in " ".join(shown[0])
    bench.close()


def test_a_second_stream_that_comes_later(bench: Bench) -> None:
    bench.show("s", 5)
    assert "5/100 frames" in bench.line()
    bench.streams.add(stream("t"), bench.now)
    bench.open("t", None)
    bench.show("t", 3)
    assert "2 running: 8 frames" in bench.line()
    bench.streams.drop("t")
    assert "1 running: 5 frames" in bench.line()


@pytest.mark.parametrize("names", [("s",), ("s", "t")])
def test_who_says_it(names: tuple[str, ...]) -> None:
    bench = Bench(None, *names)
    bench.line()
    assert bench.display is not None
    for child in ("producer:s", "sink", "worker-1"):
        bench.display.said(Said(child, "log", {"level": "warning", "message": f"{child} speaks", "stream": "s"}))
    who = ["producer", "sink", "worker-1"] if len(names) == 1 else ["producer:s", "sink (s)", "worker-1 (s)"]
    assert [line.partition(": ")[0] for line in bench.told().splitlines()[1:]] == who


def test_the_ledger_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    show_ledgers([result("[s]", 5, reasons={"poison": 2}, annotated=3, failed=2)])
    told = capsys.readouterr().out.splitlines()
    assert told[0].strip() == "[s]: 5 frames"
    assert [line.split()[:2] for line in told[2:5]] == [["annotated", "3"], ["failed", "2"], ["poison", "2"]]
    assert told[-1] == "written: [s].mp4"


def test_the_ledger_of_several_is_a_row_each(capsys: pytest.CaptureFixture[str]) -> None:
    entries: list[dict[str, Any]] = [result("a", 5, reasons={"poison": 2}, annotated=3, failed=2), result("b :a:", 7)]
    show_ledgers(entries)
    told = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert told[0][:4] == ["stream", "frames", "annotated", "failed"]
    assert told[1] == ["a", "5", "3", "2", "poison", "2"]
    assert told[2] == ["b", ":a:", "7", "7", "0"]
    assert told[3:] == [["written:", "a.mp4"], ["written:", "b", ":a:.mp4"]]


def test_a_terminal_is_drawn_only_so_often() -> None:
    """However many words the parts say."""
    bench = Bench(100, *(str(number) for number in range(100)))
    counted = Counted()
    assert bench.display is not None
    for _ in range(1000):
        bench.now += SHOW_S / 250
        bench.display.tick(bench.streams, counted)
    bench.close()
    assert 4 <= counted.asked["about"] <= 6
    assert counted.asked["words_of"] <= 6 * 50, "the terminal has 50 lines"


def test_more_streams_than_lines() -> None:
    bench = Bench(100, *(f"cam{number}" for number in range(100)))
    line = bench.line()
    assert "100 streams" in line
    assert "cam0" in line
    assert "cam70" not in line
    bench.close()


class Counted(Ailing):
    """How often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()

    def words(self, now: float) -> list[str]:
        self.asked["words"] += 1
        return super().words(now)

    def about(self, now: float) -> set[str]:
        self.asked["about"] += 1
        return super().about(now)

    def words_of(self, stream: str, child: str, now: float) -> list[str]:
        self.asked["words_of"] += 1
        return super().words_of(stream, child, now)


def test_a_terminal_that_is_gone_is_no_error() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as file:
        os.close(reader)
        console = Console(file=_Unbreakable(file), force_terminal=True)  # type: ignore[arg-type]
        display = RunDisplay(console=console)
        display.note("one")
        display.close()
        assert not console.quiet
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)  # for what is left in the buffer
