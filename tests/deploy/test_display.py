"""What a person sees of the parts' troubles, on a terminal and in plain lines."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from deploy.children import Said
from deploy.display import LEAST, MAX_TROUBLES, PLAIN_S, SILENT_S, Ailing, RunDisplay, fit


def trouble(name: str, text: str = "", since: float = 3.0) -> dict[str, Any]:
    return {"name": name, "text": text or name, "since": since}


class Bench:
    """A display with a clock that the test moves; ``width`` makes it a terminal."""

    def __init__(self, width: int | None = None) -> None:
        self.now = 100.0
        self._file = io.StringIO()
        console = Console(
            file=self._file, force_terminal=width is not None, width=width, highlight=False, color_system=None
        )
        self.display = RunDisplay(console=console, clock=lambda: self.now)
        self.display.said(Said("producer", "status", {
            "event": "source", "stream": "s", "width": 64, "height": 48, "rate": 25.0, "frames": 100, "sound": [],
        }))  # fmt: skip

    def progress(self, child: str, *troubles: dict[str, Any], **fields: Any) -> None:
        known: dict[str, Any] = {"event": "progress", "troubles": list(troubles), **fields}
        if child == "producer":
            known = {"in_flight": 7, "waits_for": "", **known}
        if child == "sink":
            known = {"resolved": 5, **known}
        self.display.said(Said(child, "status", known))

    def line(self, wait: float = PLAIN_S) -> str:
        """The next line, or what a terminal shows then."""
        self._file.truncate(0)
        self._file.seek(0)
        self.now += wait
        self.display.tick()
        if self.display._progress is not None:
            self.display._progress.refresh()
        return self._file.getvalue()


@pytest.fixture(params=[None, 200], ids=["plain", "terminal"])
def bench(request: pytest.FixtureRequest) -> Any:
    made = Bench(request.param)
    yield made
    made.display.close()


def test_troubles_are_in_the_line_and_vanish_when_they_are_over(bench: Bench) -> None:
    bench.progress("broker", trouble("no_worker", "no worker serves face: 3 frames wait", 12.4))
    bench.progress("sink", trouble("disk_full", "disk full: out.mp4", 2.0))
    line = bench.line()
    assert "5/100 frames" in line
    assert "7 in flight" not in line, "the producer has not said so"
    assert "; disk full: out.mp4 (2 s); no worker serves face: 3 frames wait (12 s)" in line
    bench.progress("broker")
    bench.progress("sink", trouble("disk_full", "disk full: out.mp4", 4.0))
    line = bench.line()
    assert "disk full: out.mp4 (4 s)" in line
    assert "no worker" not in line
    bench.display.said(Said("sink", "status", {"event": "troubles", "troubles": [trouble("x", "no stream yet")]}))
    assert "no stream yet (3 s)" in bench.line()
    bench.progress("sink")
    assert "(" not in bench.line()


def test_the_text_is_shown_as_it_is(bench: Bench) -> None:
    """No markup, and no line or terminal control."""
    bench.progress("sink", trouble("disk_full", "disk full: [/bold] [red]\n\x1b[2Jout.mp4"))
    assert "disk full: [/bold] [red]??[2Jout.mp4 (3 s)" in bench.line()


def test_what_the_producer_waits_for_is_not_said_twice(bench: Bench) -> None:
    bench.progress("producer", waits_for="no_worker")
    assert ", waiting for a worker" in bench.line()
    bench.progress("producer", trouble("no_worker", "no worker serves face"), waits_for="no_worker")
    line = bench.line()
    assert "waiting for a worker" not in line
    assert "no worker serves face (3 s)" in line
    bench.progress("producer", trouble("no_worker", "no worker serves face"), waits_for="broker_full")
    assert ", waiting for the broker; no worker serves face (3 s)" in bench.line()


def test_a_narrow_terminal_shows_the_newest() -> None:
    bench = Bench(width=100)
    bench.progress("sink", trouble("a", "this one is older, and long", 50), trouble("b", "the disk is full", 2))
    line = bench.line()
    bench.display.close()
    assert "the disk is full (2 s)" in line
    assert "older" not in line


def test_parts_that_say_nothing_any_more_have_no_troubles() -> None:
    ailing = Ailing()
    ailing.hear("worker-1", [trouble("broker_away")], 10.0)
    assert ailing.words(10.0 + SILENT_S - 0.1) == ["broker_away (3 s)"]
    assert ailing.words(10.0 + SILENT_S) == []
    assert ailing.about(10.0 + SILENT_S) == set()


def test_what_several_parts_name_is_said_once_with_its_longest_time() -> None:
    ailing = Ailing()
    ailing.hear("worker-1", [trouble("sink_away", "the sink does not answer", 3)], 0.0)
    ailing.hear("worker-2", [trouble("sink_away", "the sink does not answer", 9)], 0.0)
    ailing.hear("producer", [trouble("sink_silent", "the sink is silent", 8), trouble("disk_full a", since=1)], 0.0)
    ailing.hear("broker", [trouble("no_worker", since=5)], 0.0)
    assert ailing.words(0.0) == ["disk_full a (1 s)", "no_worker (5 s)", "the sink does not answer (9 s)"]
    assert ailing.about(0.0) == {"sink", "worker", "disk_full a"}


@pytest.mark.parametrize("troubles", [None, 7, "x", [7], [{}], [{"name": "a", "text": "b"}], [{"name": 1, "since": 1}]])
def test_what_makes_no_sense_is_left_out(troubles: object) -> None:
    ailing = Ailing()
    ailing.hear("broker", troubles, 0.0)
    assert ailing.words(0.0) == []


def test_fit() -> None:
    words = ["abcdefghij"] * 6
    assert fit([], 10) == ""
    assert fit(words, None) == "; ".join(words[:MAX_TROUBLES])
    assert fit(words, 34) == "; ".join(words[:3])
    assert fit(words, 33) == "; ".join(words[:2])
    assert fit(["x" * 100, "y"], 30) == "x" * 29 + "…"
    assert fit(["x" * 100], -5) == "x" * (LEAST - 1) + "…"


@pytest.mark.parametrize("width", [60, 100, 160])
def test_a_long_trouble_keeps_to_its_line(width: int) -> None:
    bench = Bench(width)
    bench.progress("sink", trouble("a", "x" * 300))
    line = bench.line()
    bench.display.close()
    assert "x…" in line
    assert "\n" not in line
