"""Whole runs whose source is away while something else goes wrong; and what a source does on real servers.

All of it takes long. What is gone and what is back is told apart by the numbers in the pictures.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest

from tests.flashbeep import beeps
from tests.integration.changing import HEVC, MPEG2, Live, Look, Shown, look_at, make, offsets, plays_through, runs
from tests.servers import Nginx, Publisher, RtspServer, free_port
from tests.servers_http import HttpServer, stream_of
from tests.support import Place, ffmpeg, ledger, part_files, wait_for

pytestmark = pytest.mark.slow
STEP = 1000
SYNC_S = 0.04
#: How far the output's clock may be from the wall's over an absence, in seconds.
CLOCK_S = 0.3


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """H.264; HEVC, square; MPEG-2 without sound."""
    folder = tmp_path_factory.mktemp("clips")
    looks = [
        Look(seconds=30),
        Look((240, 240), 30, HEVC, first=STEP, seconds=20),
        Look((480, 270), 20, MPEG2, sound=(), first=2 * STEP, seconds=20),
    ]
    return [make(folder / f"{number}.ts", look) for number, look in enumerate(looks)]


@pytest.fixture
def server(clips: list[Path]) -> Iterator[HttpServer]:
    with HttpServer({"/cam.ts": stream_of(clips[0], "mpegts")}) as server:
        yield server


def becomes(server: HttpServer, clip: Path) -> None:
    server.routes["/cam.ts"] = stream_of(clip, "mpegts")


def watch(*paths: Path) -> list[Shown]:
    """The pictures of a row of files, each of which plays through and is in sync."""
    seen = []
    for path in paths:
        plays_through(path)
        shown = look_at(path, Fraction(16, 9), Fraction(1))
        assert max(map(abs, offsets(shown, beeps(path))), default=0.0) <= SYNC_S
        seen += shown
    return seen


def check_order(seen: list[Shown]) -> None:
    """Pictures rise within each clip, one after the other but for what a broken connection has taken with it."""
    numbers = [one.number for one in seen if one.number is not None]
    for before, after in pairwise(numbers):
        assert after // STEP > before // STEP or 1 <= after - before <= 3 or after % STEP < 30


def until_read(run: Live, server: HttpServer, before: int) -> None:
    run.until(lambda: len(server.requests) > before, "a reader")


def until_mute(run: Live) -> None:
    run.until(lambda: "is mute" in run.err.splitlines()[-1], "its absence")


def parts_of(run: Live) -> list[Path]:
    return part_files(ledger(run.outputs[0]), run.place.folder, "out.mkv")


# -- other parts die -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["away", "back"])
def test_a_sink_that_is_killed(place: Place, server: HttpServer, clips: list[Path], when: str) -> None:
    """In the absence, and just after the return: it goes on in a new part, with placeholders."""
    with Live(place, server.url("/cam.ts"), "--placeholder") as run:
        run.until_told(50)
        server.stop()
        run.until_said("refused")
        if when == "away":
            run.kill("sink", wait=True)
            run.until_said("has begun epoch 2")
        becomes(server, clips[1])
        server.start()
        run.until_said("the source is back")
        if when == "back":
            run.kill("sink", wait=True)
            run.until_said("has begun epoch 2")
        run.until_more(60)
        run.end()
    told = run.lines()
    assert {line["epoch"] for line in told} == {1, 2}
    assert not {line["state"] for line in told} & {"failed", "lost"}
    parts = parts_of(run)
    assert len(parts) == 2
    seen = watch(*parts)
    check_order(seen)
    assert {one.number // STEP for one in seen if one.number is not None} == {0, 1}
    assert any(one.number is None for one in seen)
    assert len(told) == sum(one.number is not None for one in seen)


def test_a_producer_that_is_killed(place: Place, server: HttpServer, clips: list[Path]) -> None:
    """It was there: the one that is started in its place waits for the source."""
    with Live(place, server.url("/cam.ts"), "--placeholder") as run:
        run.until_told(50)
        server.stop()
        run.until_said("refused")
        run.kill("producer", wait=True)
        run.until_said("it is started again")
        run.until(lambda: run.err.count("refused") >= 2, "another attempt")
        becomes(server, clips[1])
        server.start()
        run.until_more(60)
        run.end()
    run.lines()
    seen = watch(*parts_of(run))
    check_order(seen)
    assert {one.number // STEP for one in seen if one.number is not None} == {0, 1}


def test_workers_that_are_killed(place: Place, server: HttpServer, clips: list[Path]) -> None:
    with Live(place, server.url("/cam.ts"), "--placeholder") as run:
        run.until_told(50)
        run.kill("workers")
        server.stop()
        run.until_said("refused")
        becomes(server, clips[1])
        server.start()
        run.until_more(60)
        run.end()
    told = run.lines()
    assert {line["state"] for line in told} <= {"annotated", "skipped", "late"}
    seen = watch(run.outputs[0])
    check_order(seen)
    assert len(told) == sum(one.number is not None for one in seen)


def test_a_sink_that_stands_still(place: Place, server: HttpServer, clips: list[Path]) -> None:
    """While the source comes and goes twice: nothing grows without end, and what it could not take is counted."""
    with Live(place, server.url("/cam.ts"), "--placeholder") as run:
        run.until_told(50)
        sink = run.part("sink")
        sink.suspend()
        for clip in clips[1:]:
            server.stop()
            becomes(server, clip)
            before = len(server.requests)
            server.start()
            until_read(run, server, before)
        run.until(lambda: "does not answer" in run.err, "a word on the sink")
        sink.resume()
        run.until_more(120)
        run.end()
    told = run.lines()
    assert {line["state"] for line in told} <= {"annotated", "skipped", "late", "lost"}
    assert {line.get("reason", "") for line in told if line["state"] == "lost"} <= {"gap"}
    seen = watch(run.outputs[0])
    assert seen[-1].number is not None
    assert seen[-1].number // STEP == 2
    assert sum(one.number is not None for one in seen) == sum(line["state"] != "lost" for line in told)


def test_lossless(place: Place, server: HttpServer, clips: list[Path]) -> None:
    """Every picture is inferred; placeholders wait for the frames before them."""
    with Live(place, server.url("/cam.ts"), "--placeholder", "--lossless") as run:
        run.until_told(50)
        server.stop()
        run.until_said("refused")
        becomes(server, clips[1])
        server.start()
        run.until_more(60)
        run.end()
    assert {line["state"] for line in run.lines()} == {"annotated"}
    seen = watch(run.outputs[0])
    check_order(seen)
    assert runs(seen)[1][0] is None


# -- servers ---------------------------------------------------------------------------------------------------------


def test_sound_goes_on_without_a_picture(place: Place, server: HttpServer, clips: list[Path]) -> None:
    """A camera's encoder has died. Named within two seconds, and away when its time is over."""
    half = place.folder / "half.ts"
    ffmpeg("-t", "4", "-i", clips[0], "-i", clips[0], "-map", "0:v", "-map", "1:a", "-c", "copy", half)
    server.routes["/cam.ts"] = stream_of(half, "mpegts", "-c", "copy", "-max_interleave_delta", "100000", loop=False)
    with Live(place, server.url("/cam.ts"), "--placeholder") as run:
        run.until_told(98)
        last = time.monotonic()
        run.until_said("gives no picture, while its sound goes on")
        assert time.monotonic() - last < 2.3
        run.until_said("gives no picture for 3 s, while its sound goes on")
        becomes(server, clips[1])
        run.until_said("the source is back")
        run.until_more(40)
        run.end()
    run.lines()
    check_order(watch(run.outputs[0]))


def test_a_publisher_that_freezes_and_one_that_is_killed(place: Place, clips: list[Path]) -> None:
    """Over RTSP: mute is named within two seconds, away after the deadline; then both at once, and back."""
    clip = place.folder / "cam.mp4"
    ffmpeg("-i", clips[0], "-c", "copy", "-bsf:a", "aac_adtstoasc", clip)
    with (
        RtspServer(place.folder) as relay,
        Publisher(place.folder, clip, relay.publish()) as camera,
        Live(place, relay.play(), "--placeholder", outputs=("out.ts", "out.jsonl")) as run,
    ):
        run.until_told(50)
        camera.freeze()
        frozen = time.monotonic()
        run.until_said("gives nothing")
        assert time.monotonic() - frozen < 2.5
        run.until_said("is mute")
        camera.thaw()
        run.until_said("the source is back")
        run.until_more(30)
        camera.kill()
        gone = time.monotonic()
        run.until_said("404")
        assert time.monotonic() - gone < 2.5
        camera.start()
        run.until(lambda: run.err.count("the source is back") == 2, "its return")
        run.until_more(30)
        run.end()
    run.lines()
    plays_through(run.outputs[0])
    seen = look_at(run.outputs[0])
    assert [number for number, _ in runs(seen)].count(None) >= 2, "placeholders in both absences"


def test_a_player_stays(place: Place, clips: list[Path]) -> None:
    """RTMP in and out. A reader of the output sees the placeholders come, one clock, and no end; the output is as long
    as the clock on the wall says."""
    clips = [place.folder / f"{number}.flv" for number in range(2)]
    make(clips[0], Look(seconds=30))
    make(clips[1], Look(first=STEP, seconds=30))
    seen: list[tuple[float, float]] = []
    enough = threading.Event()

    def read(address: str) -> None:
        with av.open(address, timeout=(20, 20)) as container:
            for packet in container.demux(video=0):
                if packet.size:
                    seen.append((time.monotonic(), float((packet.pts or 0) * Fraction(packet.time_base))))
                if enough.is_set():
                    return

    with Nginx(place.folder) as nginx:
        began = [time.monotonic()]
        first = Publisher(place.folder, clips[0], nginx.rtmp("cam"))
        with first, Live(place, nginx.rtmp("cam"), "--placeholder", "-o", nginx.rtmp("out")) as run:
            run.until_told(30)
            reader = threading.Thread(target=read, args=(nginx.rtmp("out"),), daemon=True)
            reader.start()
            wait_for(lambda: len(seen) > 50, 30, "a player")
            first.kill()
            gone = time.monotonic()
            run.until(lambda: time.monotonic() > gone + 4, "four seconds")
            began.append(time.monotonic())
            with Publisher(place.folder, clips[1], nginx.rtmp("cam")):
                run.until_said("the source is back")
                run.until_more(50)
                enough.set()
                reader.join(20)
                run.end()
    assert not reader.is_alive()
    assert all(0 < b[1] - a[1] < 0.5 for a, b in pairwise(seen)), "of the times"
    assert max(b[0] - a[0] for a, b in pairwise(seen)) < 1.0, "of the clock on the wall, on a busy machine"
    run.lines()
    shown = watch(run.outputs[0])
    numbered = [one for one in shown if one.number is not None]
    last, next_ = next((a, b) for a, b in pairwise(numbered) if b.number is not None and b.number >= STEP)
    assert last.number is not None
    assert next_.number is not None
    # When the two pictures were sent.
    elapsed = began[1] + (next_.number - STEP) / 25 - began[0] - last.number / 25
    assert next_.time - last.time == pytest.approx(elapsed, abs=CLOCK_S)


@pytest.mark.parametrize("pause", [False, True])
def test_datagrams_of_another_kind(place: Place, clips: list[Path], pause: bool) -> None:
    """MPEG-TS over UDP has no connection that could break: it falls silent, or turns into something else at once."""
    address = f"udp://127.0.0.1:{free_port(udp=True)}"
    with Live(place, address, "--placeholder", "--source-wait", "30s") as run:
        for clip in (*clips, clips[0]):
            with Publisher(place.folder, clip, f"{address}?pkt_size=1316"):
                run.until_more(50)
            if pause:
                until_mute(run)
        run.end()
    bad = [line for line in run.lines() if line["state"] in ("failed", "lost")]
    # One decoder may make something of what is not meant for it.
    assert {line["reason"] for line in bad} <= (set() if pause else {"corrupt"})
    seen = watch(run.outputs[0])
    assert {one.number // STEP for one in seen if one.number is not None} == {0, 1, 2}
    assert max(b.time - a.time for a, b in pairwise(seen)) < 4.0, "no longer than the deadline"
