"""Whole runs on sources that refuse, drop and come back as others: the outputs go on, and it is said what is wrong."""

from __future__ import annotations

import time
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from common.errors import Exit
from tests.flashbeep import beeps
from tests.integration.changing import HEVC, MPEG2, Live, Look, look_at, make, offsets, plays_through, runs
from tests.marks import slow
from tests.servers import free_port
from tests.servers_http import Handler, HttpServer, Route, mute_after_headers, status, stream_of
from tests.support import Place, wait_for
from workers.models.echo import BOXES

#: Numbers of one clip are this far from those of the next.
STEP = 1000
SYNC_S = 0.04


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """H.264; HEVC, square, at another rate and in other colours; MPEG-2 without sound; H.264 again."""
    folder = tmp_path_factory.mktemp("clips")
    looks = [
        Look(seconds=20),
        Look((240, 240), 30, HEVC, matrix="bt709", first=STEP, seconds=12),
        Look((480, 270), 20, MPEG2, sound=(), first=2 * STEP, seconds=12),
        Look(first=3 * STEP, seconds=12),
    ]
    return [make(folder / f"{number}.ts", look) for number, look in enumerate(looks)]


def test_it_comes_back_as_another(place: Place, clips: list[Path]) -> None:
    """Away for 2 s, then for a moment: other size, codec, rate, colours, then no sound, and all as it was."""
    outputs = ("out.mkv", "out.mp4", "out.ts", "out.jsonl")
    with HttpServer({"/cam.ts": stream_of(clips[0], "mpegts", loop=False)}) as server:
        with Live(place, server.url("/cam.ts"), "--placeholder", outputs=outputs) as run:
            run.until_told(40)
            gone = time.monotonic()
            server.stop()
            run.until_said("refused")
            assert time.monotonic() - gone < 2.5, "named within 2 s"
            run.until(lambda: time.monotonic() - gone > 2, "two seconds")
            for number, clip in enumerate(clips[1:]):
                server.routes["/cam.ts"] = stream_of(clip, "mpegts", loop=False)
                server.stop()
                server.start()
                run.until_more(40 if number else 50)
            run.end()
        assert run.err.count("the source is back") >= 1
        told = run.lines()
    states = {line["state"] for line in told}
    assert states <= {"annotated", "skipped", "late"}, "nothing was lost, nothing failed"
    # The boxes are those of the picture that was sent, in pixels of the source: the model puts them into its own input.
    for width, height in ((320, 180), (240, 240), (480, 270)):
        scale = min(640 / width, 360 / height)
        x0 = (BOXES[0][0] * 640 - (640 - width * scale) / 2) / scale
        shown = [line["detections"][0]["box"][0] for line in told if line["state"] == "annotated"]
        assert any(box == pytest.approx(x0, abs=1) for box in shown)
    for path in run.outputs[:3]:
        plays_through(path)
        seen = look_at(path, Fraction(16, 9), Fraction(1))
        assert sum(one.number is not None for one in seen) == len(told)
        found = runs(seen)
        firsts = [number // STEP for number, _ in found if number is not None]
        assert sorted(set(firsts)) == [0, 1, 2, 3]
        assert firsts == sorted(firsts)
        assert found[0][0] == 0
        assert found[1][0] is None
        assert found[1][1] >= 8, "placeholders"
        # Where a connection breaks off, the B-frames before its last picture may be missing.
        stretches = [(number, number + count) for number, count in found if number is not None]
        holes = [b[0] - a[1] for a, b in pairwise(stretches) if a[0] // STEP == b[0] // STEP]
        assert all(hole <= 2 for hole in holes), "pictures follow each other"
        assert max(b.time - a.time for a, b in pairwise(seen)) < 0.6
        heard = offsets(seen, beeps(path))
        assert len(heard) >= 3
        assert max(map(abs, heard)) <= SYNC_S, heard


def test_refused_at_the_start(place: Place) -> None:
    """Exit code 3 and one line, at once."""
    begun = time.monotonic()
    ran = place.run("run", f"rtsp://u:secret@127.0.0.1:{free_port()}/cam", "-o", "out.mkv", "--model", "echo")
    assert ran.code == Exit.SOURCE
    assert time.monotonic() - begun < 20
    (line,) = [line for line in ran.err.splitlines() if line.startswith("headrace: ")]
    assert "refused" in line
    assert "secret" not in ran.err
    assert not list(place.folder.iterdir())


@pytest.mark.slow
def test_one_that_is_waited_for(place: Place, clips: list[Path]) -> None:
    """Refused, without a stream, mute; then it comes. What is wrong is said meanwhile."""
    server = HttpServer({"/cam.ts": status(404)}).start()
    server.stop()
    with server, Live(place, server.url("/cam.ts"), "--source-wait", "60s") as run:
        run.until_said("404")
        server.routes["/cam.ts"] = mute_after_headers()
        before = len(server.requests)
        run.until(lambda: len(server.requests) >= before + 3, "attempts that are mute", 60)
        server.routes["/cam.ts"] = stream_of(clips[0], "mpegts")
        server.stop()
        server.start()
        run.until_told(30)
        run.end()
    assert run.lines()[0]["pts"] == 0
    assert runs(look_at(run.outputs[0]))[0][0] == 0


def fits_and_starts(clip: Path, seconds: float) -> Route:
    """So long a stretch of the clip for each reader, each from a second later on; then the connection is closed."""
    readers = iter(range(1000))

    def route(handler: Handler) -> None:
        handler.begin(Content_Type="video/mp2t")
        start = str(next(readers) % 15)
        handler.feed(
            "ffmpeg", "-v", "error", "-re", "-ss", start, "-t", str(seconds), "-i", clip, "-c", "copy",
            "-flush_packets", "1", "-f", "mpegts", "-",
        )  # fmt: skip

    return route


def held(process: psutil.Process) -> tuple[int, int, int]:
    """Descriptors, threads, resident bytes."""
    return process.num_fds(), process.num_threads(), process.memory_info().rss


def more_than(before: list[tuple[int, int, int]], parts: list[psutil.Process]) -> bool:
    """Whether one of them holds more than it did: a reconnection that leaks anything has been made often enough."""
    now = [held(part) for part in parts]
    limits = [(descriptors + 3, threads + 2, memory + 30 * 2**20) for descriptors, threads, memory in before]
    return any(
        value > limit for row, most in zip(now, limits, strict=True) for value, limit in zip(row, most, strict=True)
    )


@pytest.mark.parametrize("drops", [6, slow(50)])
def test_drops_in_quick_succession(place: Place, clips: list[Path], drops: int) -> None:
    """Connections of 0.3 s: nothing is left over of them, and when it stays, so do its pictures."""
    with (
        HttpServer({"/cam.ts": fits_and_starts(clips[0], 0.3)}) as server,
        Live(place, server.url("/cam.ts"), "--placeholder") as run,
    ):
        run.until_told(5)
        parts = [run.part(name) for name in ("producer", "sink")]
        run.until(lambda: len(server.requests) >= 3, "three connections")
        before = [held(part) for part in parts]
        run.until(lambda: len(server.requests) >= 3 + drops, "connections", 5.0 * drops)
        server.routes["/cam.ts"] = stream_of(clips[3], "mpegts")
        run.until_more(50)
        wait_for(lambda: not more_than(before, parts), 20, "all given back")
        run.end()
    run.lines()
    plays_through(run.outputs[0])
    seen = look_at(run.outputs[0])
    assert runs(seen)[-1][0] is not None
    assert runs(seen)[-1][1] > 30
    assert max(b.time - a.time for a, b in pairwise(seen)) < 0.6, "players stay"


@pytest.mark.parametrize(
    ("ending", "rounds"),
    [("mp4", 2), *(slow(ending, 5) for ending in ("mp4", "mkv", "ts"))],
)
def test_a_loop(place: Place, ending: str, rounds: int) -> None:
    """B-frames and sound, again and again without a glitch."""
    codec = ("-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-x264-params", "b-adapt=0:scenecut=0", "-g", "25")
    clip = make(place.folder / f"clip.{ending}", Look(codec=codec, seconds=1.4))
    with Live(place, str(clip), "--loop") as run:
        run.until_told(35 * rounds + 30)
        run.end()
    told = run.lines()
    assert not [line for line in run.err.splitlines() if "away" in line or "is back" in line]
    assert run.err.count("320x180") == 1
    plays_through(run.outputs[0])
    seen = look_at(run.outputs[0])
    assert [one.number for one in seen] == [number % 35 for number in range(len(seen))]
    assert len(seen) == len(told) > 35 * rounds
    assert [b.time - a.time for a, b in pairwise(seen)] == pytest.approx([0.04] * (len(seen) - 1), abs=0.002)
    heard = offsets(seen, beeps(run.outputs[0]))
    assert len(heard) >= rounds
    assert max(map(abs, heard)) <= SYNC_S, heard


@pytest.mark.slow
def test_a_placeholder_picture_that_cannot_be_read(place: Place, clips: list[Path]) -> None:
    """Is said at the start, not when it is needed."""
    (place.folder / "broken.png").write_bytes(b"no picture")
    for name, why in (("broken.png", "no picture that can be read"), ("missing.png", "no such file")):
        ran = place.run("run", clips[0], "--loop", "-o", "out.mkv", "--model", "echo", "--placeholder-image", name)
        assert ran.code in (Exit.USAGE, Exit.SOURCE, Exit.OUTPUT)
        assert why in ran.err
