"""Ends that are killed: they are started again, and each output has every frame once and in order over its parts."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.integration.faulty import Run
from tests.support import Place, numbered_clip, wait_for

FRAMES = 250


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return numbered_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", FRAMES)


def test_sink_killed_once(place: Place, clip: Path) -> None:
    run = Run(place, clip, "--model", "echo:20")
    run.until_durable(60)
    run.kill("sink")
    assert run.finish() == 0, run.err
    assert "sink died (killed by SIGKILL); it is started again" in run.err
    run.check_whole(FRAMES)


def test_sink_killed_twice_quickly(place: Place, clip: Path) -> None:
    run = Run(place, clip, "--model", "echo:20")
    run.until_durable(60)
    dead = run.kill("sink")
    wait_for(lambda: [one for one in place.parts("sink") if one.pid != dead], 30, "another sink")
    run.kill("sink")
    assert run.finish() == 0, run.err
    run.check_whole(FRAMES)


@pytest.mark.parametrize("when", ["started", "first frame"])
def test_sink_killed_at_the_start(place: Place, clip: Path, when: str) -> None:
    run = Run(place, clip, "--model", "echo:10")
    if when == "first frame":
        run.until_told(1)
    run.kill("sink")
    assert run.finish() == 0, run.err
    run.check_whole(FRAMES)


@pytest.mark.parametrize("_", range(3))
def test_sink_killed_at_the_end(place: Place, clip: Path, _: int) -> None:
    run = Run(place, clip, "--model", "echo:10")
    run.until_told(1)
    sink = run.part("sink")
    run.until_told(FRAMES)
    sink.kill()
    assert run.finish() == 0, run.err
    run.check_whole(FRAMES)


@pytest.mark.parametrize("part", ["sink", "producer"])
def test_killed_when_all_is_done(place: Place, clip: Path, part: str) -> None:
    """The outputs are closed, the producer has not heard it: nothing is begun again."""
    run = Run(place, clip, "--model", "echo:4")
    run.until_durable(60)
    run.kill("sink")  # so that there are two parts
    producer = run.part("producer")
    run.until_told(FRAMES - 30)  # all others are under way
    producer.suspend()
    run.until(lambda: run.resume.get("finished"), "the end of the outputs")
    before = [path.read_bytes() for path in run.outputs]
    if part == "sink":
        run.kill("sink")
        producer.resume()
    else:
        producer.kill()
    assert run.finish() == 0, run.err
    run.check_whole(FRAMES)
    assert [path.read_bytes() for path in run.outputs] == before


@pytest.mark.parametrize("at", [0, 1, 120, FRAMES - 2])
def test_producer_killed(place: Place, clip: Path, at: int) -> None:
    run = Run(place, clip, "--model", "echo:10")
    producer = run.part("producer")
    run.until_told(at)
    producer.kill()
    assert run.finish() == 0, run.err
    run.check_whole(FRAMES)


def test_one_after_the_other(place: Place, clip: Path) -> None:
    run = Run(place, clip, "--model", "echo:30")
    for at, part in zip((30, 60, 90, 120), ("broker", "sink", "workers", "producer"), strict=True):
        run.until_durable(at)
        run.kill(part)
    assert run.finish() == 0, run.err
    run.check_whole(FRAMES)


def test_all_at_once(place: Place, clip: Path) -> None:
    run = Run(place, clip, "--model", "echo:20")
    run.until_durable(60)
    for part in place.parts():
        os.kill(part.pid, signal.SIGKILL)
    assert run.finish() == 0, run.err
    run.check_whole(FRAMES)


@pytest.mark.parametrize("sampling", [("--every", "5"), ("--fps", "7")])
def test_sampled(place: Place, clip: Path, sampling: tuple[str, str]) -> None:
    run = Run(place, clip, "--model", "echo:60", *sampling)
    run.until_durable(60)
    run.kill("sink")
    run.until_durable(120)
    run.kill("producer")
    assert run.finish() == 0, run.err
    from tests.support import lines
    told = lines(run.outputs[-1])
    print([l["index"] for l in told if l["state"] == "annotated"])
    run.check_whole(FRAMES, {"annotated": 50, "carried": 200} if "--every" in sampling else None)
