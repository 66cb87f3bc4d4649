"""What a user gets wrong, as the user sees it: one clear line, the right exit code, nothing left behind."""

from __future__ import annotations

import os
import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.marks import slow
from tests.support import Place, Ran, ffmpeg, ledger, lines, numbered_clip, numbers

#: A refused run ends within this many seconds, however busy the machine.
PROMPT_S = 30
#: What a user must never see.
NOISE = re.compile(r"Traceback|Error\b(?!:)|Exception|\b0x[0-9a-f]{6}|<[a-z]+ |Warning|\[\w+ @")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Numbered clips of 50 frames: MP4 with its index in front and at the end, MKV, TS."""
    folder = tmp_path_factory.mktemp("clips")
    front = numbered_clip(folder / "front.mp4", 50, "-c:v", "libx264", "-g", "10", "-movflags", "+faststart")
    for name in ("back.mp4", "whole.mkv", "whole.ts"):
        ffmpeg("-i", front, "-c", "copy", folder / name)
    return folder


def refused(ran: Ran, code: int, *words: str) -> None:
    """The run ended with ``code`` and one line that holds ``words``."""
    assert ran.code == code, ran
    said = ran.err.splitlines()
    assert len(said) == 1, ran.err
    assert said[0].startswith("headrace: "), ran.err
    assert len(said[0]) < 400, "too long to be read"
    assert not NOISE.search(ran.err), ran.err
    for word in words:
        assert word in ran.err, (word, ran.err)


def said_last(ran: Ran) -> str:
    """The run's own last word; no noise anywhere."""
    assert not NOISE.search(ran.err), ran.err
    (line,) = [line for line in ran.err.splitlines() if line.startswith("headrace: ")]
    return line


def cut(source: Path, target: Path, share: float) -> Path:
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * share)])
    return target


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("gone.mp4", None, "no such file: gone.mp4"),
        ("empty.mp4", b"", "empty.mp4 is empty"),
        ("text.mp4", b"this is text\n" * 100, "text.mp4 cannot be read as a video"),
        ("http://127.0.0.1:9/x.mp4", None, "Connection refused"),
        ("nosuch://x", None, "nosuch://x cannot be opened"),
    ],
)
def test_not_a_source(place: Place, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (place.folder / name).write_bytes(content)
    ran = place.run("run", name, "-o", "out.mp4", "-o", "out.jsonl", "--model", "echo", timeout=PROMPT_S)
    refused(ran, 3, words)
    assert not list(place.folder.glob("out.*")), "no output was begun"


def test_a_folder_is_no_source(place: Place) -> None:
    refused(place.run("run", ".", "-o", "out.mp4", "--model", "echo", timeout=PROMPT_S), 3, "is a folder")


def test_sound_alone_is_no_source(place: Place) -> None:
    ffmpeg("-f", "lavfi", "-i", "sine=440", "-t", "1", "-c:a", "aac", place.folder / "sound.mp4")
    ran = place.run("run", "sound.mp4", "-o", "out.mp4", "--model", "echo", timeout=PROMPT_S)
    refused(ran, 3, "sound.mp4 has no video track: it holds audio (aac)")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable(place: Place) -> None:
    (place.folder / "secret.mp4").touch(mode=0)
    refused(place.run("run", "secret.mp4", "-o", "out.mp4", "--model", "echo"), 3, "may not be read")


def test_index_cut_off(place: Place, clips: Path) -> None:
    cut(clips / "back.mp4", place.folder / "cut.mp4", 0.5)
    ran = place.run("run", "cut.mp4", "-o", "out.mp4", "--model", "echo", timeout=PROMPT_S)
    refused(ran, 3, "cut.mp4 cannot be read as a video", "cut off before its index was written")


def test_mp4_cut_in_the_middle(place: Place, clips: Path) -> None:
    """What is there is annotated and written; the exit code tells of the rest."""
    cut(clips / "front.mp4", place.folder / "cut.mp4", 0.5)
    ran = place.run("run", "cut.mp4", "-o", "out.mp4", "-o", "out.jsonl", "--model", "echo")
    assert ran.code == 3, ran
    assert "cut.mp4 is cut off: its header promises 50 frames" in said_last(ran)
    count = ledger(place.folder / "out.mp4")["states"]["annotated"]
    assert 10 < count < 40
    assert numbers(place.folder / "out.mp4") == list(range(count))


@pytest.mark.parametrize("name", ["whole.mkv", slow("whole.ts")])
def test_cut_where_no_header_tells(place: Place, clips: Path, name: str) -> None:
    """These formats are made to be cut anywhere: a shorter clip, not an error."""
    source = cut(clips / name, place.folder / f"cut{Path(name).suffix}", 0.6)
    ran = place.run("run", source.name, "-o", "out.mp4", "--model", "echo")
    assert ran.code in (0, 1), ran  # the last picture may be damaged
    found = ledger(place.folder / "out.mp4")
    assert 10 < found["frames"] < 50
    shown = numbers(place.folder / "out.mp4")
    assert shown[:-2] == list(range(len(shown)))[:-2]


@pytest.mark.parametrize(("seed", "share"), [(1, 0.2), (2, 0.002)])
def test_damaged(place: Place, clips: Path, seed: int, share: float) -> None:
    """Bytes of a transport stream overwritten at random: every output comes to its end, and the ledger adds up."""
    data = bytearray((clips / "whole.ts").read_bytes())
    chance = random.Random(seed)
    for at in chance.sample(range(len(data) // 10, len(data)), int(len(data) * share)):
        data[at] = chance.randrange(256)
    (place.folder / "bad.ts").write_bytes(data)
    outputs = [word for name in ("o.mp4", "o.mkv", "o.ts", "o.jsonl") for word in ("-o", name)]
    ran = place.run("run", "bad.ts", *outputs, "--model", "echo")
    assert ran.code in (0, 1), ran
    assert not NOISE.search(ran.err), ran.err
    found = ledger(place.folder / "o.mp4")
    assert found["frames"] > 0
    told = lines(place.folder / "o.jsonl")
    assert [line["index"] for line in told] == list(range(found["frames"]))
    shown = sum(line.get("reason") != "no_picture" and line["state"] != "lost" for line in told)
    for name in ("o.mp4", "o.mkv", "o.ts"):
        assert len(numbers(place.folder / name)) == shown, name


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["-o", "no/folder/x.mp4"], 4, "there is no folder"),
        (["-o", "folder.mp4"], 4, "it is a folder"),
        (["-o", "/proc/x.mp4"], 4, "cannot write /proc/x.mp4"),
        (["-o", "x.avi"], 2, "use one of .jsonl"),
        (["-o", "ftp://host/x.mp4"], 2, "cannot send to ftp://"),
        (["-o", "same.mp4", "-o", "./same.mp4"], 2, "named twice"),
        (["-o", "link.mp4"], 2, "is the source itself"),
        (["-o", "x.mp4", "--live", "--lossless"], 2, "exclude each other"),
        (["-o", "x.mp4", "--wait", "soon"], 2, "'soon' is not a duration"),
        (["-o", "x.mp4", "--send-size", "big"], 2, "'big' is not a picture size"),
        (["-o", "x.mp4", "--codec", "png"], 2, "choose jpeg or i420"),
        (["-o", "x.mp4", "--fps", "1e9"], 2, "for --fps"),
        (["-o", "x.mp4", "--threshold", "2"], 2, "--threshold must lie between 0 and 1"),
        (["-o", "x.mp4", "--model", "objekts"], 5, "did you mean objects?"),
        (["-o", "x.mp4", "--model", "echo:fast"], 5, "write echo:MS"),
        (["-o", "x.mp4", "--model", "nowhere:Model"], 5, "no module 'nowhere'"),
    ],
)
def test_refused_at_once(place: Place, clips: Path, arguments: list[str], code: int, words: str) -> None:
    source = place.folder / "front.mp4"
    source.write_bytes((clips / "front.mp4").read_bytes())
    (place.folder / "folder.mp4").mkdir()
    (place.folder / "link.mp4").symlink_to(source)
    before = sorted(place.folder.iterdir())
    # The model's name is looked at last; what is not about it shall not wait for the look.
    model = [] if "--model" in arguments else ["--model", "echo"]
    refused(place.run("run", "front.mp4", *arguments, *model, timeout=PROMPT_S), code, words)
    assert sorted(place.folder.iterdir()) == before
    assert source.read_bytes() == (clips / "front.mp4").read_bytes()


def test_a_file_url_is_a_file(place: Place, clips: Path) -> None:
    source = place.folder / "front.mp4"
    source.write_bytes((clips / "front.mp4").read_bytes())
    refused(place.run("run", f"file://{source}", "-o", "front.mp4", "--model", "echo"), 2, "is the source itself")


def test_a_name_with_a_colon(place: Place, clips: Path) -> None:
    """FFmpeg would take what stands before the colon for a protocol."""
    (place.folder / "at 12:30.mp4").write_bytes((clips / "front.mp4").read_bytes())
    ran = place.run("run", "at 12:30.mp4", "-o", "out: 1.mp4", "--model", "echo")
    assert ran.code == 0, ran
    assert numbers(place.folder / "out: 1.mp4") == list(range(50))


def test_device_that_is_not_there(place: Place, clips: Path) -> None:
    ran = place.run("run", clips / "front.mp4", "-o", "x.mp4", "--model", "face", "--device", "cuda:77")
    assert ran.code == 5, ran
    assert "--device" in said_last(ran)
    assert not (place.folder / "x.mp4").exists()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for 64 KiB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("this user cannot mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_disk_full(place: Place, clips: Path, tiny_disk: Path) -> None:
    """Live: each output on the full disk is named, the other one comes out whole (test_waits.py: lossless waits)."""
    full = [tiny_disk / f"full.{kind}" for kind in ("mp4", "mkv", "ts", "jsonl")]
    (tiny_disk / "filler").write_bytes(b"x" * 60_000)
    outputs = [word for one in full for word in ("-o", one)]
    ran = place.run("run", clips / "front.mp4", "-o", "out.mp4", *outputs, "--model", "echo", "--live")
    assert ran.code == 4, ran
    assert "No space left on device" in said_last(ran)
    for one in full:
        assert f"cannot write {one}: No space left on device; the other outputs go on" in ran.err
    found = ledger(place.folder / "out.mp4")
    assert found["frames"] == 50
    shown = numbers(place.folder / "out.mp4")
    assert shown == sorted(set(shown))
    assert len(shown) == 50 - found["states"].get("lost", 0)
    told = (tiny_disk / "full.jsonl").read_text()
    assert not told or told.endswith("\n"), "half a line was left"


def test_disk_full_for_all(place: Place, clips: Path, tiny_disk: Path) -> None:
    """Live: with no output left the run ends at once, not after the source."""
    (tiny_disk / "filler").write_bytes(b"x" * 60_000)
    outputs: list[str | Path] = ["-o", tiny_disk / "a.mp4", "-o", tiny_disk / "b.ts"]
    ran = place.run("run", clips / "front.mp4", *outputs, "--model", "echo", "--live")
    assert ran.code == 4, ran
    assert "No space left on device" in said_last(ran)
