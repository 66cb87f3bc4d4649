"""Chosen tracks that fall silent while others are still sent: the source ends within its deadline, and lets go of the
connection, so that it can be opened again."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from producer.inputs.deadline import Deadline
from producer.inputs.plan import make_plan
from producer.inputs.reader import Reader, Silent
from producer.source import Source
from tests.producer.test_inputs_faults import SLACK_S, lost
from tests.servers import HOST, bound, free_port
from tests.servers_http import Handler, HttpServer
from tests.support import ffmpeg, make_clip, wait_for

Opener = Callable[..., Source]
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "10")
#: Deadline of the sources, and length of the clips, in seconds.
READ_S, CLIP_S = 1.0, 1.0
DATAGRAM = 7 * 188


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("silence")


@pytest.fixture(scope="module")
def clip(place: Path) -> bytes:
    return make_clip(place / "one.ts", *H264, seconds=CLIP_S, size="96x64").read_bytes()


@pytest.fixture(scope="module")
def renumbered(place: Path) -> bytes:
    """The stream of the same encoder after a restart that has given its tracks other numbers."""
    other = ("-mpegts_start_pid", "0x300")
    return make_clip(place / "other.ts", *H264, *other, seconds=CLIP_S, size="96x64").read_bytes()


def pieces(data: bytes, stopping: threading.Event) -> Iterator[bytes]:
    """Of a clip, at its own speed."""
    count = -(-len(data) // DATAGRAM)
    for at in range(0, len(data), DATAGRAM):
        if stopping.wait(CLIP_S / count):
            return
        yield data[at : at + DATAGRAM]


def serve(first: bytes, then: bytes) -> Callable[[Handler], None]:
    """``first`` once, and ``then`` again and again."""

    def route(handler: Handler) -> None:
        stopping = handler.server.stopping
        handler.begin(Content_Type="video/mp2t")
        for piece in pieces(first, stopping):
            handler.wfile.write(piece)
        while not stopping.is_set():
            for piece in pieces(then, stopping):
                handler.wfile.write(piece)

    return route


def test_tracks_with_other_numbers_over_http(opened: Opener, clip: bytes, renumbered: bytes) -> None:
    served = threading.Event()

    def route(handler: Handler) -> None:
        try:
            serve(clip, renumbered)(handler)
        except OSError:
            served.set()
            raise

    with HttpServer({"/cam": route}) as server:
        source = opened(server.url("/cam"), mode="live", source_timeout=READ_S)
        lost(source, "is mute", CLIP_S + READ_S + SLACK_S)
        assert source.pictures > 10
        source.close()
        wait_for(served.is_set, 5, "the connection closed")
        again = opened(server.url("/cam"), mode="live", source_timeout=READ_S)
        again.close()


def test_tracks_with_other_numbers_over_udp(opened: Opener, clip: bytes, renumbered: bytes) -> None:
    port, restarted, stopping = free_port(udp=True), threading.Event(), threading.Event()

    def send() -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as one:
            while not stopping.is_set():
                for piece in pieces(renumbered if restarted.is_set() else clip, stopping):
                    one.sendto(piece, (HOST, port))

    sender = threading.Thread(target=send)
    sender.start()
    try:
        source = opened(f"udp://{HOST}:{port}", mode="live", source_timeout=READ_S)
        restarted.set()
        lost(source, "is mute", CLIP_S + READ_S + SLACK_S)
        source.close()
        wait_for(lambda: not bound(port), 5, "the port free again")
        again = opened(f"udp://{HOST}:{port}", mode="live", source_timeout=READ_S)
        assert again.video.id == 0x300
    finally:
        stopping.set()
        sender.join()


def test_a_track_that_is_left_out_goes_on(opened: Opener, place: Path, clip: bytes) -> None:
    make_clip(place / "small.ts", *H264, seconds=CLIP_S, size="32x32")
    ffmpeg("-i", place / "one.ts", "-i", place / "small.ts", "-map", "0:v", "-map", "1:v", "-c", "copy",
           place / "both.ts")  # fmt: skip
    both = (place / "both.ts").read_bytes()
    packets = [both[at : at + 188] for at in range(0, len(both), 188)]
    dead = b"".join(one for one in packets if (one[1] & 31) << 8 | one[2] != 0x100)
    with HttpServer({"/cam": serve(both, dead)}) as server:
        source = opened(server.url("/cam"), mode="live", source_timeout=READ_S)
        assert source.omitted == ["track 1: video (h264)"]
        lost(source, "gives no picture for 1 s, while other tracks go on", CLIP_S + READ_S + SLACK_S)


def test_tracks_with_other_numbers_out_of_a_program(
    opened: Opener, place: Path, clip: bytes, renumbered: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SRT comes, whose program writes into a pipe; a pipe of a user's has no deadline."""
    monkeypatch.setattr("producer.source.make_plan", lambda stream: replace(make_plan(stream), read_s=READ_S))
    fifo, stopping = place / "fifo", threading.Event()
    os.mkfifo(fifo)

    def write() -> None:
        with contextlib.suppress(OSError), fifo.open("wb", buffering=0) as pipe:
            pipe.write(clip * 2)
            while not stopping.is_set():
                for piece in pieces(renumbered, stopping):
                    pipe.write(piece)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        lost(opened(fifo), "is mute", CLIP_S + READ_S + SLACK_S)
    finally:
        stopping.set()
        writer.join()


def test_a_pipe_that_gives_other_things_is_no_better_than_one_that_is_silent() -> None:
    reading, writing = os.pipe()
    reader = Reader(reading, READ_S, owns=True)
    began = time.monotonic()
    try:
        with Deadline(0.2), pytest.raises(Silent):
            while time.monotonic() < began + 5:
                os.write(writing, b"x")
                assert reader.read(10) == b"x"
        assert time.monotonic() - began < SLACK_S
        with Deadline(None):  # what was written last
            assert reader.read(10) == b"x"
    finally:
        reader.close()
        os.close(writing)
