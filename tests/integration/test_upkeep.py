"""A fleet outlives what happens around it: its folder is removed, no descriptor is left, its disk is full, a camera is
away when its producer dies."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from common.errors import LinkError, OutputError
from deploy.folder import CONFIG, CONTROL
from tests.integration.test_streams import RATE, SOON_S, Farm, entry, farm, fleet_of
from tests.servers_http import HttpServer, stream_of
from tests.support import Place, ffmpeg, numbered_clip, so_far, wait_for


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten minutes."""
    folder = tmp_path_factory.mktemp("clips")
    numbered_clip(folder / "short.mp4", 120, rate=RATE, sound="-an")
    ffmpeg("-stream_loop", "59", "-i", folder / "short.mp4", "-c", "copy", folder / "long.mp4")
    return folder / "long.mp4"


@pytest.fixture
def here(place: Place, clip: Path) -> Iterator[Farm]:
    """Two streams that run."""
    streams = [entry(name, clip) for name in ("one", "two")]
    with farm(place, fleet_of(*streams, mode='"live"', realtime="true")) as made:
        for name in ("one", "two"):
            made.until(name, 6)
        yield made


def goes_on(here: Farm, *names: str) -> None:
    """More frames come out, with results of their own."""
    for name in names:
        row = here.rows()[name]
        annotated = row.states.get("annotated", 0)
        assert wait_for(lambda: here.rows()[name].states.get("annotated", 0) > annotated + 5, SOON_S, name)  # noqa: B023


def remove(here: Farm) -> None:
    shutil.rmtree(here.folder)
    wait_for(lambda: (here.folder / CONTROL).exists(), SOON_S, "the folder's return")


@pytest.mark.slow
def test_the_folder_is_removed(place: Place, here: Farm) -> None:
    """At a logout, or by age: what runs goes on, what dies comes back, the fleet can be asked."""
    remove(here)
    goes_on(here, "one", "two")
    here.producer("one").kill()
    wait_for(lambda: "cannot be reached any more" in here.err.read_text(), SOON_S, "a word on it")
    here.until("one", 1)
    goes_on(here, "one", "two")
    remove(here)
    here.part("workers").kill()
    goes_on(here, "one", "two")
    assert here.end() == 130
    assert here.err.read_text().count("had been removed, and is made again") == 2


def test_no_descriptor_is_left(place: Place, here: Farm, clip: Path) -> None:
    run = psutil.Process(here.process.pid)
    soft, hard = run.rlimit(psutil.RLIMIT_NOFILE)
    run.rlimit(psutil.RLIMIT_NOFILE, (run.num_fds() + 2, hard))
    with pytest.raises(LinkError, match="three cannot be added now: Too many open files"):
        here.add("three", clip)
    assert list(here.rows()) == ["one", "two"]
    here.part("workers").kill()
    wait_for(lambda: "worker-1 died (it cannot be started" in here.err.read_text(), SOON_S, "a try in vain")
    run.rlimit(psutil.RLIMIT_NOFILE, (soft, hard))
    assert here.add("three", clip).done == "added three"
    here.until("three", 6)
    goes_on(here, "one", "two")
    assert here.end() == 130


def test_the_configuration_cannot_be_written(place: Place, here: Farm, clip: Path) -> None:
    """As on a full disk; to us, nothing is one."""
    (here.folder / CONFIG).with_suffix(".new").mkdir()
    with pytest.raises(LinkError, match="three cannot be added now: Is a directory"):
        here.add("three", clip)
    with pytest.raises(OutputError, match="two has ended, but is not forgotten yet"):
        here.remove("two")
    goes_on(here, "one")
    (here.folder / CONFIG).with_suffix(".new").rmdir()
    wait_for(lambda: list(here.rows()) == ["one"], SOON_S, "its being forgotten")
    assert here.end() == 130


def test_what_is_a_mistake_at_the_start_is_none_later(place: Place, here: Farm) -> None:
    """A part that cannot read its configuration any more is tried again; the run does not end of it."""
    path = here.folder / CONFIG
    text = path.read_bytes()
    path.write_bytes(b"nonsense")
    here.part("workers").kill()
    here.producer("two").kill()
    for name in ("worker-1", "producer:two"):
        wait_for(lambda: here.err.read_text().count(f"{name} died") > 1, SOON_S, f"{name}, in vain")  # noqa: B023
    path.write_bytes(text)
    goes_on(here, "one", "two")
    assert here.end() == 130


def test_a_producer_dies_while_its_source_is_away(place: Place, clip: Path) -> None:
    """It was there before, so it is waited for, although a run of one source gives up at the start."""
    err = place.folder / "err.txt"
    with HttpServer({"/cam.ts": stream_of(clip, "mpegts", loop=False)}) as server:
        process = place.start(
            "run", server.url("/cam.ts"), "-o", "cam.ts", "-o", "cam.jsonl", "--name", "cam", "--model", "echo",
            "--preset", "ultrafast", err=err,
        )  # fmt: skip
        try:
            here = Farm(place, process, err)
            here.until("cam", 6)
            server.stop()
            here.until("cam", 6, "away")
            here.producer("cam").kill()
            wait_for(lambda: "is started again" in err.read_text(), SOON_S, "another producer")
            wait_for(
                lambda: [one for one in place.parts("producer") if "--again" in one.cmdline()], SOON_S, "its start"
            )
            wait_for(lambda: here.rows()["cam"].why, SOON_S, "its word on the source")
            server.start()
            told = len(so_far(place.folder / "cam.jsonl"))
            wait_for(lambda: len(so_far(place.folder / "cam.jsonl")) > told + 5, SOON_S, "more frames")
            assert here.end() == 130
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
