"""Files that were closed after the last checkpoint, and MP4 files that were never closed: nothing in them is lost."""

from __future__ import annotations

import subprocess
from pathlib import Path

import av
import pytest

from sink.outputs.container import ContainerOutput
from sink.outputs.editlist import FOREVER, lengthen
from sink.outputs.place import Mark
from sink.outputs.survey import survey
from sink.sound import Sound
from tests.support import ffmpeg, frame_times, make_clip, sound_packets

FRAMES = 75


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No B-frames, as the encoder writes it, and AAC that starts later than zero and has ADTS headers."""
    path = tmp_path_factory.mktemp("clip") / "clip.ts"
    return make_clip(path, "-c:v", "libx264", "-bf", "0", "-g", "25", seconds=3, size="96x64", sound="-c:a aac")


def written(clip: Path, path: Path) -> tuple[ContainerOutput, Mark]:
    """``clip`` in a file that is not closed yet, and its mark."""
    with av.open(str(clip)) as source:
        picture, tone = source.streams.video[0], source.streams.audio[0]
        output = ContainerOutput(path, path.suffix[1:], [Sound(tone, {path.suffix[1:]})])
        for packet in source.demux(picture, tone):
            if packet.size and packet.stream is picture:
                output.video(packet, packet.duration or 0, picture)
            elif packet.size:
                output.sound(0, packet)
    return output, output.mark()


@pytest.mark.parametrize("kind", ["mp4", "mkv", "ts"])
def test_what_was_closed_after_the_checkpoint_stays_whole(clip: Path, tmp_path: Path, kind: str) -> None:
    """A sink that is killed between closing a file and saying so: an MP4 would have lost its only index."""
    path = tmp_path / f"out.{kind}"
    output, mark = written(clip, path)
    output.close()
    position = survey([mark])[str(path)]
    assert [part.path for part in position.parts] == [str(path)]
    assert position.after is not None
    last = frame_times(clip)[-1]
    assert abs(position.after - last) < (0.1 if kind == "ts" else 0.002)  # TS may be cut: its end is nothing special
    done = subprocess.run(["ffmpeg", "-v", "error", "-i", path, "-f", "null", "-"], capture_output=True, text=True)
    assert done.stderr == ""


@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_what_was_not_closed_is_cut(clip: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"out.{kind}"
    output, mark = written(clip, path)
    output.discard()
    with path.open("ab") as file:
        file.write(b"half a fragment")
    survey([mark])
    assert path.stat().st_size == mark.size


def test_the_first_fragment_is_shown_though_the_file_was_never_closed(clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    output, _ = written(clip, path)
    output.discard()
    shown, wanted = frame_times(path), frame_times(clip)
    assert shown == wanted[: len(shown)]
    assert len(shown) > FRAMES / 2
    assert len(sound_packets(path)) > 50


def test_edits_that_have_a_length_are_left_alone(tmp_path: Path) -> None:
    """In version 1 as well (64-bit numbers)."""
    path = tmp_path / "clip.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=96x64", "-t", "1", "-c:v", "libx264", "-bf", "2", path)
    data = path.read_bytes()
    assert lengthen(data) == data
    assert lengthen(data[: data.find(b"moov") - 4]) is None
    wide = box(b"moov", box(b"trak", box(b"edts", box(b"elst", bytes([1, 0, 0, 0, 0, 0, 0, 1]) + bytes(16 + 4)))))
    changed = lengthen(wide)
    assert changed is not None
    assert changed == wide[:-20] + FOREVER.to_bytes(8, "big") + wide[-12:]


@pytest.mark.parametrize(
    "data", [b"moov", b"\0\0\0\0moov", b"\xff\xff\xff\xffmoov\0\0\0\x10trak", b"\0\0\0\x18moov" * 3]
)
def test_nonsense_is_left_alone(data: bytes) -> None:
    assert lengthen(data) in (None, data)


def box(kind: bytes, content: bytes) -> bytes:
    return (len(content) + 8).to_bytes(4, "big") + kind + content
