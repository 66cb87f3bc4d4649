"""Several outputs of one stream that go on in new parts: each at its own place, with sound, and nothing twice."""

from __future__ import annotations

import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from common.errors import OutputError
from sink.outputs import container as container_module
from sink.outputs.partfile import DiskFull
from sink.outputs.place import Mark, Part, Position
from sink.outputs.survey import survey
from tests.feeds import Recorded, record
from tests.sink.rack import BASE, SLACK, TICK, Disk, Player, go_on, parts, shown
from tests.support import lines, make_clip, sound_packets

END = 100


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rack") / "clip.mp4"
    return make_clip(
        path, "-c:v", "libx264", "-preset", "ultrafast", seconds=END / 25, size="96x64", sound="-c:a aac -ac 1"
    )


@pytest.fixture(scope="module")
def recorded(clip: Path) -> Recorded:
    return record(clip)


def bare(data: bytes) -> bytes:
    """An AAC packet without the header that MPEG-TS puts before it (ADTS: 7 bytes, 12 bits of 1)."""
    return data[7:] if data[:1] == b"\xff" and data[1] >> 4 == 0xF else data


def sounds(path: Path) -> list[bytes]:
    return [bare(data) for part in parts(path) for data in sound_packets(part)]


def frames(path: Path) -> list[int]:
    return [number for part in parts(path) for number, _ in shown(part)]


@pytest.mark.parametrize("died", [55, 74])
def test_each_output_goes_on_at_its_own_place(tmp_path: Path, clip: Path, recorded: Recorded, died: int) -> None:
    outputs = [tmp_path / name for name in ("a.mp4", "b.mkv", "c.ts", "d.jsonl")]
    first = Player(outputs, recorded)
    for _ in first.play(0, died):
        pass
    durable, marks = first.die()
    assert 0 < durable < died - 1
    ends = [max(number for number, _ in shown(path)) for path in outputs[:3]]
    assert min(ends) >= durable
    assert len(set(ends)) > 1, "each container holds back another number of pictures"
    second = go_on(outputs, recorded, durable, marks, END)
    second.close()
    assert second.rack.error == ""
    for path, last in zip(outputs[:3], ends, strict=True):
        assert [one.name for one in parts(path)] == [path.name, f"{path.stem}.part2{path.suffix}"]
        assert frames(path) == list(range(END))
        assert shown(parts(path)[1])[0][0] == last + 1
        with av.open(str(parts(path)[1])) as container:
            assert next(packet for packet in container.demux(video=0)).is_keyframe
        assert sounds(path) == [bare(data) for data in sound_packets(clip)], "no sound twice, none missing"
    assert [line["index"] for line in lines(outputs[3])] == list(range(END))
    assert [line["epoch"] for line in lines(outputs[3])] == [1] * (durable + 1) + [2] * (END - durable - 1)
    final = second.rack.marks(END)
    assert [[part.path for part in mark.parts] for mark in final[:3]] == [
        [str(one) for one in parts(path)] for path in outputs[:3]
    ]


def test_a_part_of_mp4_starts_at_zero_the_others_keep_the_streams_times(tmp_path: Path, recorded: Recorded) -> None:
    outputs = [tmp_path / name for name in ("a.mp4", "b.mkv", "c.ts")]
    first = Player(outputs, recorded)
    for _ in first.play(0, 70):
        pass
    durable, marks = first.die()
    second = go_on(outputs, recorded, durable, marks, END)
    second.close()
    for path, mark in zip(outputs, second.rack.marks(END), strict=True):
        number, time = shown(parts(path)[1])[0]
        origin = Fraction(mark.parts[1].origin)
        assert origin == (number * TICK * BASE if path.suffix == ".mp4" else 0)
        assert abs(time + origin - number * TICK * BASE) <= SLACK
        assert all(abs(at + origin - one * TICK * BASE) <= SLACK for one, at in shown(parts(path)[1]))
    with av.open(str(parts(outputs[0])[1])) as container:
        assert container.start_time == 0
        assert abs((container.duration or 0) / 1e6 - (END - shown(parts(outputs[0])[1])[0][0]) / 25) < 0.1
        tone = container.streams.audio[0]
        start = (next(container.demux(tone)).pts or 0) * Fraction(tone.time_base or 1)
        assert abs(start) < 0.1, "sound and picture begin together"


def test_durable_is_true_over_parts(tmp_path: Path, recorded: Recorded) -> None:
    """At every moment all files together have all frames up to it."""
    outputs = [tmp_path / name for name in ("a.mp4", "b.mkv", "c.ts")]
    first = Player(outputs, recorded)
    assert first.rack.durable is None
    for _ in first.play(0, 60):
        pass
    durable, marks = first.die()
    second = Player(outputs, recorded, survey(marks), 2)
    assert second.durable >= durable, "what an earlier part has stays durable"
    seen = set()
    for index in second.play(durable + 1, END):
        if index % 9 == 0:
            assert all(frames(path)[: second.durable + 1] == list(range(second.durable + 1)) for path in outputs)
            seen.add(second.durable)
    assert len(seen) >= 2
    second.rack.abandon()


def test_many_sudden_ends(tmp_path: Path, clip: Path, recorded: Recorded) -> None:
    outputs = [tmp_path / name for name in ("a.mkv", "b.ts", "c.mp4", "d.jsonl")]
    durable, marks = -1, list[Mark]()
    for died in (3, 20, 21, 58, 70, 90):
        player = go_on(outputs, recorded, durable, marks, died)
        before = durable
        durable, marks = player.die()
        durable = max(durable, before)
    player = go_on(outputs, recorded, durable, marks, END)
    player.close()
    assert player.rack.error == ""
    for path in outputs[:3]:
        assert frames(path) == list(range(END))
        assert sounds(path) == [bare(data) for data in sound_packets(clip)]
    assert [line["index"] for line in lines(outputs[3])] == list(range(END))


def test_wants_only_what_no_earlier_part_has(tmp_path: Path) -> None:
    outputs = [tmp_path / "a.mp4", tmp_path / "b.mkv"]
    tick = TICK * BASE
    positions = {str(outputs[0]): Position((Part(str(outputs[0])),), after=9 * tick),
                 str(outputs[1]): Position((Part(str(outputs[1])),), after=12 * tick)}  # fmt: skip
    player = Player(outputs, None, positions)
    assert player.rack.durable == 9 * tick
    asked = [player.rack.wants(index * tick) for index in (9, 10, 12, 13)]
    assert asked == [(False, False), (True, True), (True, True), (True, True)]
    for _ in player.play(8, 11):
        pass
    assert player.rack.wants(11 * tick) == (True, False), "the first one has begun, the second is not yet at its place"
    assert player.rack.wants(13 * tick) == (True, True)
    player.close()
    assert not parts(outputs[1])[1:], "nothing was to be written"
    assert [number for number, _ in shown(tmp_path / "a.part2.mp4")] == [10]


def test_an_output_that_had_failed_stays_away(tmp_path: Path) -> None:
    outputs = [tmp_path / "a.mp4", tmp_path / "b.mkv", tmp_path / "c.jsonl"]
    positions = {
        str(path): Position((Part(str(path)),), error=f"cannot write {path}") for path in (outputs[0], outputs[2])
    }
    player = Player(outputs, None, positions)
    for _ in player.play(0, 10):
        pass
    player.close()
    assert player.rack.error == f"cannot write {outputs[0]}"
    assert not player.rack.dead
    assert [path.name for path in tmp_path.iterdir()] == ["b.mkv"]
    gone = [mark for mark in player.rack.marks(9) if mark.error]
    assert [mark.path for mark in gone] == [str(outputs[0]), str(outputs[2])]
    positions[str(outputs[1])] = Position(error="gone too")
    assert Player(outputs, None, positions).rack.dead


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda room: Disk(monkeypatch, room)


@pytest.mark.parametrize("kind", ["mp4", "mkv", "ts"])
def test_a_full_disk_in_lossless_mode_can_be_gone_on_from(
    tmp_path: Path, clip: Path, recorded: Recorded, disk: Any, kind: str
) -> None:
    outputs = [tmp_path / f"a.{kind}", tmp_path / "b.jsonl"]
    little = disk(20_000)
    player = Player(outputs, recorded)
    last = -1
    kept: tuple[int, list[Mark]] = (-1, player.rack.marks(-1))
    with pytest.raises(DiskFull, match=f"cannot write {outputs[0]}: No space left on device"):
        for last in player.play(0, END):  # noqa: B007  looked at below
            kept = player.durable, player.rack.marks(player.durable)
        player.close()
    player.rack.abandon()
    little.room = 10**9
    second = go_on(outputs, recorded, *kept, END)
    second.close()
    assert last >= 0
    assert frames(outputs[0]) == list(range(END))
    assert sounds(outputs[0]) == [bare(data) for data in sound_packets(clip)]
    assert [line["index"] for line in lines(outputs[1])] == list(range(END))


def test_a_full_disk_in_live_mode_costs_that_output(tmp_path: Path, disk: Any) -> None:
    disk(6_000)
    outputs = [tmp_path / "a.mkv", tmp_path / "b.jsonl"]
    player = Player(outputs, mode="live")
    for _ in player.play(0, END):
        pass
    player.close()
    assert "No space left" in player.rack.error
    assert not player.rack.has_files
    assert len(lines(outputs[1])) == END
    assert frames(outputs[0]) == list(range(len(frames(outputs[0])))), "what it has is left playable"


def test_any_other_error_costs_that_output_in_both_modes(tmp_path: Path) -> None:
    for mode in ("live", "lossless"):
        outputs = [tmp_path / "none" / "a.mkv", tmp_path / f"{mode}.mp4"]
        player = Player(outputs, mode=mode)
        for _ in player.play(0, 30):
            pass
        player.close()
        assert "No such file" in player.rack.error
        assert frames(outputs[1]) == list(range(30))
    player.rack.fail(OutputError("the encoder is gone"))
    assert player.rack.dead


def test_a_joined_file_plays_through(tmp_path: Path, recorded: Recorded) -> None:
    """As the manual says: with ffmpeg's concat."""
    path = tmp_path / "a.mp4"
    first = Player([path], recorded)
    for _ in first.play(0, 70):
        pass
    durable, marks = first.die()
    go_on([path], recorded, durable, marks, END).close()
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"file '{part}'\n" for part in parts(path)))
    joined = tmp_path / "joined.mkv"
    command = ["ffmpeg", "-v", "error", "-f", "concat", "-safe", "0", "-i", str(listed), "-c", "copy", str(joined)]
    assert subprocess.run(command, capture_output=True, text=True).returncode == 0
    got = shown(joined)
    assert [number for number, _ in got] == list(range(END))
    assert all(abs(time - number * TICK * BASE) < Fraction(3, 100) for number, time in got)


def test_container_knows_its_slack() -> None:
    """Half a frame at 500 frames a second is more than any container's rounding."""
    assert max(container_module.SLACK.values()) < Fraction(1, 1000)
