"""The source whatever becomes of it: refused, hanging, gone, back, and begun anew; nobody is held up meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from common.errors import SourceError
from producer.intake import FILLERS, Intake
from producer.source import Source
from tests.feeds import settings
from tests.servers import free_port
from tests.servers_http import HttpServer, Scripted, file, folder, mute, status, stream_of
from tests.support import ffmpeg, make_clip, wait_for

#: Seconds for what takes a fraction of one on an idle machine.
PATIENCE = 30.0


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("intake") / "clip.ts"
    return make_clip(path, "-c:v", "libx264", "-preset", "ultrafast", seconds=0.4, size="96x64")


Make = Callable[..., Intake]


@pytest.fixture
def make() -> Iterator[Make]:
    """Intakes of an address. All are stopped in the end, and leave no thread behind."""
    made: list[Intake] = []
    before = set(threading.enumerate())

    def one(source: str | Path, again: bool = False, **fields: Any) -> Intake:
        known = {"mode": "live", "source_timeout": 1.0, "source_wait": 0.0, "placeholder": True}
        made.append(Intake(settings(Path("x.mkv"), source=str(source), **{**known, **fields}), lambda: None, again))
        return made[-1]

    yield one
    for intake in made:
        intake.stop()
        if intake.source is not None:
            intake.source.close()
    ours = ("demux", "open", "close")
    wait_for(
        lambda: not [one for one in set(threading.enumerate()) - before if one.name in ours],
        PATIENCE,
        "all threads gone",
    )


def opened(intake: Intake) -> Source:
    """The next source, started."""
    found: list[Source] = []

    def poll() -> bool:
        source = intake.poll(time.monotonic())
        if source is not None:
            found.append(source)
        return source is not None

    wait_for(poll, PATIENCE, "an open source")
    found[0].start()
    return found[0]


def drained(source: Source) -> Source:
    wait_for(lambda: source.take() is None and source.drained, PATIENCE, "its end")
    return source


def test_refused_is_said_at_once(make: Make) -> None:
    intake = make(f"http://user:secret@127.0.0.1:{free_port()}/cam.ts")
    with pytest.raises(SourceError, match=r"^http://\*\*\*@127\.0\.0\.1:\d+/cam\.ts cannot be opened: .*refused"):
        opened(intake)
    assert "secret" not in str(intake.state(time.monotonic()))


def test_one_that_hangs_holds_nobody_up(make: Make) -> None:
    with Scripted(mute) as server:
        intake = make(server.address("http://"), source_timeout=30.0)
        begun = time.monotonic()
        assert intake.poll(begun) is None
        wait_for(lambda: server.connections, PATIENCE, "a connection")
        assert intake.poll(time.monotonic()) is None
        assert intake.never
        assert intake.state(time.monotonic())["state"] == "opening"
        intake.stop()


def test_one_that_comes_late_is_waited_for(make: Make, clip: Path) -> None:
    server = HttpServer({"/cam.ts": stream_of(clip, "mpegts")})
    server.start()
    server.stop()  # its port is known
    intake = make(server.url("/cam.ts"), source_wait=60.0)
    wait_for(lambda: intake.poll(time.monotonic()) or intake.why, PATIENCE, "a reason")
    assert "refused" in intake.why
    with server:
        source = opened(intake)
        assert source.video.width == 96
        assert not intake.why, "of its absence before"


def test_how_it_goes_and_comes(make: Make, clip: Path) -> None:
    """Away from its loss to its first picture, for one reason or another, since one moment."""
    server = HttpServer({"/cam.ts": stream_of(clip, "mpegts")})
    with server:
        intake = make(server.url("/cam.ts"))
        source = opened(intake)
        wait_for(source.take, PATIENCE, "a packet")
        now = time.monotonic()
        assert intake.state(now)["state"] == "opening"
        assert not intake.filler_due(now), "there was no picture yet"
        intake.gave(now)
        assert (intake.state(now)["state"], intake.why, intake.away(now)) == ("up", "", 0.0)
        server.stop()
        drained(source)
        assert intake.returns()
        lost = time.monotonic()
        intake.lost(lost)
        assert intake.source is None
        assert "broke off" in intake.why or "has ended" in intake.why
        wait_for(lambda: intake.poll(time.monotonic()) or "refused" in intake.why, PATIENCE, "another reason")
        server.start()
        source = opened(intake)
        now = time.monotonic()
        state = intake.state(now)
        assert (state["state"], state["opened"]) == ("away", 2)
        assert state["since"] == pytest.approx(now - lost, abs=0.1)
        assert intake.away(now) == pytest.approx(now - lost)
        assert intake.filler_due(now), "connected is not back"
        assert not intake.follows
        intake.gave(now)
        assert not intake.filler_due(now + 10)
        assert intake.state(now)["state"] == "up"


def test_placeholders_come_ten_a_second(make: Make, clip: Path) -> None:
    with HttpServer({"/cam.ts": stream_of(clip, "mpegts", loop=False)}) as server:
        for wanted in (True, False):
            intake = make(server.url("/cam.ts"), placeholder=wanted)
            source = opened(intake)
            intake.gave(0.0)
            intake.lost(100.0)
            due = sum(intake.filler_due(100.0 + tick / 100) for tick in range(500))
            assert due == pytest.approx(5 * FILLERS * wanted, abs=1)
            drained(source)


def test_one_that_was_there_before_is_waited_for(make: Make, clip: Path) -> None:
    """The producer was started again while the source is away."""
    with HttpServer({"/cam.ts": status(404)}) as server:
        intake = make(server.url("/cam.ts"), again=True)
        wait_for(lambda: intake.poll(time.monotonic()) or intake.why, PATIENCE, "a reason")
        assert "404" in intake.why
        server.routes["/cam.ts"] = stream_of(clip, "mpegts")
        opened(intake)
    with pytest.raises(SourceError, match="no such file"):
        opened(make("/nowhere/x.ts", again=True))  # a file does not come back


def test_a_loop_is_no_absence(make: Make, clip: Path) -> None:
    intake = make(clip, loop=True)
    for turn in range(3):
        source = opened(intake)
        assert intake.follows == (turn > 0)
        now = time.monotonic()
        intake.gave(now)
        drained(source)
        assert intake.returns()
        intake.lost(now)
        assert (intake.state(now)["state"], intake.why, intake.away(now)) == ("up", "", 0.0)
        assert not intake.filler_due(now + 1)


def test_a_loop_that_is_broken(make: Make, tmp_path: Path, clip: Path) -> None:
    """The file is taken away under way, and comes back; one without a picture is not read on and on."""
    path = tmp_path / "clip.ts"
    path.write_bytes(clip.read_bytes())
    intake = make(path, loop=True)
    source = opened(intake)
    intake.gave(time.monotonic())
    path.rename(tmp_path / "other.ts")
    drained(source)
    intake.lost(time.monotonic())
    wait_for(lambda: intake.poll(time.monotonic()) or intake.why, PATIENCE, "a reason")
    assert "clip.ts" in intake.why
    assert intake.filler_due(time.monotonic())
    (tmp_path / "other.ts").rename(path)
    source = opened(intake)
    assert not intake.follows, "time has passed"
    drained(source)  # and gives no picture, this time
    lost = time.monotonic()
    intake.lost(lost)
    assert intake.state(lost)["state"] == "away"
    assert "no picture" in intake.why
    assert intake.poll(lost) is None
    assert intake._opening is None, "there is a pause first"


def test_one_that_sends_what_cannot_be_decoded(make: Make, clip: Path) -> None:
    """Its codec has changed, and no connection broke: it is opened again. At first, a keyframe is waited for longer."""
    with HttpServer({"/cam.ts": stream_of(clip, "mpegts")}) as server:
        intake = make(server.url("/cam.ts"))
        opened(intake)
        assert not intake.is_blind(2.9)
        assert intake.is_blind(3.1)
        intake.gave(50.0)
        assert not intake.is_blind(0.9)
        assert intake.is_blind(1.1)
        intake.lost(200.0, "gives no picture")
        assert intake.why == f"{server.url('/cam.ts')} gives no picture"
        assert opened(intake)
    file = make(clip)
    opened(file)
    assert not file.is_blind(1e6)


@pytest.fixture(scope="module")
def hls(tmp_path_factory: pytest.TempPathFactory, clip: Path) -> Path:
    """A folder with ``over.m3u8``, and ``live.m3u8``, the same without its end."""
    root = tmp_path_factory.mktemp("hls")
    ffmpeg("-stream_loop", "2", "-i", clip, "-c", "copy", "-f", "hls", "-hls_time", "0.4", root / "over.m3u8")
    (root / "live.m3u8").write_text((root / "over.m3u8").read_text().replace("#EXT-X-ENDLIST\n", ""))
    return root


@pytest.mark.parametrize(("path", "reason"), [("/cam.m3u8", "its playlist says that nothing follows"), ("/cam", "")])
def test_a_live_stream_that_is_ended_in_order_comes_back(make: Make, hls: Path, path: str, reason: str) -> None:
    """Its playlist is there, with an end now: what it lists was shown, and the run goes on."""
    live, over = (file(hls / name, "application/vnd.apple.mpegurl") for name in ("live.m3u8", "over.m3u8"))
    with HttpServer({**folder(hls), path: live}) as server:
        intake = make(server.url(path))
        source = opened(intake)
        assert (source.live, source.finite) == (True, False)
        wait_for(source.take, PATIENCE, "a packet")
        intake.gave(time.monotonic())
        server.routes[path] = over
        drained(source)
        assert intake.returns()
        intake.lost(time.monotonic())
        reasons = f"{server.url(path)} has ended: {reason or 'what is there now is a recording'}"
        wait_for(lambda: intake.poll(time.monotonic()) or intake.why == reasons, PATIENCE, "the reason")
        asked = server.requests.count(path)
        wait_for(lambda: intake.poll(time.monotonic()) or server.requests.count(path) > asked + 1, PATIENCE, "tries")
        assert intake.source is None
        assert intake.filler_due(time.monotonic())
        server.routes[path] = live
        assert not opened(intake).finite


def test_a_recording_on_a_server_is_played_again_and_again(make: Make, hls: Path) -> None:
    """What had an end from the first is no stream that is over."""
    with HttpServer(folder(hls)) as server:
        intake = make(server.url("/over.m3u8"), loop=True, mode="lossless")
        for _ in range(3):
            source = opened(intake)
            intake.gave(time.monotonic())
            drained(source)
            assert intake.returns()
            intake.lost(time.monotonic())


def test_what_is_of_no_use_is_closed(make: Make, clip: Path) -> None:
    intake = make(clip)
    opened(intake)
    with pytest.raises(SourceError, match="convert"):
        intake.failed(SourceError("convert it first"), time.monotonic())
    assert intake.source is None


def test_what_ends_for_good(make: Make, clip: Path) -> None:
    """A file, and a live source that is not to be opened again."""
    assert not _returns(make(clip))
    with HttpServer({"/cam.ts": stream_of(clip, "mpegts", loop=False)}) as server:
        assert _returns(make(server.url("/cam.ts")))
        assert not _returns(make(server.url("/cam.ts"), reconnect=False))


def _returns(intake: Intake) -> bool:
    drained(opened(intake))
    return intake.returns()


def test_our_own_faults_are_not_hidden(make: Make, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("producer.intake.Source", broken)
    with pytest.raises(ZeroDivisionError):
        opened(make(clip))


def test_what_opens_when_nobody_waits_any_more_is_closed(make: Make, clip: Path) -> None:
    with HttpServer({"/cam.ts": stream_of(clip, "mpegts")}) as server:
        intake = make(server.url("/cam.ts"))
        assert intake.poll(time.monotonic()) is None
        opening = intake._opening
        assert opening is not None
        intake.stop()
        wait_for(lambda: opening.done, PATIENCE, "the end of the attempt")
        assert opening.source is None
