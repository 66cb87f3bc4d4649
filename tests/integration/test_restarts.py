"""Ends that are killed: they are started again, and each output has every frame once and in order over its parts."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from deploy.children import Children
from tests.integration.faulty import Run
from tests.integration.judge import beeps, flashes
from tests.integration.test_protocol import fleet
from tests.integration.test_sound import BEEP, FLASH, SYNC_S, gaps
from tests.marks import slow
from tests.support import Place, ffmpeg, ledger, lines, numbered_clip, numbers, wait_for

FRAMES, RATE = 250, 25


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return numbered_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", FRAMES)


@pytest.mark.slow
def test_sink_killed_twice_quickly(place: Place, clip: Path) -> None:
    run = Run(place, clip, "--model", "echo:12")
    run.until_durable(60)
    dead = run.kill("sink")
    run.until(lambda: [one for one in place.parts("sink") if one.pid != dead], "another sink")
    run.kill("sink")
    assert run.finish() == 0, run.err
    assert run.err.count("sink died (killed by SIGKILL); it is started again") == 2
    run.check_whole(FRAMES)


@pytest.mark.parametrize("when", [slow("started"), "first frame"])
def test_sink_killed_at_the_start(place: Place, clip: Path, when: str) -> None:
    """Before the first fragment: there is nothing to go on with."""
    run = Run(place, clip, "--model", "echo:8")
    sink = run.part("sink")
    if when == "first frame":
        run.until_told(1)
    sink.kill()
    assert run.finish() == 0, run.err
    run.check_whole(FRAMES)


@pytest.mark.slow
@pytest.mark.parametrize("again", range(3))
def test_sink_killed_at_the_end(place: Place, clip: Path, again: int) -> None:
    """While it closes the outputs, or nearly."""
    run = Run(place, clip, "--model", "echo:8")
    run.until_told(1)
    sink = run.part("sink")
    run.until_told(FRAMES)
    with contextlib.suppress(psutil.NoSuchProcess):  # the very end has been missed
        sink.kill()
    assert run.finish() == 0, run.err
    run.check_whole(FRAMES)


@pytest.mark.parametrize("part", ["sink", slow("producer")])
def test_killed_when_all_is_done(place: Place, clip: Path, part: str) -> None:
    """The outputs are closed, the producer has not heard it: nothing is begun again."""
    run = Run(place, clip, "--model", "echo:8")
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


@pytest.mark.slow
@pytest.mark.parametrize("at", [0, 1, 120, FRAMES - 30])
def test_producer_killed(place: Place, clip: Path, at: int) -> None:
    run = Run(place, clip, "--model", "echo:8")
    producer = run.part("producer")
    run.until_told(at)
    producer.kill()
    assert run.finish() == 0, run.err
    run.check_whole(FRAMES)


@pytest.mark.slow
def test_one_after_the_other(place: Place, clip: Path) -> None:
    run = Run(place, clip, "--model", "echo:20")
    for at, part in zip((30, 60, 90, 120), ("broker", "sink", "workers", "producer"), strict=True):
        run.until_durable(at)
        run.kill(part)
    assert run.finish() == 0, run.err
    run.check_whole(FRAMES)


@pytest.mark.slow
def test_all_at_once(place: Place, clip: Path) -> None:
    run = Run(place, clip, "--model", "echo:12")
    run.until_durable(60)
    for part in place.parts():
        part.kill()
    assert run.finish() == 0, run.err
    run.check_whole(FRAMES)


@pytest.mark.parametrize("sampling", [slow("--every 5"), "--fps 7"])
def test_the_same_frames_are_sampled(place: Place, clip: Path, sampling: str) -> None:
    option, value = sampling.split()
    step = RATE / int(value) if option == "--fps" else int(value)
    wanted = [round(number * step) for number in range(FRAMES) if round(number * step) < FRAMES]
    run = Run(place, clip, "--model", "echo:40", "--batch", "4", option, value)
    run.until_durable(50)
    run.kill("sink")
    run.until(lambda: run.resume["epoch"] == 2 and run.durable >= 90, "the second part")
    run.kill("producer")
    assert run.finish() == 0, run.err
    assert [line["index"] for line in lines(run.outputs[-1]) if line["state"] == "annotated"] == wanted
    run.check_whole(FRAMES, {"annotated": len(wanted), "carried": FRAMES - len(wanted)})


def test_flash_and_beep_stay_together_in_each_part(place: Place) -> None:
    """Sound that is copied (MKV), and sound that is encoded anew in each part (MP4, TS)."""
    source = place.folder / "source.mkv"
    ffmpeg(
        "-f", "lavfi", "-i", FLASH, "-f", "lavfi", "-i", BEEP, "-t", "10.5",
        "-c:v", "libx264", "-preset", "ultrafast", "-g", "50", "-c:a", "pcm_s16le", source,
    )  # fmt: skip
    run = Run(place, source, "--model", "echo:12")
    run.until_durable(110)
    run.kill("sink")
    assert run.finish() == 0, run.err
    (wanted, *_) = gaps(source)
    for path in run.outputs[:-1]:
        first, second = run.parts(path)
        found = 0
        for part in (first, second):
            heard = beeps(part)
            for flash in flashes(part)[1:-1]:  # one at an end may have its beep in the other part
                off = min(abs(beep - flash - wanted) for beep in heard)
                assert off <= SYNC_S, f"{part.name}: sound is off by {off * 1000:.0f} ms"
                found += 1
        assert found >= 5


def test_live(place: Place, clip: Path) -> None:
    """What is gone is gone; nothing is shown twice, the ledger knows all, and it takes no longer than the source."""
    run = Run(place, clip, "--model", "echo:10", "--live")
    run.until_told(1)
    since = time.monotonic()
    run.until_told(60)
    run.kill("sink")
    code = run.finish()
    assert time.monotonic() - since < FRAMES / RATE + 10
    found = ledger(run.outputs[0])
    lost = found["states"].get("lost", 0)
    assert code == (1 if lost or found["states"].get("failed") else 0), run.err
    assert found["frames"] == FRAMES
    assert [line["index"] for line in lines(run.outputs[-1])] == list(range(FRAMES))
    for path in run.outputs[:-1]:
        parts = run.parts(path)
        assert len(parts) == 2
        shown = [number for part in parts for number in numbers(part)]
        assert shown == sorted(set(shown)), path.name
        assert len(shown) == FRAMES - lost


@pytest.mark.slow
def test_a_sink_that_never_gets_further(place: Place, clip: Path) -> None:
    """It is not started again for ever."""
    run = Run(place, clip, "--model", "echo:20")
    run.until_durable(30)
    dead: set[int] = set()

    def over() -> bool:
        for part in place.parts("sink"):
            if part.pid not in dead:
                part.kill()
                dead.add(part.pid)
        return run.process.poll() is not None

    wait_for(over, 60, "the end of the run")
    assert run.finish() == 6, run.err
    assert run.last_word.startswith("headrace: sink died ")
    assert run.last_word.endswith(" times without having worked, the last time: killed by SIGKILL")
    assert 6 <= len(dead) <= 8


def test_two_producers(place: Place, clip: Path) -> None:
    """The newer one takes over and goes on where the older one has come to; the older one says why it leaves."""
    with fleet(place, clip) as built:
        children = Children(str(place.runtime / "headrace-test"))
        arguments = ["-c", str(place.runtime / "headrace-test" / "fleet.json"), "--stream", built.streams[0].name]
        told = place.folder / "out.jsonl"
        ended: dict[str, tuple[int, str]] = {}

        def look() -> bool:
            list(children.listen(0.05))
            for child, code in children.exits():
                children.rest(child)
                ended[child.name] = (code, child.fatal)
            return len(ended) == 2

        def beyond(count: int) -> bool:
            look()
            return told.exists() and told.read_bytes().count(b"\n") >= count

        try:
            children.start("older", "producer", arguments)
            wait_for(lambda: beyond(1), 30, "the first frames")
            older = children.alive["older"].process
            os.kill(older.pid, signal.SIGSTOP)  # there would be nothing left to do for the newer one
            children.start("newer", "producer", arguments)
            wait_for(lambda: beyond(150), 60, "the newer one's frames")
            os.kill(older.pid, signal.SIGCONT)
            wait_for(look, 60, "the end of both")
        finally:
            children.stop(list(children.alive), 8)
    assert ended["newer"] == (0, "")
    code, why = ended["older"]
    assert code == 6
    assert "another producer has taken over this stream" in why
    assert [line["index"] for line in lines(told)] == list(range(FRAMES))
    parts = [place.folder / part for part in ledger(place.folder / "out.mp4")["parts"] if part.endswith(".mp4")]
    assert [number for part in parts for number in numbers(part)] == list(range(FRAMES))
