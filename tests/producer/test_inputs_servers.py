"""Sources of real servers: what is known of each kind, how fast they open, and that packets come."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from common.errors import SourceError
from producer.inputs.plan import UDP_BUFFER
from producer.source import Demuxed, Source
from tests.marks import slow
from tests.producer.test_source import everything
from tests.servers import Nginx, Publisher, RtspServer, SrtRelay, bound, free_port
from tests.servers_http import HttpServer, file, folder, paced, stream_of
from tests.support import ffmpeg, make_clip, wait_for

Opener = Callable[..., Source]
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency")
AAC = "-c:a aac -ac 1"
#: A live source with a keyframe a second is open by then, on a machine that does other things as well.
OPEN_S = 5.0
#: And one of four pictures a second, which FFmpeg by itself looks at for at least five seconds.
SLOW_S = 4.0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="module")
def clip(place: Path) -> Path:
    return make_clip(place / "clip.mp4", *H264, "-g", "25", seconds=6, size="128x96", sound=AAC)


@contextlib.contextmanager
def serving(kind: str, place: Path, clip: Path, sound: bool = True) -> Iterator[tuple[str, dict[str, str]]]:
    """A live server of that kind: gives its address and fields of the stream."""
    with contextlib.ExitStack() as stack:

        def publish(address: str) -> None:
            stack.enter_context(Publisher(place, clip, address, loop=True))

        if kind in ("rtsp-tcp", "rtsp-udp"):
            server = stack.enter_context(RtspServer(place))
            publish(server.publish(sound=sound))
            yield server.play(), {"transport": kind[5:]}
        elif kind == "rtmp":
            nginx = stack.enter_context(Nginx(place))
            publish(nginx.rtmp())
            yield nginx.rtmp(), {}
        elif kind == "srt":
            relay = stack.enter_context(SrtRelay(place))
            publish(relay.publish())
            yield relay.play(), {}
        elif kind in ("udp", "rtp"):
            address = f"{kind}://127.0.0.1:{free_port(udp=True)}"
            publish(address + ("?pkt_size=1316" if kind == "udp" else ""))
            yield address, {}
        else:
            web = stack.enter_context(HttpServer({"/cam": stream_of(clip, "mpegts")}))
            yield web.url("/cam"), {}


def some(source: Source, pictures: int = 20, seconds: float = 10) -> list[Demuxed]:
    """Packets up to so many of the picture."""
    taken: list[Demuxed] = []

    def enough() -> bool:
        while (one := source.take()) is not None:
            taken.append(one)
        return source.pictures >= pictures or source.ended

    source.start()
    wait_for(enough, seconds, f"{pictures} pictures")
    return taken


@pytest.mark.parametrize("kind", ["rtsp-tcp", "rtsp-udp", "rtmp", slow("http-ts"), "udp", "rtp", "srt"])
def test_a_live_server(opened: Opener, place: Path, clip: Path, kind: str) -> None:
    with serving(kind, place, clip) as (address, fields):
        began = time.monotonic()
        source = opened(address, mode="live", **fields)
        assert time.monotonic() - began < OPEN_S
        assert (source.live, source.finite, source.rereadable) == (True, False, False)
        assert sorted(track.codec_context.name for track in source.tracks) == ["aac", "h264"]
        assert (source.video.width, source.video.height, source.rate) == (128, 96, 25)
        assert (source.audio[0].codec_context.sample_rate, source.audio[0].codec_context.channels) == (48000, 1)
        assert source.discontinuous == (kind in ("http-ts", "udp", "srt"))
        assert source.video_time_base == Fraction(1, 1000 if kind == "rtmp" else 90_000)
        taken = some(source)
        assert source.error is None
        assert {one.track for one in taken} == {0, 1}
        now = time.monotonic()
        assert [one.at for one in taken] == sorted(one.at for one in taken)
        assert all(began < one.at < now for one in taken)
        source.close()
        wait_for(lambda: source.drained, 5, "the end")
        assert source.error is None, "nothing is wrong with being closed"


@pytest.mark.parametrize("kind", ["rtsp-tcp", slow("http-ts"), "rtmp"])
def test_few_pictures_a_second_are_no_reason_to_wait(opened: Opener, place: Path, kind: str) -> None:
    """By itself FFmpeg looks at 20 pictures (40 of RTMP), which takes five seconds here. Without sound there is none to
    wait for."""
    slow = make_clip(place / f"slow-{kind}.mp4", *H264, "-g", "4", seconds=6, size="128x96", rate="4")
    with serving(kind, place, slow, sound=False) as (address, fields):
        began = time.monotonic()
        source = opened(address, mode="live", source_timeout=15, **fields)
        assert time.monotonic() - began < SLOW_S
        assert source.audio == []
        assert source.rate == 4


@pytest.fixture(scope="module")
def hls(place: Path, clip: Path) -> Path:
    """A folder with ``vod.m3u8`` and ``live.m3u8``, the same without its end."""
    root = place / "hls"
    root.mkdir()
    ffmpeg("-i", clip, "-c", "copy", "-f", "hls", "-hls_time", "1", "-hls_list_size", "0", root / "vod.m3u8")
    text = (root / "vod.m3u8").read_text()
    (root / "live.m3u8").write_text(text.replace("#EXT-X-ENDLIST\n", ""))
    return root


def test_hls_with_an_end(opened: Opener, hls: Path) -> None:
    """On the network and here: all of it, as fast as it can be taken."""
    with HttpServer(folder(hls)) as server:
        source = opened(server.url("/vod.m3u8"))
        assert (source.live, source.finite, source.rereadable, source.discontinuous) == (True, True, True, True)
        taken = everything(source)
        assert source.error is None
        assert len([one for one in taken if one.track == 0 and one.packet.size]) == 150
    here = opened(hls / "vod.m3u8")
    assert (here.live, here.finite, here.rereadable) == (False, True, True)
    assert len([one for one in everything(here) if one.track == 0 and one.packet.size]) == 150


def test_hls_that_is_live(opened: Opener, hls: Path) -> None:
    """From the third segment before its end on, at the speed at which it plays; the playlist's kind counts, not its
    name."""
    routes = folder(hls)
    with HttpServer({**routes, "/cam": routes["/live.m3u8"]}) as server:
        for path in ("/live.m3u8", "/cam"):
            source = opened(server.url(path), mode="live")
            assert (source.live, source.finite, source.rereadable) == (True, False, False)
        taken = [one for one in some(source, 50) if one.track == 0]
        assert taken[0].packet.is_keyframe
        assert taken[49].at - taken[0].at == pytest.approx(49 / 25, abs=0.3)
    here = opened(hls / "live.m3u8")
    assert (here.live, here.finite) == (True, False)


def test_a_file_on_a_server(opened: Opener, place: Path, clip: Path) -> None:
    """It has an end, and can be read again; live, it plays at its own speed."""
    with HttpServer({"/a.mp4": file(clip)}) as server:
        source = opened(server.url("/a.mp4"))
        assert (source.live, source.finite, source.rereadable, source.expected_frames) == (True, True, True, 150)
        assert len([one for one in everything(source) if one.track == 0 and one.packet.size]) == 150
        assert source.error is None
        taken = [one for one in some(opened(server.url("/a.mp4"), mode="live"), 25) if one.track == 0]
        assert taken[24].at - taken[0].at == pytest.approx(24 / 25, abs=0.3)


def test_mjpeg_has_the_times_of_its_arrival(opened: Opener, place: Path, clip: Path) -> None:
    """FFmpeg's demuxer makes 25 pictures a second of anything."""
    route = stream_of(clip, "mpjpeg", "-c:v", "mjpeg", "-an", "-r", "10")
    with HttpServer({"/cam.mjpg": route}) as server:
        source = opened(server.url("/cam.mjpg"), mode="live")
        assert (source.live, source.finite, source.rate, source.constant_rate) == (True, False, None, None)
        assert source.video_time_base == Fraction(1, 90_000)
        assert source.start_time is None
        taken = some(source, 15)[:15]
        times = [one.packet.pts for one in taken]
        assert times[0] == 0
        assert times == sorted(set(times))
        assert all(one.packet.dts == one.packet.pts for one in taken)
        assert {one.packet.time_base for one in taken} == {Fraction(1, 90_000)}
        seconds = (times[14] - times[4]) / 90_000  # the first ones were there when it was opened
        assert 0.8 < seconds < 1.8  # at 25 a second it were 0.4


def test_sound_that_starts_late_is_found(opened: Opener, place: Path, clip: Path) -> None:
    for muxer, name in (("mpegts", "late.ts"), ("flv", "late.flv")):
        ffmpeg("-i", clip, "-itsoffset", "1.6", "-i", clip, "-map", "0:v", "-map", "1:a", "-c", "copy", "-t", "5",
               "-max_interleave_delta", "100000", place / name)  # fmt: skip
        with HttpServer({"/cam": paced(place / name, muxer, 5)}) as server:
            source = opened(server.url("/cam"), mode="live")
            assert [one.codec_context.sample_rate for one in source.audio] == [48000], name


def test_a_keyframe_that_is_long_in_coming_is_waited_for(opened: Opener, place: Path) -> None:
    """With a deadline of two seconds, tracks are looked for 1.2 s at first; the keyframe comes after two."""
    long = make_clip(place / "long.ts", *H264, "-g", "75", seconds=6, size="128x96", sound=AAC)
    joined, short = place / "joined.ts", place / "short.ts"
    ffmpeg("-i", long, "-copyinkf", "-ss", "1", "-c", "copy", joined)
    ffmpeg("-i", long, "-copyinkf", "-ss", "2", "-t", "0.9", "-c", "copy", short)
    with HttpServer({"/cam": paced(joined, "mpegts", 5), "/short": paced(short, "mpegts", 0.9)}) as server:
        source = opened(server.url("/cam"), mode="live", source_timeout=2)
        assert source.video.width == 128
        assert server.requests == ["/cam"] * 2
        with pytest.raises(SourceError, match="has a video track without a picture"):
            opened(server.url("/short"), mode="live", source_timeout=2)


def test_options_for_datagrams_have_an_effect(opened: Opener, place: Path, clip: Path) -> None:
    """The kernel has given the socket the buffer, or what it allows; and what is in the address comes first."""
    allowed = min(UDP_BUFFER, int(Path("/proc/sys/net/core/rmem_max").read_text()))
    port = free_port(udp=True)
    with Publisher(place, clip, f"udp://127.0.0.1:{port}?pkt_size=1316", loop=True):
        for query, expected in (("", allowed), ("?buffer_size=100000", 100_000)):
            source = opened(f"udp://127.0.0.1:{port}{query}", mode="live")
            assert buffer_of(port) == 2 * expected  # the kernel counts its own needs as well
            source.close()
            wait_for(lambda: not bound(port), 5, "the port given back")


def buffer_of(port: int) -> int:
    """The receive buffer of this process's UDP socket at ``port``, in bytes."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                with socket.socket(fileno=os.dup(int(name))) as one:
                    if one.type == socket.SOCK_DGRAM and one.getsockname()[1] == port:
                        return one.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    raise AssertionError(f"no socket at {port}")
