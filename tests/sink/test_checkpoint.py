"""What a sink leaves for its successor, in the ledger file; and what it makes of a file that it does not understand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from common.config import Output
from sink.checkpoint import Checkpoint, LedgerFile, load, path_of
from sink.ledger import Books
from sink.outputs.place import Mark, Part
from tests.builders import STREAM
from tests.feeds import settings
from tests.sink.rack import Player, go_on

RUN = "run 1"


def checkpoint(folder: Path, **fields: Any) -> Checkpoint:
    known: dict[str, Any] = {
        "run": RUN,
        "epoch": 3,
        "books": Books(10, {"annotated": 9, "failed": 1}, {"poison": 1}),
        "marks": [
            Mark(
                path=str(folder / "a.mp4"),
                parts=[Part(str(folder / "a.mp4")), Part(str(folder / "a.part2.mp4"), "7/25")],
                size=77,
            ),
            Mark(
                path=str(folder / "b.jsonl"), parts=[Part(str(folder / "b.jsonl"))], size=-1, lines=True, error="broken"
            ),
        ],
    }
    return Checkpoint(**{**known, **fields})


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    config = settings(tmp_path / "a.mp4", tmp_path / "b.jsonl")
    for saved in (
        checkpoint(tmp_path),
        checkpoint(tmp_path, finished=True, error="x", marks=[]),
        Checkpoint(run=RUN, epoch=1),
    ):
        assert LedgerFile(config).save(saved, {}) == ""
        assert load(config, RUN) == saved
    assert [one.name for one in tmp_path.iterdir()] == ["a.ledger.json"], "no draft stays"


def test_the_ledger_for_the_user_is_in_the_same_file(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.part2.mp4"):
        (tmp_path / name).write_bytes(b"x")
    config = settings(tmp_path / "a.mp4", tmp_path / "b.jsonl")
    LedgerFile(config).save(checkpoint(tmp_path), {"missing_pts": 2})
    (entry,) = json.loads((tmp_path / "a.ledger.json").read_text())["streams"]
    assert entry.pop("resume")
    assert entry == {
        "stream": STREAM,
        "frames": 10,
        "states": {"annotated": 9, "failed": 1},
        "reasons": {"poison": 1},
        "repairs": {"missing_pts": 2},
        "parts": [str(tmp_path / "a.mp4"), str(tmp_path / "a.part2.mp4")],
    }, "of the parts those that exist"


def test_where_the_ledger_lies(tmp_path: Path) -> None:
    assert path_of(settings(Path("x/cam.1.mp4"), Path("y.jsonl"))) == Path("x/cam.1.ledger.json")
    addresses = [Output(path="rtsp://bob:secret@server/cam", kind="rtsp"), Output(path="udp://h:1", kind="udp")]
    sent = msgspec.structs.replace(settings(Path("a.mp4"), name="front door"), outputs=addresses)
    assert path_of(sent) == Path("front-door.ledger.json"), "an address is no place for a file"
    config = settings(tmp_path / "a.mp4", tmp_path / "b.jsonl", ledger=str(tmp_path / "books.json"))
    assert LedgerFile(config).save(checkpoint(tmp_path), {}) == ""
    assert load(config, RUN) == checkpoint(tmp_path)
    assert (tmp_path / "books.json").exists()


@pytest.mark.parametrize("text", ["./a.mp4", "sub/../a.mp4", ".//a.mp4", "a.mp4"])
def test_outputs_are_known_however_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    config = msgspec.structs.replace(settings(Path("x.mp4")), outputs=[Output(path=text, kind="mp4")])
    player = Player([], config=config)
    for _ in player.play(0, 20):
        pass
    durable, marks = player.die()
    saved = Checkpoint(run=RUN, epoch=1, marks=marks)
    assert LedgerFile(config).save(saved, {}) == ""
    assert load(config, RUN) == saved
    before = (tmp_path / "a.mp4").read_bytes()
    go_on([], None, durable, marks, 40, config=config).close()
    assert (tmp_path / "a.mp4").read_bytes() == before[: marks[0].size]
    assert (tmp_path / "a.part2.mp4").exists()


def test_another_run_or_stream_has_left_nothing(tmp_path: Path) -> None:
    config = settings(tmp_path / "a.mp4", tmp_path / "b.jsonl")
    assert load(config, RUN) is None, "no file"
    LedgerFile(config).save(checkpoint(tmp_path), {})
    assert load(config, "run 2") is None
    assert load(settings(tmp_path / "a.mp4", name="another"), RUN) is None


GOOD = {"stream": STREAM, "resume": {"run": RUN, "epoch": 2}}


def test_what_is_missing_has_a_default(tmp_path: Path) -> None:
    """So that an older sink's file can be read."""
    config = settings(tmp_path / "a.mp4", tmp_path / "b.jsonl")
    path_of(config).write_text(json.dumps({"streams": [{"stream": "other"}, GOOD], "more": 1}))
    assert load(config, RUN) == Checkpoint(run=RUN, epoch=2)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "7",
        "null",
        "\udcff",
        '{"streams": 7}',
        '{"streams": {}}',
        '{"streams": [7]}',
        '{"streams": [null]}',
        '{"streams": [{}]}',
        json.dumps({"streams": [{"stream": STREAM}]}),
        json.dumps({"streams": [{"stream": STREAM, "resume": None}]}),
        json.dumps({"streams": [{"stream": STREAM, "resume": {"run": RUN}}]}),
        json.dumps({"streams": [{"stream": STREAM, "resume": {"epoch": 1}}]}),
        json.dumps({"streams": [{"stream": STREAM, "resume": {"run": RUN, "epoch": "1"}}]}),
        json.dumps({"streams": [{"stream": STREAM, "resume": {"run": RUN, "epoch": 1, "books": {"frames": "x"}}}]}),
        json.dumps({"streams": [{"stream": STREAM, "resume": {"run": RUN, "epoch": 1, "marks": [{"parts": []}]}}]}),
        "[" * 100_000,
    ],
)
def test_a_file_of_whatever_kind_is_no_obstacle(tmp_path: Path, text: str) -> None:
    config = settings(tmp_path / "a.mp4", tmp_path / "b.jsonl")
    path_of(config).write_bytes(text.encode(errors="surrogateescape"))
    assert load(config, RUN) is None
    assert LedgerFile(config).save(checkpoint(tmp_path), {}) == ""
    assert load(config, RUN) == checkpoint(tmp_path)


def test_counts_that_do_not_add_up_are_not_gone_on_with(tmp_path: Path) -> None:
    config = settings(tmp_path / "a.mp4", tmp_path / "b.jsonl")
    for books in (
        Books(10, {"annotated": 9}),
        Books(-1, {}),
        Books(1, {"annotated": 2, "late": -1}),
        Books(1, {"odd": 1}),
    ):
        LedgerFile(config).save(checkpoint(tmp_path, books=books), {})
        assert load(config, RUN) is None, books


def test_files_that_are_not_the_streams_are_not_touched(tmp_path: Path) -> None:
    """They would be cut at the mark's size."""
    config = settings(tmp_path / "a.mp4", tmp_path / "b.jsonl")
    path = str(tmp_path / "a.mp4")
    for mark in (
        Mark(path=path, parts=[Part(str(tmp_path / "c.mp4"))]),
        Mark(path=path, parts=[Part(path), Part("/etc/passwd")]),
        Mark(path=path, parts=[Part(path), Part(str(tmp_path / "a.part3.mp4"))]),
        Mark(path=path, parts=[Part(path, "1/0")]),
        Mark(path=path, parts=[Part(path, "noon")]),
    ):
        LedgerFile(config).save(checkpoint(tmp_path, marks=[mark]), {})
        assert load(config, RUN) is None, mark


def test_an_output_that_is_no_longer_asked_for_is_left_alone(tmp_path: Path) -> None:
    LedgerFile(settings(tmp_path / "a.mp4", tmp_path / "b.jsonl")).save(checkpoint(tmp_path), {})
    found = load(settings(tmp_path / "a.mp4"), RUN)
    assert found == checkpoint(tmp_path, marks=checkpoint(tmp_path).marks[:1])


def test_dropping_leaves_what_was_there(tmp_path: Path) -> None:
    config = settings(tmp_path / "a.mp4", tmp_path / "b.jsonl")
    file = LedgerFile(config)
    file.save(checkpoint(tmp_path), {})
    assert file.drop() == ""
    assert list(tmp_path.iterdir()) == []
    assert file.drop() == "", "nothing is there to be dropped"
    path_of(config).write_bytes(b"an earlier run's")
    file = LedgerFile(config)
    file.save(checkpoint(tmp_path), {})
    assert file.drop() == ""
    assert path_of(config).read_bytes() == b"an earlier run's"
    assert [one.name for one in tmp_path.iterdir()] == ["a.ledger.json"]


def test_a_write_that_fails_is_told_and_leaves_the_old_file(tmp_path: Path) -> None:
    config = settings(tmp_path / "a.mp4", tmp_path / "b.jsonl")
    file = LedgerFile(config)
    file.save(checkpoint(tmp_path), {})
    before = path_of(config).read_bytes()
    (tmp_path / ".a.ledger.json.new").mkdir()  # in the way of the draft
    assert file.save(checkpoint(tmp_path, epoch=4), {}) == f"cannot write {path_of(config)}: Is a directory"
    assert path_of(config).read_bytes() == before
    away = LedgerFile(settings(tmp_path / "none" / "a.mp4"))
    assert "No such file or directory" in away.save(checkpoint(tmp_path), {})
    assert away.drop() == ""


def test_a_folder_in_the_ledgers_place(tmp_path: Path) -> None:
    config = settings(tmp_path / "a.mp4", tmp_path / "b.jsonl")
    path_of(config).mkdir()
    file = LedgerFile(config)
    assert load(config, RUN) is None
    assert "cannot write" in file.save(checkpoint(tmp_path), {})
    assert "cannot remove" in file.drop()
