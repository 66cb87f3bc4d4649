"""Every kind of source in one fleet: real servers, one stream each, judged by the numbers in their pictures."""

from __future__ import annotations

import contextlib
import itertools
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.marks import slow
from tests.servers import Nginx, Publisher, RtspServer, SrtRelay, free_port, standard_input
from tests.servers_http import HttpServer, stream_of
from tests.support import Place, ffmpeg, ledger, lines, numbered_clip, numbers, sound_packets, wait_for

#: Pictures of the clip that is published again and again: ten seconds.
FRAMES = 250
#: Pictures that are wanted of each live stream: two seconds.
WANTED = 50
#: Share of pictures that must be there: producers are live, and a dozen of them share two cores.
SHARE = 0.8
#: Time in which they all come up and give their pictures, on a machine that does other things as well, in seconds.
RUN_S = 100.0
#: The pictures that a server had at hand when it was asked: the next ones come when it is told to play.
HELD = 2
#: Together, so that the parts start once; the others differ in little.
MAIN = ("rtsp-tcp", "rtmp", "hls", "mjpeg", "srt", "stdin", "pictures")
OTHERS = ("rtsp-udp", "http-ts", "udp", "rtp")


@dataclass(frozen=True, slots=True)
class Kind:
    """One stream, and what is special about it."""

    name: str
    source: str
    sound: bool = True
    finite: int = 0  #: how many pictures there are in all
    keys: dict[str, str] = field(default_factory=dict)

    def toml(self) -> str:
        keys = {"name": self.name, "source": self.source, **self.keys}
        text = "".join(f'{key} = "{value}"\n' for key, value in keys.items())
        return f'[[streams]]\n{text}outputs = ["{self.name}.mkv", "{self.name}.jsonl"]\n'


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inputs") / "clip.mp4"
    codec = ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "25")
    return numbered_clip(path, FRAMES, *codec, sound="-c:a aac -ac 1")


@contextlib.contextmanager
def servers(folder: Path, clip: Path) -> Iterator[list[Kind]]:
    """All of them, with somebody who publishes."""
    udp, rtp = (f"{scheme}://127.0.0.1:{free_port(udp=True)}" for scheme in ("udp", "rtp"))
    frames = folder / "frames"
    frames.mkdir()
    ffmpeg("-i", clip, "-frames:v", "30", "-q:v", "2", frames / "%d.jpg")
    with (
        RtspServer(folder) as rtsp,
        Nginx(folder) as nginx,
        SrtRelay(folder) as srt,
        HttpServer(
            {"/ts": stream_of(clip, "mpegts"), "/mjpeg": stream_of(clip, "mpjpeg", "-an", "-c:v", "mjpeg", "-q:v", "2")}
        ) as web,
        Publisher(folder, clip, rtsp.publish(), loop=True),
        Publisher(folder, clip, nginx.rtmp(), loop=True),
        Publisher(folder, clip, srt.publish(), loop=True),
        Publisher(folder, clip, f"{udp}?pkt_size=1316", loop=True),
        Publisher(folder, clip, rtp, loop=True),
    ):
        wait_for(nginx.has_hls, 20, "a playlist")
        yield [
            Kind("rtsp-tcp", rtsp.play()),
            Kind("rtsp-udp", rtsp.play(), keys={"transport": "udp"}),
            Kind("rtmp", nginx.rtmp()),
            Kind("hls", nginx.hls()),
            Kind("http-ts", web.url("/ts")),
            Kind("mjpeg", web.url("/mjpeg"), sound=False),
            Kind("udp", udp),
            Kind("rtp", rtp),
            Kind("srt", srt.play()),
            Kind("stdin", "-", finite=WANTED),
            Kind("pictures", f"{frames}/*.jpg", sound=False, finite=30),
        ]


@pytest.mark.parametrize("which", [MAIN, slow(OTHERS)], ids=["main", "others"])
def test_every_kind_of_source(place: Place, clip: Path, which: tuple[str, ...]) -> None:
    with servers(place.folder, clip) as offered:
        kinds = [kind for kind in offered if kind.name in which]
        assert len(kinds) == len(which)
        defaults = '[workers]\nmodel = "echo"\n[defaults]\nsource_wait = "60s"\nencoding = {preset = "ultrafast"}\n'
        (place.folder / "fleet.toml").write_text(defaults + "".join(kind.toml() for kind in kinds))
        whole = clip.with_suffix(".ts")
        ffmpeg("-i", clip, "-c", "copy", "-frames:v", str(WANTED), "-t", str(WANTED / 25), whole)
        with whole.open("rb") as data, standard_input(data.fileno()):
            process = place.start("run", "-c", "fleet.toml", err=place.folder / "err")
        try:

            def enough() -> bool:
                assert process.poll() is None, (place.folder / "err").read_text()[-3000:]
                return all(written(place, kind) >= (kind.finite or WANTED) for kind in kinds)

            wait_for(enough, RUN_S, "pictures of all streams")
            process.send_signal(signal.SIGINT)
            process.wait(30)
        finally:
            if process.poll() is None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(15)
    assert process.returncode == 130, (place.folder / "err").read_text()[-3000:]
    for kind in kinds:
        judge(place.folder / f"{kind.name}.mkv", kind)


def written(place: Place, kind: Kind) -> int:
    path = place.folder / f"{kind.name}.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def judge(path: Path, kind: Kind) -> None:
    """In order, next to nothing missing, and with its sound."""
    found = numbers(path)
    if kind.finite:
        assert found == list(range(kind.finite)), kind.name
        assert ledger(path)["frames"] == kind.finite
    else:
        steps = [(after - before) % FRAMES for before, after in itertools.pairwise(found[HELD:])]
        assert all(0 < step < FRAMES / 2 for step in steps), f"{kind.name}: {found}"
        assert steps.count(1) >= SHARE * len(steps), f"{kind.name}: {found}"
        assert len(found) >= SHARE * WANTED, kind.name
    assert [line["index"] for line in lines(path.with_suffix(".jsonl"))] == list(range(ledger(path)["frames"]))
    if kind.sound:
        seconds = len(found) / 25
        assert len(sound_packets(path)) >= SHARE * seconds * 48_000 / 1024, kind.name
