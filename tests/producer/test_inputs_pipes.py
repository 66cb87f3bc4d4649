"""Pipes, standard input and pictures: read as they come, broken off at once, with nothing lost at the beginning."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import pytest

from common.errors import SourceError
from producer.inputs import reader as module
from producer.inputs.reader import Reader, Silent
from producer.source import Source
from tests.producer.test_source import H264, everything
from tests.servers import standard_input
from tests.support import ffmpeg, make_clip, wait_for

Opener = Callable[..., Source]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pipes")


@pytest.fixture(scope="module")
def clip(folder: Path) -> Path:
    return make_clip(folder / "clip.ts", *H264, seconds=2, size="96x64", sound="-c:a aac -ac 1")


@pytest.fixture
def pipe() -> Iterator[tuple[Reader, int]]:
    """A reader that waits for half a second, and the end to write to."""
    fd, end = os.pipe()
    reader = Reader(fd, 0.5, owns=True)
    yield reader, end
    reader.close()
    os.close(end)


def test_bytes_come_as_they_come(pipe: tuple[Reader, int]) -> None:
    reader, end = pipe
    os.write(end, b"abcdef")
    assert reader.read(4) == b"abcd"
    assert reader.read(4) == b"ef"
    began = time.monotonic()
    with pytest.raises(Silent):
        reader.read(1)
    assert 0.4 < time.monotonic() - began < 5


def test_bytes_come_again_until_that_is_settled(pipe: tuple[Reader, int], monkeypatch: pytest.MonkeyPatch) -> None:
    reader, end = pipe
    os.write(end, b"abcdef")
    assert reader.read(2) + reader.read(2) == b"abcd"
    reader.rewind()
    assert reader.read(1) + reader.read(9) == b"ab"
    reader.rewind()
    assert [reader.read(9) for _ in range(4)] == [b"a", b"b", b"cd", b"ef"]
    monkeypatch.setattr(module, "MAX_KEPT", 8)
    os.write(end, b"xyz")
    assert reader.read(9) == b"xyz"
    with pytest.raises(SourceError, match="no picture within"):
        reader.rewind()


def test_a_read_that_waits_is_broken_off() -> None:
    fd, end = os.pipe()
    reader = Reader(fd, None, owns=True)
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(reader.read(9)))
    thread.start()
    reader.stop()
    thread.join(5)
    assert got == [b""]
    assert reader.read(9) == b""
    reader.close()
    reader.stop()  # late, and of no consequence
    os.close(end)


def test_a_fifo(opened: Opener, tmp_path: Path, clip: Path) -> None:
    """Opened before somebody writes; its end is natural, and it cannot be read again."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    found: list[Source] = []
    opening = threading.Thread(target=lambda: found.append(opened(fifo)))
    opening.start()
    wait_for(lambda: fifo in [one.resolve() for one in Path("/proc/self/fd").iterdir()], 5, "the pipe's opening")
    fifo.write_bytes(clip.read_bytes())
    opening.join(10)
    (source,) = found
    assert (source.live, source.finite, source.rereadable) == (False, True, False)
    assert [track.codec_context.name for track in source.tracks] == ["h264", "aac"]
    taken = everything(source)
    assert len([one for one in taken if one.track == 0 and one.packet.size]) == 50
    assert source.error is None


def test_a_pipe_that_waits_is_let_go_of(opened: Opener, tmp_path: Path, clip: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = subprocess.Popen(["sh", "-c", f"(cat {clip}; sleep 60) > {fifo}"], start_new_session=True)
    try:
        source = opened(fifo)
        source.start()
        wait_for(source.take, 5, "a packet")
        source.close()
        wait_for(lambda: source.drained, 5, "the end")
    finally:
        os.killpg(writer.pid, 9)
        writer.wait()


@pytest.mark.parametrize("redirected", [False, True])
def test_standard_input(opened: Opener, clip: Path, redirected: bool) -> None:
    """A pipe, or a file that is redirected to us, which can then be read again."""
    writer = subprocess.Popen(["cat", clip], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    with clip.open("rb") as data, writer.stdout as piped, standard_input((data if redirected else piped).fileno()):
        source = opened("-")
        taken = everything(source)
        assert (source.live, source.finite, source.rereadable) == (False, True, redirected)
        assert len([one for one in taken if one.track == 0 and one.packet.size]) == 50
        assert source.error is None
    writer.wait(10)


def test_pictures(opened: Opener, tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=96x64:r=5", "-frames:v", "12", tmp_path / "%d.jpg")
    (tmp_path / "notes.txt").write_text("no picture")
    source = opened(tmp_path, picture_rate=5.0)
    assert (source.live, source.finite, source.rereadable, source.rate) == (False, True, True, 5)
    assert source.expected_frames in (12, 13)
    taken = everything(source)
    assert [one.packet.pts for one in taken if one.packet.size] == list(range(12))
    assert taken[-1].packet.size == 0
    assert source.error is None
    with av.open(str(tmp_path / "10.jpg")) as container:
        assert bytes(next(container.demux())) == bytes(taken[9].packet), "in natural order"


def test_pictures_at_their_own_speed(opened: Opener, tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=96x64:r=20", "-frames:v", "12", tmp_path / "%d.jpg")
    source = opened(tmp_path / "*.jpg", picture_rate=20.0, realtime=True)
    taken = everything(source)
    assert taken[11].at - taken[0].at == pytest.approx(11 / 20, abs=0.2)
