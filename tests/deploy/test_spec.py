"""What the user typed becomes a configuration."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from common import config
from common.errors import OutputError, SourceError, UsageError
from deploy.spec import MAX_WINDOW, RunOptions, build, complete, ledger_path, picture_size, seconds, stream_name


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"x")
    return path


def options(source: Path, *outputs: str, **more: object) -> RunOptions:
    names = [str(source.parent / name) for name in outputs or ("out.mp4",)]
    return RunOptions(source=str(source), outputs=names, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "value"), [("10ms", 0.01), ("0.5s", 0.5), ("2m", 120), ("1h", 3600), ("3", 3), (" 5 ", 5), ("7us", 7e-6)]
)
def test_seconds(text: str, value: float) -> None:
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "ms", "-1s", "1e3", "10 ms", "nan", "1d", "½s"])
def test_no_duration(text: str) -> None:
    with pytest.raises(UsageError, match="is not a duration"):
        seconds(text)


def test_picture_size() -> None:
    assert picture_size("1280x720") == picture_size("1280×720") == (1280, 720)
    for text in ("1280", "x720", "15x16", "99999x16", "-1x16", "a x b"):
        with pytest.raises(UsageError, match="WIDTHxHEIGHT"):
            picture_size(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a/b/street view.mp4", "street-view"),
        ("rtsp://me:secret@cam/live/one?token=2", "one"),
        ("/dev/video0", "video0"),
        ("...", "..."),
        ("http://host/", "host"),
        ("rtmp://server/live/abcd1234efgh5678ijkl", "abcd"),
        ("rtmp://server/live/cam", "cam"),
        ("rtsp://user:pa/ss@cam/one", "one"),
    ],
)
def test_stream_name_holds_no_secret(text: str, name: str) -> None:
    assert stream_name(text) == name


def test_ledger_lies_beside_the_first_output() -> None:
    assert ledger_path(Path("a/b.c.mp4")) == Path("a/b.c.ledger.json")


def test_build(source: Path, tmp_path: Path) -> None:
    fleet = build(options(source, "out.MP4", "out.jsonl", batch=8, workers=2, every=3), tmp_path)
    (stream,) = fleet.streams
    assert [output.kind for output in stream.outputs] == ["mp4", "jsonl"]
    assert stream.mode == "lossless", "a file is not live"
    assert stream.in_flight == 4 * 8 * 2
    assert stream.window >= stream.in_flight * stream.every / 4, "a batch can fill although frames are left out"
    assert stream.ledger == str(tmp_path / "out.ledger.json")
    path = tmp_path / "fleet.json"
    path.write_bytes(config.dump(fleet))
    assert config.load(path) == fleet, "the parts read what was written"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["clip.mp4", "fleet.json"], "no output was begun"


def test_the_largest_options_fit(source: Path, tmp_path: Path) -> None:
    fleet = build(options(source, batch=1024, workers=256, every=1_000_000), tmp_path)
    assert fleet.streams[0].window == fleet.streams[0].in_flight == MAX_WINDOW


@pytest.mark.parametrize("address", ["rtsp://cam/1", "http://host/x.mp4", "srt://host:1?mode=caller"])
def test_the_network_is_live(address: str, tmp_path: Path) -> None:
    made = RunOptions(source=address, outputs=[str(tmp_path / "o.ts")])
    assert build(made, tmp_path).streams[0].mode == "live"
    assert build(RunOptions(source=address, outputs=made.outputs, mode="lossless"), tmp_path).streams[0].mode == (
        "lossless"
    )


def test_refusals_name_the_thing(source: Path, tmp_path: Path) -> None:
    (tmp_path / "soft.mp4").symlink_to(source)
    (tmp_path / "hard.mp4").hardlink_to(source)
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "used.mp4").write_bytes(b"y")
    (tmp_path / "used.mkv").symlink_to(tmp_path / "used.mp4")
    (tmp_path / "dead.mp4").symlink_to(tmp_path / "nowhere" / "x.mp4")
    for outputs, kind, words in [
        (("clip.mp4",), UsageError, "source itself"),
        (("soft.mp4",), UsageError, "source itself"),
        (("hard.mp4",), UsageError, "source itself"),
        (("../" + tmp_path.name + "/clip.mp4",), UsageError, "source itself"),
        (("a.mp4", "a.mp4"), UsageError, "named twice"),
        (("used.mp4", "used.mkv"), UsageError, "named twice"),
        (("a.gif",), UsageError, "use one of"),
        (("folder.mp4",), OutputError, "is a folder"),
        (("no/a.mp4",), OutputError, "there is no folder"),
        (("dead.mp4",), OutputError, "No such file"),
        (("x" * 300 + ".mp4",), OutputError, "too long"),
        (("a\0.mp4",), OutputError, "null"),
    ]:
        with pytest.raises(kind, match=words):
            build(options(source, *outputs), tmp_path)
    with pytest.raises(SourceError, match="no such file"):
        build(options(tmp_path / "gone.mp4"), tmp_path)
    with pytest.raises(UsageError, match="for --fps"):
        build(options(source, fps=1e9), tmp_path)
    assert (tmp_path / "used.mp4").read_bytes() == b"y", "what is there stays as it is until the first frame"


def test_a_segment_is_not_written_over_while_it_is_read(source: Path, tmp_path: Path) -> None:
    old = source.rename(tmp_path / "rec-000001.mp4")
    with pytest.raises(UsageError, match=r"is a segment of .*rec\.mp4, and would be written over"):
        build(options(old, "rec.mp4", segment=600), tmp_path)
    for output, segment in [("rec.mp4", None), ("rec-%H.mp4", 600), ("rec.mkv", 600), ("rec-.mp4", 600)]:
        build(options(old, output, segment=segment), tmp_path)
    (tmp_path / "sub").mkdir()
    build(options(old, "sub/rec.mp4", segment=600), tmp_path)


def test_a_segments_length_is_the_files_or_else_the_playlists(source: Path, tmp_path: Path) -> None:
    def lengths(*outputs: str) -> list[float | None]:
        made = build(options(source, *outputs, segment=600.0), tmp_path).streams[0].outputs
        return [output.segment for output in made]

    assert lengths("rec-%H.mp4", "live.m3u8", "a.jsonl") == [600.0, None, None]
    assert lengths("live.m3u8", "a.jsonl") == [600.0, None]
    with pytest.raises(UsageError, match="at least 1 s"):
        build(options(source, "a.jsonl", segment=0.5), tmp_path)


def test_an_output_that_is_a_pipe_is_not_opened(source: Path, tmp_path: Path) -> None:
    """Opening a named pipe would wait for its reader."""
    os.mkfifo(tmp_path / "pipe.ts")
    assert build(options(source, "pipe.ts"), tmp_path).streams[0].outputs[0].kind == "ts"


def test_tunes(source: Path, tmp_path: Path) -> None:
    encoding = {"encoding": {"tune": "film,zerolatency"}}
    outputs = [config.Output(path=str(tmp_path / "o.ts"), kind="ts")]
    workers = config.Workers(model="echo")
    assert complete({"source": str(source), **encoding}, outputs, workers, tmp_path).encoding.tune == "film,zerolatency"
    with pytest.raises(UsageError, match="unknown tune 'animaton': choose one of film, animation"):
        complete({"source": str(source), "encoding": {"tune": "animaton"}}, outputs, workers, tmp_path)


def test_no_model_is_a_mistake_as_others_are(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="for --model"):
        build(options(source, model=""), tmp_path)
