"""No stream writes what another one reads or writes, or what it reads itself, however it is written down."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from common import config
from common.errors import UsageError
from deploy.fleetfile import FleetFile
from deploy.places import Places, clash

KINDS = {".mp4": "mp4", ".ts": "ts", ".jsonl": "jsonl", ".m3u8": "hls", ".jpg": "mp4", ".log": "jsonl"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where we are: files, links, folders of pictures."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.mp4", "b.mp4", "pictures/001.jpg", "pictures/sub/001.jpg"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"x")
    Path("soft.mp4").symlink_to("b.mp4")
    Path("hard.mp4").hardlink_to("b.mp4")
    Path("here").symlink_to(".")
    return tmp_path


def stream(name: str, source: str, *outputs: str, segment: float | None = None, **more: Any) -> config.Stream:
    made: list[config.Output] = []
    for path in outputs:
        kind: Any = path.partition("://")[0] if "://" in path else KINDS[Path(path).suffix]
        made.append(config.Output(path=path, kind=kind, segment=None if kind == "jsonl" else segment))
    return config.Stream(name=name, source=source, outputs=made, model="echo", **more)


ALONE = [
    (stream("s", "b.mp4", "b.mp4"), "b.mp4 is the source itself: name another output"),
    (stream("s", "file:b.mp4", "hard.mp4"), "hard.mp4 is the source itself"),
    (stream("s", "b.mp4", "o.ts", ledger="b.mp4"), "the ledger b.mp4 is the source itself: name another ledger"),
    (stream("s", "b.mp4", "o.ts", ledger="here/soft.mp4"), "is the source itself"),
    (stream("s", "b.mp4", "o.ts", ledger="here/o.ts"), "the ledger here/o.ts is an output too: name another ledger"),
    (stream("s", "b.mp4", "o.ts", "here/o.ts"), "here/o.ts is named twice as an output"),
    (stream("s", "b.mp4", "udp://a:1", "udp://A:1/"), "udp://A:1/ is named twice as an output"),
    (stream("s", "b.mp4", "o.ts", "a.mp4", placeholder_image="a.mp4"), "a.mp4 is the placeholder image itself"),
    (stream("s", "pictures", "pictures/001.jpg"), "is one of the pictures that are the source, pictures: name another"),
    (stream("s", "pictures", "o.ts", ledger="here/pictures/001.jpg"), "is one of the pictures"),
    (stream("s", "here/pictures/*.jpg", "pictures/new.jpg"), "is one of the pictures"),
    (stream("s", "here/**/*.jpg", "o.ts", "pictures/sub/new.jpg"), "is one of the pictures"),
    (stream("s", "rtsp://u:secret@h/x", "rtsp://h:554/x/"), "rtsp://h:554/x/ is the source itself"),
    (
        stream("s", "rec-000001.mp4", "rec.mp4", segment=9),
        "the source rec-000001.mp4 is a segment of rec.mp4, and would",
    ),
    (stream("s", "rec.part2.mp4", "here/rec.mp4"), "the source rec.part2.mp4 is a part of here/rec.mp4, and would be"),
]


@pytest.mark.parametrize(("one", "words"), ALONE, ids=[str(number) for number in range(len(ALONE))])
def test_what_cannot_run_at_all(one: config.Stream, words: str) -> None:
    assert words in clash(one)
    assert "secret" not in clash(one)


CAM = "rtsp://cam/1"
#: Two streams, and what is said of the second one; the other way round they clash as well.
PAIRS = [
    (stream("x", CAM, "o.ts"), stream("y", CAM, "here/o.ts"), "here/o.ts is an output of stream 'x' already"),
    (stream("x", CAM, "soft.mp4"), stream("y", CAM, "hard.mp4"), "is an output of stream 'x' already"),
    (stream("x", "a.mp4", "b.mp4"), stream("y", "b.mp4", "o.ts"), "the source b.mp4 is an output of stream 'x'"),
    (stream("x", "file:b.mp4", "o.ts"), stream("y", "a.mp4", "b.mp4"), "b.mp4 is the source of stream 'x'"),
    (stream("x", "file:hard.mp4", "o.ts"), stream("y", "a.mp4", "soft.mp4"), "is the source of stream 'x'"),
    (stream("x", "a.mp4", "o.ts"), stream("y", "b.mp4", "p.ts", ledger="a.mp4"), "the ledger a.mp4 is the source of"),
    (stream("x", "a.mp4", "o.ts"), stream("y", "b.mp4", "p.ts", ledger="o.ts"), "the ledger o.ts is an output of"),
    (stream("x", CAM, "o.ts", ledger="l"), stream("y", CAM, "p.ts", ledger="here/l"), "would write one ledger, here/l"),
    (stream("x", CAM, "udp://127.0.0.1:1"), stream("y", CAM, "udp://127.0.0.1:1/"), "is an output of stream 'x'"),
    (stream("x", CAM, "rtmp://u:p@s/a/b"), stream("y", CAM, "rtmp://S:1935/a/b/"), "is an output of stream 'x'"),
    (stream("x", "pictures", "o.ts"), stream("y", CAM, "pictures/9.jpg"), "the pictures that are the source of stream"),
    (stream("x", "pictures/*.jpg", "o.ts"), stream("y", CAM, "pictures/9.jpg"), "the pictures that are the source of"),
    (stream("x", CAM, "rec.mp4", segment=9), stream("y", "rec-123456.mp4", "o.ts"), "is a segment of rec.mp4"),
    (stream("x", CAM, "rec.m3u8"), stream("y", "rec-123456.ts", "o.ts"), "is a segment of rec.m3u8"),
    (stream("x", CAM, "rec.mp4"), stream("y", CAM, "rec.part3.mp4"), "rec.part3.mp4 is a part of rec.mp4"),
    (stream("x", "-", "o.ts"), stream("y", "-", "p.ts"), "standard input is the source of stream 'x' already"),
    (stream("x", CAM, "o.ts"), stream("x", CAM, "p.ts"), "there is a stream 'x' already"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other", "words"), PAIRS, ids=[str(number) for number in range(len(PAIRS))])
def test_what_cannot_run_side_by_side(one: config.Stream, other: config.Stream, words: str) -> None:
    assert words in clash(other, [one])
    assert clash(one, [other]), "it does not matter which one comes first"
    assert clash(one) == clash(other) == "", "each may run alone"


def test_what_can_run_side_by_side() -> None:
    places = Places()
    for one in (
        stream("1", "pictures", "pictures/o.mp4", "pictures/o.jsonl", ledger="pictures/o.json"),
        stream("2", "pictures/sub/*.jpg", "pictures/sub/o.mp4", "pictures/sub/deeper.jpg/o.ts"),
        stream("3", "pictures", "o.ts"),
        stream("4", "a.mp4", "rec.mp4", "rec.jsonl", segment=9),
        stream("5", "a.mp4", "rec-00001.mp4", "rec-000001.ts", "rec.part2.jsonl", segment=9),
        stream("6", "a.mp4", "udp://a:1", "udp://a:2", "rtmp://a/x", "rtmp://a/x?key=1"),
        stream("7", CAM, "p.ts"),
        stream("8", CAM, "q.ts"),
        stream("9", "no\0file", "o\0.ts"),
    ):
        assert places.add(one) == ""


def test_one_that_is_refused_takes_no_place() -> None:
    places = Places([stream("x", "a.mp4", "o.ts")])
    assert places.add(stream("y", CAM, "p.ts", "o.ts"))
    assert places.add(stream("y", CAM, "p.ts")) == ""


def test_many_streams_take_no_time() -> None:
    """As many as a fleet may have, with paths that exist."""
    many = []
    for number in range(256):
        Path(f"{number}.ts").touch()
        paths = (f"{number}.ts", f"{number}.jsonl")
        many.append(stream(str(number), f"rtsp://cam/{number}", *paths, ledger=f"{number}.json", segment=9))
    began = time.process_time()
    places = Places()
    assert not any(map(places.add, many))
    assert time.process_time() - began < 0.8


def test_the_file_of_the_fleet_is_not_written_over(folder: Path) -> None:
    text = '[[streams]]\nsource = "a.mp4"\noutputs = ["o.ts"]\nledger = "fleet.toml"\n'
    Path("fleet.toml").write_text(text)
    with pytest.raises(UsageError, match=r"streams\[0\]: the ledger fleet.toml is the file of the fleet"):
        FleetFile(Path("fleet.toml")).fleet(folder)
    assert Path("fleet.toml").read_text() == text


def test_a_source_stays_as_it_is(folder: Path) -> None:
    for more in ('ledger = "b.mp4"', 'ledger = "o.ts"'):
        Path("fleet.toml").write_text(f'[[streams]]\nsource = "b.mp4"\noutputs = ["o.ts"]\n{more}\n')
        with pytest.raises(UsageError, match=r"the ledger .* is"):
            FleetFile(Path("fleet.toml")).fleet(folder)
    assert Path("b.mp4").read_bytes() == b"x"
