"""After a sudden end: files cut back to what is whole, and how far they come."""

from __future__ import annotations

from pathlib import Path

import pytest

from sink.outputs import matroska
from sink.outputs import survey as survey_module
from sink.outputs.container import ContainerOutput
from sink.outputs.place import WHOLE, Mark, Part, Position, part_path
from sink.outputs.survey import survey
from tests.feeds import Recorded, record
from tests.sink.rack import BASE, SLACK, TICK, Player, go_on, shown
from tests.sink.test_container import encoded
from tests.support import lines, make_clip

FRAMES = 100
KINDS = ("mp4", "mkv", "ts")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    path = tmp_path_factory.mktemp("survey") / "clip.mp4"
    codec = ("-c:v", "libx264", "-preset", "ultrafast")
    return record(make_clip(path, *codec, seconds=FRAMES / 25, size="96x64", sound="-c:a aac -ac 1"))


def look(mark: Mark) -> Position:
    return survey([mark])[mark.path]


@pytest.mark.parametrize("kind", KINDS)
def test_cut_wherever_it_broke_off(tmp_path: Path, recorded: Recorded, kind: str) -> None:
    """A writer that is killed some time after the checkpoint leaves anything behind what was whole then."""
    path = tmp_path / f"a.{kind}"
    player = Player([path], recorded)
    marks: list[tuple[int, Mark]] = []  # (durable, mark) as the sink saves them
    for index in player.play(0, FRAMES):
        if index in (45, 60, 80):
            marks += [(player.durable, player.rack.marks(player.durable)[0])]
    player.die()
    whole = path.read_bytes()
    for durable, mark in marks:
        assert 0 < mark.size <= len(whole)
        for data in (
            whole,
            whole[: mark.size],
            whole[: mark.size + 1],
            whole[: (mark.size + len(whole)) // 2],
            whole[: mark.size] + bytes(5000),
            whole[: mark.size] + b"\x47\xff" * 3000,
        ):
            path.write_bytes(data)
            position = look(mark)
            assert path.stat().st_size == mark.size
            assert position.parts == (Part(str(path), "0/1"),)
            assert position.after is not None
            last = shown(path)[-1]
            assert abs(position.after - last[1]) <= SLACK, "the last picture that can be shown is the last that is said"
            assert abs(last[1] - last[0] * TICK * BASE) <= SLACK
            assert last[0] >= durable
            (tone,) = position.sounds
            assert tone is not None
            assert abs(tone - position.after) < 1


@pytest.mark.parametrize("kind", [*KINDS, "jsonl"])
def test_one_that_cannot_be_read_fails_alone(tmp_path: Path, recorded: Recorded, kind: str) -> None:
    paths = [tmp_path / f"a.{kind}", tmp_path / "b.mkv"]
    player = Player(paths, recorded)
    for _ in player.play(0, FRAMES - 20):
        pass
    durable, marks = player.die()
    paths[0].unlink()
    paths[0].mkdir()  # of whoever may do everything, nothing else is kept
    rack = go_on(paths, recorded, durable, marks, FRAMES).rack
    assert "Is a directory" in rack.error
    rack.close()
    assert not rack.dead
    assert {one.name for one in tmp_path.iterdir()} == {paths[0].name, "b.mkv", "b.part2.mkv"}


def test_lines_are_cut_after_the_last_durable_one(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    player = Player([path])
    for _ in player.play(0, 20):
        pass
    (mark,) = player.rack.marks(11)
    player.die()
    for torn in (b"", b'{"stream": "s", "ind', b"\n", bytes(100)):
        with path.open("ab") as file:
            file.write(torn)
        assert look(mark) == Position(parts=(Part(str(path)),))
        assert [line["index"] for line in lines(path)] == list(range(12))
    go_on([path], None, 11, [mark], 30).close()
    assert [line["index"] for line in lines(path)] == list(range(30))


def test_no_line_was_durable(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    player = Player([path])
    for _ in player.play(0, 5):
        pass
    (mark,) = player.rack.marks(-1)
    player.die()
    look(mark)
    assert path.read_bytes() == b""


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_with_nothing_to_show_is_replaced(tmp_path: Path, kind: str) -> None:
    """What the sink had whole of it was no picture yet."""
    path = tmp_path / f"a.{kind}"
    player = Player([path])
    for index in player.play(0, 3):
        assert index < 3
    _, (mark,) = player.die()
    assert look(mark).after is None
    assert look(mark).parts == ()
    second = go_on([path], None, -1, [mark], 30)
    second.close()
    assert [number for number, _ in shown(path)] == list(range(30))
    assert [one.name for one in tmp_path.iterdir()] == [path.name], "the same name again"


@pytest.mark.parametrize("kind", KINDS)
def test_of_several_parts_the_last_with_a_picture_counts(tmp_path: Path, recorded: Recorded, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    player = Player([path], recorded)
    for _ in player.play(0, 60):
        pass
    durable, marks = player.die()
    second = go_on([path], recorded, durable, marks, FRAMES)
    _, (mark,) = second.die()
    assert [part.path for part in mark.parts] == [str(path), str(part_path(path, 2))]
    position = look(mark)
    number = shown(part_path(path, 2))[-1][0]
    assert position.after is not None
    assert abs(position.after - number * TICK * BASE) <= SLACK, "in time of the stream, not of the part"
    assert len(position.parts) == 2
    part_path(path, 2).write_bytes(b"")
    position = look(mark)
    assert [part.path for part in position.parts] == [str(path)]
    assert position.after is not None
    assert abs(position.after - shown(path)[-1][0] * TICK * BASE) <= SLACK


def test_files_that_somebody_has_taken_away(tmp_path: Path) -> None:
    mark = Mark(path=str(tmp_path / "a.mp4"), parts=[Part(str(tmp_path / "a.mp4"))], size=100)
    assert look(mark) == Position()
    lines_mark = Mark(path=str(tmp_path / "a.jsonl"), parts=[Part(str(tmp_path / "a.jsonl"))], size=100, lines=True)
    assert look(lines_mark) == Position(parts=(Part(str(tmp_path / "a.jsonl")),))


def test_a_file_that_is_shorter_than_its_mark_is_not_made_longer(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    player = Player([path])
    for _ in player.play(0, 60):
        pass
    _, (mark,) = player.die()
    data = path.read_bytes()
    path.write_bytes(data[: mark.size * 2 // 3])
    position = look(mark)
    assert path.stat().st_size == mark.size * 2 // 3
    assert position.after is not None
    assert abs(position.after - shown(path)[-1][1]) <= SLACK


def test_a_pipe_has_no_past(tmp_path: Path) -> None:
    """Its reader has what it has; the same path is written again."""
    path = str(tmp_path / "pipe")
    assert look(Mark(path=path, parts=[Part(path)], size=-1)) == Position()
    assert look(Mark(path=path, parts=[Part(path)], size=-1, lines=True)) == Position()


def test_outputs_that_were_not_begun_or_have_failed(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"of somebody else")
    assert look(Mark(path=str(path), size=WHOLE)) == Position()
    failed = Mark(path=str(path), parts=[Part(str(path))], size=3, error="cannot write")
    assert look(failed) == Position(parts=(Part(str(path)),), error="cannot write")
    assert path.read_bytes() == b"of somebody else"


def test_of_a_long_matroska_file_only_the_tracks_and_the_end_are_read(
    tmp_path: Path, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not closed, so that nothing in it says how long it is."""
    path = tmp_path / "a.mkv"
    player = Player([path], recorded)
    for _ in player.play(0, FRAMES):
        pass
    _, (mark,) = player.die()
    whole = look(mark)
    size = path.stat().st_size
    monkeypatch.setattr(matroska, "_HEAD", 4096)
    for tail in (size // 4, size // 3, 8000):
        monkeypatch.setattr(survey_module, "TAIL_BYTES", tail)
        found = matroska.matroska_tail(path, tail)
        assert found is not None
        assert len(found.getvalue()) < 4096 + tail
        assert look(mark) == whole
    monkeypatch.setattr(survey_module, "TAIL_BYTES", 10)
    assert look(mark) == whole, "where no cluster begins in it, all of it is read"
    assert matroska.matroska_tail(path, size // 2) is None, "it is not longer than what is read anyway"
    player = Player([path], recorded)
    for _ in player.play(0, FRAMES):
        pass
    player.close()
    assert matroska.matroska_tail(path, 5000) is None, "it is closed"


@pytest.mark.parametrize("kind", KINDS)
def test_of_a_long_file_the_end_is_enough(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two minutes at two pictures a second: found by seeking, and the same as a look at all of it finds."""
    path = tmp_path / f"a.{kind}"
    output = ContainerOutput(path, kind, [])
    template, packets = encoded([number * 25 * TICK // 2 for number in range(240)])
    for packet in packets:
        output.video(packet, TICK, template)
    output.discard()
    mark = output.mark()
    after = look(mark).after
    assert after is not None
    assert after > 115
    monkeypatch.setattr(survey_module, "TAIL_US", 10**12)
    assert look(mark).after == after
