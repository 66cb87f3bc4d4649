"""Segments: each whole by itself, all together the stream, whenever the writer dies."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from common import messages as m
from common.config import Output
from common.media import padded, unpack
from sink.checkpoint import Checkpoint, LedgerFile, load, path_of
from sink.ledger import Books
from sink.outputs import segments
from sink.outputs.partfile import DiskFull
from sink.outputs.place import WHOLE, Mark, Part, Position, SegmentNames, has_fields, is_segmented
from sink.outputs.rack import Rack
from sink.outputs.segments import SegmentedOutput
from sink.outputs.survey import survey
from sink.sound import Sound
from tests.builders import EPOCH
from tests.feeds import Recorded, record, settings
from tests.marks import slow
from tests.sink.rack import BASE, SLACK, TICK, Disk, Player, shown
from tests.sink.test_container import encoded
from tests.sink.test_rack import bare
from tests.support import make_clip, sound_packets

END = 100
KINDS = ("mp4", "mkv", "ts")
#: 31 January 2026, 8:00:00 in UTC, which tests are set to.
START = 1769846400


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("segments") / "clip.mp4"
    return make_clip(
        path, "-c:v", "libx264", "-preset", "ultrafast", seconds=END / 25, size="96x64", sound="-c:a aac -ac 1"
    )


@pytest.fixture(scope="module")
def recorded(clip: Path) -> Recorded:
    return record(clip)


def output(path: Path, seconds: float | None = 1) -> Output:
    return Output(path=str(path), kind=path.suffix[1:], segment=seconds)  # type: ignore[arg-type]


class Recorder(Player):
    """A player whose outputs may be segmented, and which takes a mark after each frame, as the sink does all the time.

    ``late``: the sound comes so many frames after its pictures.
    """

    def __init__(
        self,
        outputs: Sequence[Output],
        recorded: Recorded | None = None,
        positions: Mapping[str, Position] | None = None,
        epoch: int = EPOCH,
        late: int = 0,
        **fields: Any,
    ) -> None:
        super().__init__([Path(one.path) for one in outputs], recorded, {}, epoch, **fields)
        tracks = unpack(recorded.hello.tracks, recorded.blobs)[1:] if recorded is not None else []
        sounds = [Sound(track, {one.kind for one in outputs}) for track in tracks]  # type: ignore[arg-type]
        self.rack = Rack(settings(outputs=list(outputs), **fields), epoch, BASE, sounds, positions or {})
        self._late = late * TICK * BASE
        self.marks: list[tuple[int, list[Mark]]] = [(-1, [])]

    @property
    def segmented(self) -> list[SegmentedOutput]:
        return [one for one in self.rack._files if isinstance(one, SegmentedOutput)]

    def tell_time(self, step: float = 1 / 25, start: float = START) -> None:
        """From now on the clock is ``step`` seconds later whenever it is asked."""
        ticks = iter(range(10**6))
        for one in self.segmented:
            one._clock = lambda: start + step * next(ticks)

    def play(self, first: int, end: int) -> Iterator[int]:
        for index in super().play(first, end):
            self.marks.append((self.durable, self.rack.marks(self.durable)))
            for one in self.segmented:
                one.check()
            yield index

    def _time(self, header: m.Packet) -> Fraction:  # type: ignore[override]
        return Player._time(header) + self._late


def play(outputs: Sequence[Output], recorded: Recorded | None = None, end: int = END, **fields: Any) -> list[Mark]:
    """From the beginning to the end. Returns the last marks."""
    player = Recorder(outputs, recorded, **fields)
    for _ in player.play(0, end):
        pass
    player.close()
    assert player.rack.error == ""
    for one in player.segmented:
        one.check()
        assert one.left_out == 0
    return player.rack.marks(end)


def files(mark: Mark) -> list[Path]:
    return [Path(part.path) for part in mark.parts]


def frames(paths: Sequence[Path]) -> list[int]:
    return [number for path in paths for number, _ in shown(path)]


def sounds(paths: Sequence[Path]) -> list[bytes]:
    return [bare(data) for path in paths for data in sound_packets(path)]


def sound_times(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        return [(packet.pts or 0) * Fraction(packet.time_base) for packet in container.demux(audio=0) if packet.size]


def complaints(path: Path) -> str:
    command = ["ffmpeg", "-v", "error", "-xerror", "-nostdin", "-i", str(path), "-f", "null", "-"]
    return subprocess.run(command, capture_output=True, text=True).stderr


# -- each is whole ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "seconds"), [("mp4", 1), ("mkv", 1.5), ("ts", 0.9), slow("mp4", 1.5)])
def test_each_is_a_file_of_its_own_and_together_they_are_the_stream(
    tmp_path: Path, clip: Path, recorded: Recorded, kind: str, seconds: float
) -> None:
    (mark,) = play([output(tmp_path / f"rec.{kind}", seconds)], recorded)
    paths = files(mark)
    step = -(-int(seconds * 25 * 2) // 2)  # frames up to the first one that is late enough
    assert step == {1: 25, 1.5: 38, 0.9: 23}[seconds]
    assert paths == [tmp_path / f"rec-{number + 1:06}.{kind}" for number in range(-(-END // step))]
    assert sorted(tmp_path.iterdir()) == paths
    assert frames(paths) == list(range(END))
    source = sound_times(clip)
    told = iter(source)
    for number, (path, part) in enumerate(zip(paths, mark.parts, strict=True)):
        first = number * step
        origin = first * TICK * BASE
        assert Fraction(part.origin) == origin
        got = shown(path)
        assert got[0][0] == first
        assert all(abs(at - (one - first) * TICK * BASE) <= SLACK for one, at in got)
        with av.open(str(path)) as container:
            assert next(packet for packet in container.demux(video=0)).is_keyframe
            length = (container.duration or 0) / 1e6
        assert abs(length - len(got) / 25) < 0.06
        heard = [(at, next(told)) for at in sound_times(path)]
        # The priming before zero cannot be written into all containers.
        assert all(abs(at + origin - wanted) <= SLACK for at, wanted in heard if wanted >= 0.002)
        end = origin + len(got) * TICK * BASE
        assert all(origin <= wanted < end or (first == 0 and wanted < 0) for _, wanted in heard[:-2])
    assert complaints(paths[1]) == complaints(paths[-1]) == ""
    assert sounds(paths) == [bare(data) for data in sound_packets(clip)], "no sound twice, none missing"


def test_beside_other_outputs(tmp_path: Path, clip: Path, recorded: Recorded) -> None:
    outputs = [output(tmp_path / "a.mp4", None), output(tmp_path / "b.mkv", 1), output(tmp_path / "c.ts", 2)]
    marks = play(outputs, recorded)
    assert [len(mark.parts) for mark in marks] == [1, 4, 2]
    for mark in marks:
        assert frames(files(mark)) == list(range(END))
        assert sounds(files(mark)) == [bare(data) for data in sound_packets(clip)]


@pytest.mark.parametrize(("kind", "late"), [("mp4", 60), ("mkv", 12), ("ts", 12)])
def test_sound_that_comes_late_is_in_the_segment_of_its_time(
    tmp_path: Path, clip: Path, recorded: Recorded, kind: str, late: int
) -> None:
    (mark,) = play([output(tmp_path / f"rec.{kind}")], recorded, late=late)
    assert len(mark.parts) == 4
    assert frames(files(mark)) == list(range(END))
    assert sounds(files(mark)) == [bare(data) for data in sound_packets(clip)]
    for path in files(mark)[1:]:
        assert 0 <= sound_times(path)[0] <= Fraction(25, 1000)


def test_sound_in_another_form_is_cut_alike(tmp_path: Path) -> None:
    """PCM is encoded anew for MP4; the encoder gives it out later than it gets it."""
    source = make_clip(
        tmp_path / "pcm.mkv", "-c:v", "libx264", "-preset", "ultrafast", seconds=4, size="96x64", sound="-c:a pcm_s16le"
    )
    (whole,) = play([output(tmp_path / "whole-%Y.mp4", None)], record(source))
    (mark,) = play([output(tmp_path / "rec.mp4")], record(source))
    assert sounds(files(mark)) == sounds(files(whole))
    assert len(mark.parts) == 4
    for path in files(mark)[1:]:
        assert 0 <= sound_times(path)[0] <= Fraction(25, 1000)


class Fed:
    """A segmented output, fed by hand at ten pictures a second; all but the first of each second depend on others."""

    def __init__(self, path: Path, recorded: Recorded | None = None, seconds: float | None = 1) -> None:
        tracks = unpack(recorded.hello.tracks, recorded.blobs)[1:] if recorded is not None else []
        self.output = SegmentedOutput(path, path.suffix[1:], [Sound(one, {path.suffix[1:]}) for one in tracks])  # type: ignore[arg-type]
        self.output._length = None if seconds is None else Fraction(seconds)
        self._template, packets = encoded([0])
        self._packet = packets[0]

    def picture(self, number: int) -> None:
        packet = padded(self._packet)
        packet.pts = packet.dts = number * 1280
        packet.time_base, packet.is_keyframe = BASE, number % 10 == 0
        self.output.asked = self.output.wants(number * Fraction(1, 10))
        self.output.video(packet, 1280, self._template)
        self.output.mark()
        self.output.check()

    def sound(self, at: Fraction | float) -> None:
        packet = padded(b"\x21\x10\x04\x60\x8c\x1c")
        packet.time_base = Fraction(1, 48000)
        packet.pts = packet.dts = round(at * 48000)
        packet.duration = 1024
        self.output.sound(0, packet)
        self.output.check()

    @property
    def lengths(self) -> list[int]:
        """Pictures in each file."""
        return [len(shown(path)) for path in files(self.output.mark())]


def test_a_mute_track_is_not_waited_for_long(tmp_path: Path, recorded: Recorded) -> None:
    fed = Fed(tmp_path / "rec.mkv", recorded)
    fed.picture(0)
    fed.sound(0)
    for number in range(1, 300):
        fed.picture(number)
        begun = len(fed.output.mark().parts)
        if number <= 100:
            assert begun == 1
        if number >= 120:
            assert begun >= number // 10, "it has been silent for ten seconds"
    fed.output.close()
    assert fed.lengths == [10] * 30


def test_sound_that_comes_after_its_file_is_closed_is_left_out(tmp_path: Path, recorded: Recorded) -> None:
    fed = Fed(tmp_path / "rec.mkv", recorded)
    fed.sound(0)  # before any picture
    for number in range(156):
        fed.picture(number)
    for at in (0.5, 14.9, 15.0, 15.55):
        fed.sound(at)
    assert fed.output.left_out == 2
    fed.output.close()
    heard = [[round(float(at), 2) for at in sound_times(path)] for path in files(fed.output.mark())]
    assert heard == [*[[]] * 15, [0.0, 0.55]]


def test_sound_that_comes_ahead_waits_for_its_segment(tmp_path: Path, recorded: Recorded) -> None:
    fed = Fed(tmp_path / "rec.mkv", recorded)
    for number in range(30):
        fed.picture(number)
        for packet in range(5 * number + 5 if number else 0, 5 * number + 10):
            fed.sound(Fraction(packet, 50))
    fed.output.close()
    assert fed.lengths == [10] * 3
    heard = [[round(at * 50) for at in sound_times(path)] for path in files(fed.output.mark())]
    assert heard == [list(range(50)), list(range(50)), list(range(55))]


def test_what_waits_is_bounded_in_bytes(tmp_path: Path, recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    fed = Fed(tmp_path / "rec.mkv", recorded)
    monkeypatch.setattr(segments, "MAX_HELD_BYTES", 20 * fed._packet.size)
    most = 0
    for number in range(90):
        fed.picture(number)
        most = max(most, fed.output._held)
    assert 0 < most <= 21 * fed._packet.size
    fed.output.close()
    assert fed.lengths == [10] * 9


def test_sound_long_before_the_first_picture_is_left_out(tmp_path: Path, recorded: Recorded) -> None:
    fed = Fed(tmp_path / "rec.mkv", recorded)
    for number in range(50, 65):
        fed.picture(number)
        if number == 50:
            for at in (0, 4.8, 4.95, 5.0):
                fed.sound(at)
    fed.output.close()
    assert fed.output.left_out == 2
    first, _ = files(fed.output.mark())
    assert sound_times(first) == [0, Fraction(1, 1000)]
    assert shown(first)[0][1] == 0


def test_a_keyframe_is_asked_for_where_a_segment_begins(tmp_path: Path) -> None:
    one = SegmentedOutput(tmp_path / "rec.mp4", "mp4", [], seconds=0.4)
    asked = []
    for number in range(12):
        assert one.wants(Fraction(number, 10))
        asked.append(not one.asked)
        if number != 4:  # that one could not be encoded
            one.asked = True
    assert [number for number, key in enumerate(asked) if key] == [0, 4, 5, 9]
    whole = SegmentedOutput(tmp_path / "rec-%H.mp4", "mp4", [], Position((Part("x"),), after=Fraction(3)))
    assert not whole.wants(Fraction(3))
    assert whole.wants(Fraction(4))
    assert not whole.asked
    whole.asked = True
    assert whole.wants(Fraction(4000))
    assert whole.asked


# -- after a sudden end ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rec.mp4", "rec-%H%M%S.mkv", "%Y-%m-%d/%H%M%S.ts"])
def test_sudden_ends(tmp_path: Path, clip: Path, recorded: Recorded, name: str) -> None:
    """Wherever it ends, the last mark that was written leads on, and no other file lies there."""
    path = tmp_path / name
    durable, marks = -1, list[Mark]()
    for died, behind in ((2, 1), (20, 1), (26, 2), (28, 3), (52, 1), (53, 2), (79, 3), (END, 0)):
        player = Recorder([output(path)], recorded, survey(marks), EPOCH + died)
        player.tell_time(1, START + 100 * died)
        for _ in player.play(durable + 1, died):
            pass
        if died == END:
            player.close()
            marks = player.rack.marks(END)
            break
        player.rack.abandon()
        saved = [one for one in player.marks if one[1]]
        if saved:  # a checkpoint may be some marks old
            reached, marks = saved[-min(behind, len(saved))]
            assert marks[0].path == str(path)
            durable = max(durable, reached)
    assert player.rack.error == ""
    (mark,) = marks
    assert frames(files(mark)) == list(range(END))
    assert sounds(files(mark)) == [bare(data) for data in sound_packets(clip)]
    there = {one for one in tmp_path.rglob("*") if one.is_file()}
    assert there == set(files(mark)), "the ledger names other files than there are"
    assert all(shown(one)[0][1] == 0 for one in files(mark))


def test_durable_is_true_all_the_time(tmp_path: Path, recorded: Recorded) -> None:
    outputs = [output(tmp_path / "a.mp4"), output(tmp_path / "b.ts"), output(tmp_path / "c-%S.mkv")]
    player = Recorder(outputs, recorded)
    durable, seen = -1, set()
    for index in player.play(0, END):
        assert player.durable >= durable
        durable = player.durable
        if index % 7 == 0 and durable >= 0:
            for mark in player.rack.marks(durable):
                assert frames(files(mark))[: durable + 1] == list(range(durable + 1))
            seen.add(durable)
        for one in player.segmented:
            if one._current is None and one._parts:
                assert one.durable == one._reached, "a closed segment is durable"
    assert len(seen) >= 3
    player.rack.abandon()


def test_a_file_is_named_in_two_marks_before_it_is_there(tmp_path: Path, recorded: Recorded) -> None:
    player = Recorder([output(tmp_path / "rec.ts")], recorded)
    for _ in player.play(0, END):
        there = {str(path) for path in tmp_path.iterdir()}
        for _, marks in player.marks[-2:]:
            assert there <= {part.path for mark in marks for part in mark.parts}
    player.close()


def test_files_that_were_taken_away_keep_their_names(tmp_path: Path, recorded: Recorded) -> None:
    path = tmp_path / "rec.mp4"
    player = Recorder([output(path)], recorded)
    for _ in player.play(0, 80):
        pass
    durable, (mark,) = player.die()
    for one in files(mark)[:2]:
        shutil.move(one, tmp_path / f"kept-{one.name}")
    position = survey([mark])[str(path)]
    assert (len(mark.parts), mark.size) == (4, 0), "the last one has its name only"
    assert len(position.parts) == 3
    assert position.after == Fraction(74, 25)
    files(mark)[3].write_bytes(b"begun just now")
    shutil.move(files(mark)[2], tmp_path / "kept-3.mp4")
    position = survey([mark])[str(path)]
    assert [Path(part.path).name for part in position.parts] == [f"rec-{number:06}.mp4" for number in (1, 2, 3)]
    assert position.after is None
    assert not files(mark)[3].exists(), "there was nothing in it"
    second = Recorder([output(path)], recorded, {str(path): position})
    for _ in second.play(durable + 1, END):
        pass
    second.close()
    assert {one.name for one in tmp_path.iterdir()} == {
        "kept-rec-000001.mp4", "kept-rec-000002.mp4", "kept-3.mp4", "rec-000004.mp4",
    }  # fmt: skip


def test_the_books_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "MAX_PARTS", 3)
    out = output(tmp_path / "rec.mkv", 0.4)
    config = settings(outputs=[out])
    player = Recorder([out])
    for _ in player.play(0, 70):
        pass
    durable, (mark,) = player.die()
    assert (len(mark.parts), mark.before) == (3, 4)
    for _, marks in player.marks:
        assert sum(len(one.parts) for one in marks) <= 3
    saved = Checkpoint(run="r", epoch=1, marks=[mark], books=Books(durable + 1, {"annotated": durable + 1}))
    assert LedgerFile(config).save(saved, {}) == ""
    (entry,) = json.loads(path_of(config).read_text())["streams"]
    assert entry["parts"] == [part.path for part in mark.parts]
    assert entry["parts_before"] == 4
    again = load(config, "r")
    assert again == saved
    second = Recorder([out], None, survey(again.marks))
    for _ in second.play(durable + 1, END):
        pass
    second.close()
    (last,) = second.rack.marks(END)
    assert len(last.parts) == 3
    assert last.before > 5
    paths = [tmp_path / f"rec-{number:06}.mkv" for number in range(1, last.before + 4)]
    assert files(last) == paths[-3:]
    assert frames(paths) == list(range(END))
    failed = Recorder([out], None, {out.path: Position(tuple(last.parts), before=last.before, error="gone")})
    assert failed.rack.marks(0) == [
        Mark(path=out.path, parts=last.parts, segments=True, before=last.before, error="gone")
    ]


def test_only_files_that_can_be_its_own_are_believed(tmp_path: Path) -> None:
    numbered, timed = str(tmp_path / "a.mp4"), str(tmp_path / "%Y" / "b-%d-%H.mkv")
    config = settings(outputs=[output(Path(numbered), 5), output(Path(timed), None)])

    def believed(path: str, *parts: str, **fields: Any) -> bool:
        mark = Mark(**{"path": path, "parts": [Part(part) for part in parts], "segments": True, **fields})
        LedgerFile(config).save(Checkpoint(run="r", epoch=1, marks=[mark]), {})
        return load(config, "r") is not None

    assert believed(numbered)
    assert believed(numbered, f"{tmp_path}/a-000001.mp4", f"{tmp_path}/a-000002.mp4")
    assert believed(numbered, f"{tmp_path}/a-1234567.mp4", before=1234566)
    assert believed(timed, f"{tmp_path}/2026/b-31-08.mkv", f"{tmp_path}/2026/b-31-08-2.mkv")
    for path in ("a.mp4", "a-000002.mp4", "a-1.mp4", "a.part2.mp4", "a-000001.mkv", "b-000001.mp4", "x/a-000001.mp4"):
        assert not believed(numbered, f"{tmp_path}/{path}"), path
    assert not believed(numbered, f"{tmp_path}/a-000001.mp4", before=1)
    assert not believed(numbered, f"{tmp_path}/a-000001.mp4", before=-1)
    for path in (
        "2026/b-31-8.mkv",
        "2026/b-31-08.mp4",
        "2026/../../etc/b-31-08.mkv",
        "2026/b-31-08-.mkv",
        "x/b-31-08.mkv",
    ):
        assert not believed(timed, f"{tmp_path}/{path}"), path
    assert not believed(timed, "/etc/passwd")
    assert not believed(timed, timed)
    assert not believed(timed, f"{tmp_path}/2026/b-31-08.mkv", segments=False)


def test_where_the_ledger_lies() -> None:
    for path, place in {
        "a/rec.mp4": "a/rec.ledger.json",
        "a/%Y/rec.mp4": "a/s.ledger.json",
        "rec-%H.mkv": "s.ledger.json",
    }.items():
        config = settings(outputs=[Output(path="rtmp://host/live", kind="rtmp"), output(Path(path), None)])
        assert path_of(config) == Path(place)


def test_sound_that_the_last_file_has_nothing_of_is_looked_for_in_the_one_before(
    tmp_path: Path, recorded: Recorded
) -> None:
    """Else it could be written twice."""
    path = tmp_path / "rec.mkv"
    fed = Fed(path, recorded)
    for number in range(10):
        fed.picture(number)
        fed.sound(Fraction(number, 10))
    fed.output.close()
    (first,) = fed.output.mark().parts
    for count, wanted in ((5, Fraction(9, 10)), (115, None)):  # of ten seconds nobody is late
        second = Fed(tmp_path / f"silent{count}.mkv", recorded, 100)
        for number in range(10, 10 + count):
            second.picture(number)
        second.output.close()
        shutil.move(tmp_path / f"silent{count}-000001.mkv", tmp_path / "rec-000002.mkv")
        parts = [first, Part(str(tmp_path / "rec-000002.mkv"), "1")]
        position = survey([Mark(path=str(path), parts=parts, size=WHOLE, segments=True)])[str(path)]
        assert position.after == Fraction(9 + count, 10)
        assert position.sounds == (wanted,)


def test_a_very_small_transport_stream_can_be_opened(tmp_path: Path) -> None:
    """FFmpeg takes none of fewer than ten packets for one."""
    (mark,) = play([output(tmp_path / "rec.ts", 0.04)], end=12)
    assert [frames([path]) for path in files(mark)] == [[number] for number in range(12)]
    assert min(path.stat().st_size for path in files(mark)) == 12 * 188


# -- names -----------------------------------------------------------------------------------------------------------


def test_what_is_a_pattern() -> None:
    assert has_fields("%Y/rec.mp4")
    assert not has_fields("100%.mp4")
    assert not has_fields("100%%.mp4")
    assert not has_fields("%Q.mp4")
    assert is_segmented(output(Path("a.mp4")))
    assert is_segmented(output(Path("a-%H.ts"), None))
    assert not is_segmented(output(Path("a.mp4"), None))
    assert not is_segmented(output(Path("a-%H.jsonl"), None))
    assert not is_segmented(Output(path="live/index.m3u8", kind="hls", segment=2.0))


def test_names_of_a_time() -> None:
    at = time.localtime(START)
    for pattern, name in {
        "rec-%Y%m%d-%H%M%S.mp4": "rec-20260131-080000.mp4",
        "%F/%a %H.%M, 100%%.mkv": "2026-01-31/Sat 08.00, 100%.mkv",
        "%Q-%y.ts": "%Q-26.ts",
        "%j%u%B.ts": "0316January.ts",
        "%s %z %Z %p %I.ts": f"{START} +0000 UTC AM 08.ts",
    }.items():
        names = SegmentNames(Path(pattern))
        assert str(names.make(7, at)) == name
        assert names.could_be(name, 1), name
        second = names.make(7, at, 1)
        assert second.name == f"{Path(name).stem}-2{Path(name).suffix}"
        assert names.could_be(str(second), 9)
        assert not names.could_be(name + "\n", 1)
    assert str(SegmentNames(Path("a/100%.mp4")).make(12, at)) == "a/100%-000012.mp4"
    assert SegmentNames(Path("/rec/%Y/x/%d.mp4")).folder == Path("/rec")
    assert SegmentNames(Path("%d.mp4")).folder == Path(".")


def test_the_clock_of_the_first_picture_names_it(tmp_path: Path) -> None:
    """Not the one of the moment when the file is opened, which may be much later."""
    player = Recorder([output(tmp_path / "%F" / "rec-%H%M%S.ts")])
    player.tell_time(1800, START + 13.5 * 3600)
    for _ in player.play(0, END):
        pass
    player.close()
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.ts")) == [
        "2026-01-31/rec-213000.ts", "2026-01-31/rec-220000.ts", "2026-01-31/rec-223000.ts", "2026-01-31/rec-230000.ts",
    ]  # fmt: skip


def test_names_that_are_taken(tmp_path: Path) -> None:
    """By this run or by another, whose files are left alone."""
    (tmp_path / "rec-080000.ts").write_bytes(b"of yesterday")
    (tmp_path / "rec-080000-3.ts").symlink_to("nowhere")
    player = Recorder([output(tmp_path / "rec-%H%M%S.ts", 0.4)])
    player.tell_time(0.3)
    for _ in player.play(0, END):
        pass
    player.close()
    (mark,) = player.rack.marks(END)
    assert [path.name for path in files(mark)] == [
        "rec-080000-2.ts", "rec-080000-4.ts", "rec-080000-5.ts", "rec-080000-6.ts", "rec-080001.ts",
        "rec-080001-2.ts", "rec-080001-3.ts", "rec-080002.ts", "rec-080002-2.ts", "rec-080002-3.ts",
    ]  # fmt: skip
    assert (tmp_path / "rec-080000.ts").read_bytes() == b"of yesterday"
    assert frames(files(mark)) == list(range(END))


def test_an_hour_that_comes_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    fed = Fed(tmp_path / "rec-%d-%H.mkv")
    hours = iter(1792886400 + 3600 * hour for hour in range(100))  # 25 October 2026, 2:00 before the clocks go back
    fed.output._clock = lambda: next(hours)
    for number in range(35):
        fed.picture(number)
    fed.output.close()
    assert [path.name for path in files(fed.output.mark())] == [
        "rec-25-02.mkv", "rec-25-02-2.mkv", "rec-25-03.mkv", "rec-25-04.mkv",
    ]  # fmt: skip


def test_without_a_length_there_is_one_file(tmp_path: Path, recorded: Recorded) -> None:
    (mark,) = play([output(tmp_path / "rec-%Y.mkv", None)], recorded)
    assert [path.name for path in files(mark)] == [time.strftime("rec-%Y.mkv")]
    assert frames(files(mark)) == list(range(END))


# -- disks -----------------------------------------------------------------------------------------------------------


def test_only_folders_of_the_pattern_are_made(tmp_path: Path) -> None:
    player = Recorder([output(tmp_path / "none" / "%Y" / "rec.mp4"), output(tmp_path / "%Y" / "%m" / "rec-%d.mp4")])
    for _ in player.play(0, 60):
        pass
    player.close()
    assert "none" in player.rack.error
    assert "No such file or directory" in player.rack.error
    assert [one.name for one in tmp_path.iterdir()] == [time.strftime("%Y")]
    (tmp_path / "file").write_bytes(b"")
    player = Recorder([output(tmp_path / "file" / "rec.mp4")])
    for _ in player.play(0, 30):
        pass
    assert "Not a directory" in player.rack.error


@pytest.mark.parametrize(
    ("kind", "room"),
    [
        pytest.param(kind, room, marks=() if room == quick else pytest.mark.slow)
        for kind, quick in zip(KINDS, (3_000, 20_000, 30_000), strict=True)
        for room in (3_000, 20_000, 30_000)
    ],
)
def test_a_full_disk_in_lossless_mode_can_be_gone_on_from(
    tmp_path: Path, clip: Path, recorded: Recorded, monkeypatch: pytest.MonkeyPatch, kind: str, room: int
) -> None:
    path = tmp_path / f"rec.{kind}"
    little = Disk(monkeypatch, room)
    player = Recorder([output(path)], recorded)
    with pytest.raises(DiskFull, match=r"cannot write .*rec-00000\d\.\w+: No space left on device"):
        for _ in player.play(0, END):
            pass
        player.close()
    player.rack.abandon()
    little.room = 10**9
    durable, marks = player.marks[-1]
    second = Recorder([output(path)], recorded, survey(marks), EPOCH + 1)
    for _ in second.play(durable + 1, END):
        pass
    second.close()
    (mark,) = second.rack.marks(END)
    assert frames(files(mark)) == list(range(END))
    assert sounds(files(mark)) == [bare(data) for data in sound_packets(clip)]
    assert {one.name for one in tmp_path.iterdir()} == {one.name for one in files(mark)}


def test_a_full_disk_in_live_mode_costs_that_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Disk(monkeypatch, 9_000)
    path = tmp_path / "rec.ts"
    player = Recorder([output(path)], mode="live")
    for _ in player.play(0, END):
        pass
    player.close()
    assert "No space left" in player.rack.error
    assert player.rack.dead
    (mark,) = player.rack.marks(END)
    assert mark.error == player.rack.error
    kept = frames(files(mark))
    assert kept == list(range(len(kept))), "what it has is left playable"
    assert len(kept) >= 20
