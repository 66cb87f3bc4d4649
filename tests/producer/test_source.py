"""Sources: which tracks are taken, how far the demuxer runs ahead, and one clear line for what cannot be read."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from common.errors import SourceError
from producer import source as module
from producer.source import Demuxed, Source, cut_short
from tests.support import ffmpeg, make_clip, wait_for

H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "10")
TONE = "-c:a aac -ac 1"
Opener = Callable[..., Source]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sources")


@pytest.fixture(scope="module")
def clip(folder: Path) -> Path:
    return make_clip(folder / "clip.mp4", *H264, seconds=2, size="96x64", sound=TONE)


def everything(source: Source) -> list[Demuxed]:
    source.start()
    return rest(source)


def rest(source: Source) -> list[Demuxed]:
    taken: list[Demuxed] = []

    def step() -> bool:
        while (one := source.take()) is not None:
            taken.append(one)
        return source.drained

    wait_for(step, 10, "the end of the source")
    return taken


def test_a_file_with_sound(opened: Opener, clip: Path) -> None:
    source = opened(clip)
    assert [track.type for track in source.tracks] == ["video", "audio"]
    assert (source.live, source.omitted) == (False, [])
    assert (source.rate, source.expected_frames) == (Fraction(25), 50)
    taken = everything(source)
    assert source.error is None
    pictures = [one.packet for one in taken if one.track == 0]
    assert len([packet for packet in pictures if packet.size]) == source.pictures == 50
    assert pictures[-1].size == 0, "the end of the track is told"
    assert any(one.track == 1 for one in taken)
    assert cut_short(source) is None


@pytest.mark.parametrize(("sound", "count"), [("all", 2), ("first", 1), ("none", 0)])
def test_sound_tracks_are_chosen(opened: Opener, folder: Path, clip: Path, sound: str, count: int) -> None:
    path = folder / "two.mkv"
    if not path.exists():
        ffmpeg("-i", clip, "-i", clip, "-map", "0:v", "-map", "0:a", "-map", "1:a", "-c", "copy", path)
    source = opened(path, sound)
    assert len(source.audio) == count
    assert len(source.omitted) == 2 - count


def test_the_picture_is_the_default_or_largest_track_and_never_the_cover(
    opened: Opener, folder: Path, clip: Path
) -> None:
    cover, two = folder / "cover.mp4", folder / "large.mkv"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=400x400", "-frames:v", "1", folder / "cover.png")
    ffmpeg("-i", folder / "cover.png", "-i", clip, "-map", "0", "-map", "1:v", "-c", "copy", "-disposition:v:0",
           "attached_pic", cover)  # fmt: skip
    large = make_clip(folder / "large.mp4", *H264, seconds=1, size="128x96")
    ffmpeg("-i", clip, "-i", large, "-map", "0:v", "-map", "1:v", "-c", "copy", "-disposition:v", "0", two)
    source = opened(cover)
    assert source.video.width == 96
    assert "track 1: video (png)" in source.omitted
    assert opened(two).video.width == 128


def test_the_demuxer_runs_ahead_only_so_far(opened: Opener, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AHEAD_PACKETS", 5)
    woken: list[int] = []
    source = opened(clip, notify=lambda: woken.append(1))
    source.start()
    wait_for(lambda: len(source._queue) == 5, 5, "a full queue")
    assert not source.ended
    assert len(woken) == 5
    source.take()
    wait_for(lambda: len(woken) == 6, 5, "the next packet")
    source.stop()
    wait_for(lambda: source.drained, 5, "the end")
    assert source.take() is None


def test_bytes_count_as_well(opened: Opener, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AHEAD_BYTES", 1)
    source = opened(clip)
    source.start()
    wait_for(lambda: len(source._queue) == 1, 5, "one packet")
    source.take()
    wait_for(lambda: len(source._queue) == 1, 5, "the next packet")
    monkeypatch.undo()
    assert len(rest(source)) > 50
    assert source._bytes == 0


def test_a_trimmed_file_is_whole(opened: Opener, folder: Path, clip: Path) -> None:
    """The edit list hides pictures that are in the file: fewer are decoded than the header counts."""
    path = folder / "trimmed.mp4"
    ffmpeg("-ss", "0.7", "-i", clip, "-map", "0:v", "-c", "copy", path)
    source = opened(path)
    everything(source)
    assert cut_short(source) is None


def test_a_file_that_was_cut_off_is_named(opened: Opener, folder: Path) -> None:
    whole = make_clip(folder / "fast.mp4", *H264, "-movflags", "faststart", seconds=2, size="96x64")
    half = folder / "half.mp4"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    source = opened(half)
    everything(source)
    said = cut_short(source)
    assert said is not None
    assert "promises 50 frames" in said


def test_an_unknown_codec_is_named(opened: Opener, folder: Path, clip: Path) -> None:
    mkv, strange, mute = folder / "known.mkv", folder / "strange.mkv", folder / "mute.mkv"
    ffmpeg("-i", clip, "-c", "copy", mkv)
    strange.write_bytes(mkv.read_bytes().replace(b"V_MPEG4/ISO/AVC", b"V_XPEG4/ISO/AVC"))
    mute.write_bytes(mkv.read_bytes().replace(b"A_AAC", b"A_XXC"))
    with pytest.raises(SourceError, match=r"no video track: it holds video \(unknown codec\), audio"):
        opened(strange)
    source = opened(mute)
    assert source.audio == []
    assert source.omitted == ["track 1: audio (unknown codec)"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.mp4", None, "no such file"),
        ("empty.mp4", b"", "empty"),
        ("text.mp4", b"hello world\n" * 100, "cannot be read as a video"),
        ("bad.mp4", struct.pack(">I4s", 24, b"ftyp") + b"isom" * 4 + bytes(1000), "cannot be read as a video"),
    ],
)
def test_what_is_no_video(opened: Opener, tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=said) as caught:
        opened(path)
    assert "\n" not in str(caught.value)


def test_folders_and_sound_only(opened: Opener, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="folder"):
        opened(tmp_path)
    ffmpeg("-f", "lavfi", "-i", "sine=440", "-t", "0.2", tmp_path / "tone.wav")
    with pytest.raises(SourceError, match=r"no video track: it holds audio \(pcm_s16le\)"):
        opened(tmp_path / "tone.wav")


def test_a_server_that_is_not_there_and_no_password_in_the_message(opened: Opener) -> None:
    with pytest.raises(SourceError, match=r"cannot be opened: Connection refused") as caught:
        opened("rtsp://bob:hunter2@127.0.0.1:9/x")
    assert "hunter2" not in str(caught.value)
