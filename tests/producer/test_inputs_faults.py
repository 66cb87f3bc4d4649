"""Sources that misbehave: each comes to one clear line within its deadline, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from common.errors import SourceError
from producer.source import Source
from tests.marks import slow
from tests.producer.test_source import everything
from tests.servers import Nginx, Publisher, RtspServer, free_port
from tests.servers_http import (
    HttpServer,
    Script,
    Scripted,
    closes,
    closes_in_header,
    file,
    garbage,
    mute,
    mute_after_headers,
    paced,
    page,
    rtsp,
    status,
    stream_of,
    with_login,
)
from tests.support import ffmpeg, make_clip, wait_for

Opener = Callable[..., Source]
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "25")
#: What a deadline may be overrun by on a machine that does other things as well, in seconds.
SLACK_S = 1.0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def clip(place: Path) -> Path:
    return make_clip(place / "clip.mp4", *H264, seconds=2, size="128x96", sound="-c:a aac -ac 1")


@pytest.fixture
def mute_after_all(place: Path, clip: Path) -> Iterator[HttpServer]:
    """A server with ``/cam``: two seconds of a stream at once, and then nothing."""
    stream = place / "clip.ts"
    ffmpeg("-i", clip, "-c", "copy", stream)
    with HttpServer({"/cam": paced(stream, "mpegts", 0, then_mute=True)}) as server:
        yield server


def refused(opened: Opener, address: str, said: str, within: float = SLACK_S, timeout: float = 1.0) -> None:
    """Opening fails in time, with one line that holds ``said`` and no password."""
    began = time.monotonic()
    with pytest.raises(SourceError, match=re.escape(said)) as caught:
        opened(address, mode="live", source_timeout=timeout)
    assert time.monotonic() - began < within
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_http(opened: Opener, clip: Path) -> None:
    routes = {
        "/page": page,
        "/secret": with_login(file(clip), "bob:right"),
        "/403": status(403),
        "/500": status(500),
        "/mute": mute_after_headers(),
        "/empty": status(200),
    }
    with HttpServer(routes) as server:
        refused(opened, server.url("/page"), "but a web page perhaps")
        refused(opened, server.url("/none"), "has no such stream (404): check the path")
        refused(opened, server.url("/403"), "refuses it (403)")
        refused(opened, server.url("/500"), "a problem of its own (5xx)")
        refused(opened, server.url("/secret"), "needs a user name and password (401): http://USER:PASSWORD@127.0.0.1:")
        refused(opened, server.url("/secret", "bob:hunter2"), "user name or password is wrong (401)")
        refused(opened, server.url("/mute"), "gives no answer within 1 s", 1 + SLACK_S)
        refused(opened, server.url("/empty"), "/empty")
        assert opened(server.url("/secret", "bob:right")).finite


def test_rtsp(opened: Opener, place: Path, clip: Path) -> None:
    with RtspServer(place, {"clip": clip}, login="bob:right") as server:
        refused(opened, server.play("none"), "has no such stream (404)")
        refused(
            opened, server.play("clip", ""), "needs a user name and password (401): rtsp://USER:PASSWORD@127.0.0.1:"
        )
        refused(opened, server.play("clip", "bob:hunter2"), "user name or password is wrong (401)")
        source = opened(server.play("clip"))
        assert source.rate == source.constant_rate == 25
        assert len([one for one in everything(source) if one.track == 0 and one.packet.size]) >= 50


def test_rtmp_without_a_publisher(opened: Opener, place: Path) -> None:
    with Nginx(place) as server:
        refused(opened, server.rtmp("none"), "has no such stream")


@pytest.mark.parametrize("scheme", ["rtsp://", "http://", "rtmp://"])
@pytest.mark.parametrize(
    ("script", "said"),
    [
        (mute, "gives no answer within"),
        (closes, ""),
        (garbage, ""),
        (closes_in_header, ""),
    ],
)
def test_servers_that_misbehave(opened: Opener, scheme: str, script: Script, said: str) -> None:
    """RTMP gets three times the deadline: its servers say nothing before a keyframe."""
    seconds = 0.5 * (3 if scheme == "rtmp://" else 1)
    with Scripted(script) as server:
        address = server.address(scheme, "/live/x", "bob:hunter2")
        refused(opened, address, said or "***@127.0.0.1:", seconds + SLACK_S, 0.5)


@pytest.mark.parametrize("after", ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"])
def test_rtsp_that_goes_mute_while_it_is_opened(opened: Opener, after: str) -> None:
    said = "is mute: no track could be made out within 0.5 s" if after == "PLAY" else "gives no answer within 0.5 s"
    with Scripted(rtsp(mute_after=after)) as server:
        refused(opened, server.address("rtsp://", "/cam"), said, 0.5 + SLACK_S, 0.5)


def test_a_codec_that_is_not_known(opened: Opener) -> None:
    with Scripted(rtsp(codec="XYZ")) as server:
        refused(opened, server.address("rtsp://"), "it holds video (unknown codec)", 0.5 + SLACK_S, 0.5)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("rtsp://bob:hunter2@127.0.0.1:9/x", "Connection refused: nothing listens there"),
        ("rtmp://127.0.0.1:9/live/x", "Connection refused"),
        ("http://127.0.0.1:9/x.m3u8", "Connection refused"),
        ("http://no-such-host.invalid/x", "no host is called no-such-host.invalid"),
        ("rtsp://bob:hunter2@no-such-host.invalid/x", "no host is called no-such-host.invalid"),
        ("nosuch://x", "nosuch://x cannot be opened: nosuch:// is not known"),
        ("srt://127.0.0.1", "is not an SRT address"),
    ],
)
def test_who_is_not_there(opened: Opener, address: str, said: str) -> None:
    refused(opened, address, said, 5)


def test_nobody_sends(opened: Opener) -> None:
    port = free_port(udp=True)
    refused(opened, f"udp://127.0.0.1:{port}", "nothing came in within 0.5 s", 0.5 + SLACK_S, 0.5)
    refused(opened, f"rtp://127.0.0.1:{port}", "nothing came in within 0.5 s", 0.5 + SLACK_S, 0.5)
    refused(opened, f"srt://127.0.0.1:{port}?passphrase=hunter2hunter2", "no answer", 0.5 + 2 * SLACK_S, 0.5)


def lost(source: Source, said: str, within: float) -> None:
    """The source ends with an error that holds ``said``. ``within``: seconds from now."""
    source.start()
    began = time.monotonic()

    def over() -> bool:
        while source.take() is not None:
            pass
        return source.drained

    wait_for(over, within + 5, "the end")
    assert time.monotonic() - began < within
    assert source.error is not None
    assert said in str(source.error)


def test_sound_goes_on_without_a_picture(opened: Opener, place: Path, clip: Path) -> None:
    blind = place / "blind.ts"
    ffmpeg("-t", "0.5", "-i", clip, "-f", "lavfi", "-i", "sine=440:r=48000:d=6", "-map", "0:v", "-map", "1:a", "-c:v",
           "copy", "-c:a", "aac", "-max_interleave_delta", "100000", blind)  # fmt: skip
    with HttpServer({"/cam": paced(blind, "mpegts", 6)}) as server:
        source = opened(server.url("/cam"), mode="live", source_timeout=2)
        lost(source, "gives no picture for 2 s, while its sound goes on", 4 + SLACK_S)


def test_mute_after_a_while(opened: Opener, mute_after_all: HttpServer) -> None:
    source = opened(mute_after_all.url("/cam"), mode="live", source_timeout=1)
    lost(source, "is mute: it has given nothing for 1 s", 1 + SLACK_S)


@pytest.mark.parametrize("transport", ["tcp", slow("udp")])
def test_a_server_that_freezes(opened: Opener, place: Path, clip: Path, transport: str) -> None:
    with RtspServer(place) as server, Publisher(place, clip, server.publish(), loop=True):
        source = opened(server.play(), mode="live", source_timeout=2, transport=transport)
        server.freeze()
        lost(source, "is mute: it has given nothing for 2 s", 2 + SLACK_S)


def test_the_end_of_what_should_go_on_for_ever(opened: Opener, place: Path, clip: Path) -> None:
    """RTSP tells of its end, HTTP and RTMP are broken off, SRT's program ends."""
    with RtspServer(place) as server, Publisher(place, clip, server.publish(), loop=True) as camera:
        source = opened(server.play(), mode="live")
        camera.kill()
        lost(source, "has ended: the server closed the stream", SLACK_S)
    with HttpServer({"/cam": stream_of(clip, "mpegts")}) as web:
        source = opened(web.url("/cam"), mode="live")
        web.stop()
        lost(source, "the connection was lost", SLACK_S)
    with Nginx(place) as nginx, Publisher(place, clip, nginx.rtmp(), loop=True):
        source = opened(nginx.rtmp(), mode="live")
        nginx.kill()
        lost(source, "the connection was lost", SLACK_S)
    address = f"srt://127.0.0.1:{free_port(udp=True)}"
    with Publisher(place, clip, f"{address}?mode=listener", loop=True) as camera:
        source = opened(address, mode="live")
        camera.stop()
        lost(source, "has ended: the connection ended", SLACK_S)


def test_a_file_that_a_server_breaks_off(opened: Opener, place: Path) -> None:
    """It has told how long it is."""
    long = make_clip(place / "long.ts", *H264, "-b:v", "2M", "-minrate", "2M", seconds=4, size="128x96")
    data = long.read_bytes()

    def half(handler):  # type: ignore[no-untyped-def]
        start = handler.headers.get("Range", "bytes=0-").split("=")[1].split("-")[0]
        if int(start) > 0:  # the demuxer looks at the end, for the last time there
            file(long)(handler)
            return
        handler.begin(Content_Type="video/mp2t", Content_Length=str(len(data)), Accept_Ranges="bytes")
        handler.wfile.write(data[: len(data) // 2])

    with HttpServer({"/a.ts": half}) as server:
        source = opened(server.url("/a.ts"))
        assert source.finite
        lost(source, "broke off", 5)


def test_a_source_that_hangs_is_closed_at_once(opened: Opener, mute_after_all: HttpServer) -> None:
    """The thread comes out of its read at the deadline, and only then gives back what it held."""
    before = psutil.Process().num_fds()
    source = opened(mute_after_all.url("/cam"), mode="live", source_timeout=1)
    source.start()
    wait_for(lambda: [one for one in iter(source.take, None)] and source.pictures >= 45, 5, "the last pictures")
    began = time.monotonic()
    source.close()
    source.close()
    assert time.monotonic() - began < 0.2
    assert not source.ended
    wait_for(lambda: source.drained, 1 + SLACK_S, "the end of the read")
    assert source.error is None
    mute_after_all.stop()  # it holds the other end
    wait_for(lambda: psutil.Process().num_fds() <= before, 2, "all descriptors given back")


def test_nothing_is_left_of_fifty_openings(opened: Opener, place: Path, clip: Path) -> None:
    """Of good ones and of failures, read, unread and in the middle of it."""
    routes = {"/a.mp4": file(clip), "/page": page, "/mp3": file(clip, "audio/mpeg")}
    with RtspServer(place, {"clip": clip}) as rtsp_server, HttpServer(routes) as web:
        good = [web.url("/a.mp4"), web.url("/mp3"), str(clip)]
        bad = [web.url("/page"), web.url("/none"), "rtsp://127.0.0.1:9/x", rtsp_server.play("none"), "/dev/null"]
        addresses = good * 6 + bad * 6 + [rtsp_server.play("clip"), "srt://127.0.0.1"] * 2
        before = set(threading.enumerate())
        used: list[tuple[int, int]] = []
        for turn in range(2):
            for number, address in enumerate(addresses[:: 1 if turn else 5]):
                try:
                    source = opened(address, source_timeout=3)
                except SourceError:
                    continue
                if number % 3:
                    source.start()
                if number % 3 == 2:
                    wait_for(source.take, 5, "a packet")
                source.close()
            wait_for(lambda: set(threading.enumerate()) <= before, 10, "all threads gone")
            me = psutil.Process()
            used.append((me.num_fds(), me.memory_info().rss))
        (fds, memory), (more_fds, more_memory) = used
        assert more_fds <= fds, os.listdir("/proc/self/fd")
        assert more_memory - memory < 8 * 2**20
