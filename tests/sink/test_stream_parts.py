"""One stream over several epochs, ended suddenly, retired or held up by a full disk: each frame comes once."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import msgspec
import pytest

from common import messages as m
from sink import render
from sink.checkpoint import Checkpoint, load, path_of
from sink.ledger import Books
from sink.outputs.partfile import DiskFull
from sink.stream import SinkStream
from tests.builders import result
from tests.feeds import Message, Recorded, record, settings
from tests.sink.rack import Disk, parts
from tests.support import ledger, lines, make_clip, sound_packets, wait_for

RUN = "run 1"
FRAMES = 100


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("parts") / "clip.mp4"
    codec = ("-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-g", "25")
    return make_clip(path, *codec, seconds=FRAMES / 25, size="96x64", sound="-c:a aac -ac 1")


@pytest.fixture(scope="module")
def recorded(clip: Path) -> Recorded:
    return record(clip)


@pytest.fixture(autouse=True)
def marks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four marks a second are none in a test of a moment."""
    monkeypatch.setattr(render, "MARK_S", 0.0)


def pictures(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        return [hash(frame.to_ndarray().tobytes()) for frame in container.decode(video=0)]


class Epoch:
    """A sink's stream with what its producer says, from the frame on that it asks for."""

    def __init__(self, recorded: Recorded, checkpoint: Checkpoint, *outputs: Path, **fields: Any) -> None:
        mode = fields.get("mode", "lossless")
        hello = msgspec.structs.replace(recorded.hello, mode=mode, session=f"s{checkpoint.epoch}")
        self.stream = SinkStream(settings(*outputs, **fields), hello, recorded.blobs, checkpoint, lambda: None)
        self.said: list[tuple[Message, bytes]] = []
        numbers: dict[int | None, int] = {}
        for header, payload in recorded.messages:
            if isinstance(header, m.Notice) and header.index < self.stream.resume:
                continue
            link = len(self.said) + 1
            numbers[header.link] = link
            fresh = {"link": link, "epoch": checkpoint.epoch}
            if isinstance(header, m.Notice):
                fresh["packet"] = numbers[header.packet]
            self.said.append((msgspec.structs.replace(header, **fresh), payload))

    def answer(self, index: int) -> None:
        self.stream.on_answer(result(index, epoch=self.stream.epoch), 0.0)

    def say(self, count: int | None = None, answers: Callable[[int], bool] = lambda index: True) -> None:
        """The next messages, with the results of their frames."""
        for header, payload in self.said[:count]:
            self.stream.on_link(header, payload, 0.0)
            if isinstance(header, m.Notice) and header.fate == "sent" and answers(header.index):
                self.answer(header.index)
            self.stream.advance(0.0)
            self.stream.check()
        del self.said[:count]

    def until(self, condition: Callable[[], Any], what: str) -> None:
        def met() -> Any:
            self.stream.advance(0.0)
            self.stream.check()
            return condition()

        wait_for(met, 20, what)

    def until_resolved(self, index: int) -> None:
        self.until(lambda: self.stream.resolved >= index, f"the end of frame {index}")

    def reach(self, index: int) -> None:
        """All up to this frame have been through."""
        self.until(lambda: self.stream.resolved >= index, f"frame {index}")

    def over(self) -> None:
        self.until(lambda: self.stream.over, "the end of the epoch")

    def die(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Files stay as they are at this moment, or some moments later; nothing more is said of them."""

        def killed() -> None:
            raise DiskFull("killed")

        monkeypatch.setattr(self.stream._renderer._studio, "close", killed)
        self.stream._renderer.end()
        wait_for(lambda: not self.stream._renderer._thread.is_alive(), 20, "the end of the thread")


def next_checkpoint(config: Any) -> Checkpoint:
    """As a sink that is started again finds it."""
    found = load(config, RUN)
    if found is None:
        return Checkpoint(run=RUN, epoch=1)
    return msgspec.structs.replace(found, epoch=found.epoch + 1)


def whole(recorded: Recorded, clip: Path, *outputs: Path) -> None:
    """Every frame once and in order, all sound, and a ledger that says so."""
    wanted = pictures(clip)
    for path in outputs:
        if path.suffix == ".jsonl":
            assert [line["index"] for line in lines(path)] == list(range(FRAMES))
        else:
            assert [one for part in parts(path) for one in pictures(part)] == wanted
            if path.suffix != ".ts":  # which puts a header before each packet
                assert [one for part in parts(path) for one in sound_packets(part)] == sound_packets(clip)
    entry = ledger(outputs[0])
    assert (entry["frames"], entry["states"]) == (FRAMES, {"annotated": FRAMES})
    files = [str(part) for path in outputs for part in (parts(path) if path.suffix != ".jsonl" else [path])]
    assert sorted(entry["parts"]) == sorted(files)


@pytest.mark.parametrize("seed", range(8))
def test_sudden_ends_at_any_moment(
    tmp_path: Path, clip: Path, recorded: Recorded, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    names = rng.sample(["a.mp4", "b.mkv", "c.ts", "d.jsonl"], rng.randint(1, 4))
    outputs = [tmp_path / name for name in names]
    config = settings(*outputs)
    epochs = [0]
    for _ in range(rng.randint(1, 4)):
        checkpoint = next_checkpoint(config)
        assert checkpoint.epoch > epochs[-1] or not path_of(config).exists()
        epochs.append(checkpoint.epoch)
        epoch = Epoch(recorded, checkpoint, *outputs)
        ack = epoch.stream.ack(0.0)
        assert ack is not None
        assert ack.durable == ack.resolved == checkpoint.books.frames - 1
        silent = rng.choice([rng.randrange(FRAMES), FRAMES])  # from here on no results come
        epoch.say(rng.randrange(len(epoch.said)), lambda index, last=silent: index < last)  # type: ignore[misc]
        if rng.random() < 0.7:
            reach = rng.randint(0, 40)
            epoch.until_resolved(min(reach, silent - 1, epoch.stream.ledger.announced - 1))
        epoch.die(monkeypatch)
        if rng.random() < 0.5:
            for path in outputs:
                if path.exists():
                    with path.open("ab") as file:
                        file.write(rng.randbytes(rng.randint(1, 5000)))
    last = Epoch(recorded, next_checkpoint(config), *outputs)
    last.say()
    last.over()
    assert last.stream.closed is not None
    assert (last.stream.closed.error, last.stream.closed.states) == ("", {"annotated": FRAMES})
    found = load(config, RUN)
    assert found is not None
    assert found.finished
    whole(recorded, clip, *outputs)


def test_only_what_is_written_down_is_durable(tmp_path: Path, recorded: Recorded) -> None:
    """The producer forgets what is durable: a checkpoint that could not be written must not be told of."""
    outputs = [tmp_path / "a.mkv", tmp_path / "b.jsonl"]
    epoch = Epoch(recorded, Checkpoint(run=RUN, epoch=1), *outputs, ledger=str(tmp_path / "none" / "x.json"))
    epoch.say()
    epoch.over()
    ack = epoch.stream.ack(1e9)
    assert ack is not None
    assert (ack.resolved, ack.durable) == (FRAMES - 1, -1)
    assert epoch.stream.closed is not None
    assert "cannot write" in epoch.stream.closed.error
    assert epoch.stream.checkpoint.books == Books(FRAMES, {"annotated": FRAMES}), "in memory there is more"


def test_acknowledged_as_durable_is_what_stands_in_the_file(tmp_path: Path, recorded: Recorded) -> None:
    outputs = [tmp_path / "a.mp4", tmp_path / "b.jsonl"]
    epoch = Epoch(recorded, Checkpoint(run=RUN, epoch=1), *outputs)
    seen = set()
    now = 0.0
    while epoch.said:
        epoch.say(3)
        told = epoch.stream.ledger.announced - 1
        epoch.reach(told)
        ack = epoch.stream.ack(now := now + 1)
        assert ack is not None
        written = load(settings(*outputs), RUN)
        assert written is not None
        assert ack.durable == written.books.frames - 1
        seen.add(ack.durable)
    epoch.over()
    assert epoch.stream._durable == FRAMES - 1
    assert len(seen) >= 2, "it moves on the way"


def test_a_lossless_stream_that_retires_ends_at_the_first_undecided_frame(
    tmp_path: Path, clip: Path, recorded: Recorded
) -> None:
    outputs = [tmp_path / "a.mp4", tmp_path / "b.jsonl"]
    first = Epoch(recorded, Checkpoint(run=RUN, epoch=1), *outputs)
    first.say(len(first.said) // 2, lambda index: index != 30)
    first.stream.retire()
    first.stream.retire()
    first.over()
    assert first.stream.closed is None, "nobody is told of an end: another session goes on"
    books = first.stream.checkpoint.books
    assert (books.frames, books.states) == (30, {"annotated": 30})
    assert not first.stream.checkpoint.finished
    assert len(pictures(outputs[0])) == 30, "closed as it should be"
    second = Epoch(recorded, msgspec.structs.replace(first.stream.checkpoint, epoch=2), *outputs)
    assert second.stream.resume == 30
    second.say()
    second.over()
    whole(recorded, clip, *outputs)
    assert [part.name for part in parts(outputs[0])] == ["a.mp4", "a.part2.mp4"]


def test_retired_after_its_end_was_told_it_is_not_finished(tmp_path: Path, recorded: Recorded) -> None:
    """All was said, not all was answered."""
    outputs = [tmp_path / "a.jsonl"]
    first = Epoch(recorded, Checkpoint(run=RUN, epoch=1), *outputs)
    first.say(answers=lambda index: index < 50)
    first.stream.retire()
    first.over()
    assert not first.stream.checkpoint.finished
    assert first.stream.checkpoint.books.frames == 50


def test_a_live_stream_that_retires_settles_what_nobody_brings_again(tmp_path: Path, recorded: Recorded) -> None:
    outputs = [tmp_path / "a.mkv", tmp_path / "b.jsonl"]
    first = Epoch(recorded, Checkpoint(run=RUN, epoch=1), *outputs, mode="live")
    half = len(first.said) // 2
    first.say(half, lambda index: index < 20)
    announced = first.stream.ledger.announced
    first.stream.retire()
    first.over()
    assert first.stream.closed is not None
    books = first.stream.checkpoint.books
    assert books.frames == announced
    assert books.states == {"annotated": 20, "lost": announced - 20}
    assert books.reasons == {"superseded": announced - 20}
    second = Epoch(recorded, msgspec.structs.replace(first.stream.checkpoint, epoch=2), *outputs, mode="live")
    assert second.stream.resume == announced
    second.say()
    second.over()
    assert [line["index"] for line in lines(outputs[1])] == list(range(FRAMES)), (
        "those that were lost have their line too"
    )
    assert len([one for part in parts(outputs[0]) for one in pictures(part)]) == 20 + FRAMES - announced
    assert ledger(outputs[0])["states"] == {"annotated": 20 + FRAMES - announced, "lost": announced - 20}


def test_frames_without_a_picture_at_the_end_of_an_epoch_keep_their_lines(tmp_path: Path, recorded: Recorded) -> None:
    """The next epoch begins after them."""
    outputs = [tmp_path / "a.mkv", tmp_path / "b.jsonl"]
    first = Epoch(recorded, Checkpoint(run=RUN, epoch=1), *outputs)
    cut = next(place for place, (one, _) in enumerate(first.said) if isinstance(one, m.Notice) and one.index == 40)
    first.said = [
        one if not isinstance(one[0], m.Notice) or one[0].index < 38
        else (msgspec.structs.replace(one[0], pts=10**9, packet=10**6), b"")  # such a picture never comes
        for one in first.said[: cut + 1]
    ]  # fmt: skip
    first.say()
    first.stream.retire()
    first.over()
    assert first.stream.checkpoint.books.states == {"annotated": 38, "failed": 3}
    second = Epoch(recorded, msgspec.structs.replace(first.stream.checkpoint, epoch=2), *outputs)
    assert second.stream.resume == 41
    second.say()
    second.over()
    assert [line["index"] for line in lines(outputs[1])] == list(range(FRAMES))
    assert ledger(outputs[0])["states"] == {"annotated": 97, "failed": 3}


@pytest.mark.parametrize("kind", ["mp4", "mkv", "ts"])
def test_a_full_disk_holds_a_lossless_stream_up_and_it_goes_on_whole(
    tmp_path: Path, clip: Path, recorded: Recorded, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = [tmp_path / f"a.{kind}", tmp_path / "b.jsonl"]
    disk = Disk(monkeypatch, 150_000)
    checkpoint = Checkpoint(run=RUN, epoch=1)
    fulls = 0
    while fulls < 10:
        epoch = Epoch(recorded, checkpoint, *outputs)
        epoch.say()
        epoch.over()
        if epoch.stream.closed is not None:
            break
        fulls += 1
        assert (
            epoch.stream.full
            == f"cannot write {epoch.stream._renderer._studio._rack._files[0].path}: No space left on device"
        )
        on_disk = load(settings(*outputs), RUN)
        assert on_disk is not None
        assert on_disk.books == epoch.stream.checkpoint.books
        assert not on_disk.finished
        checkpoint = msgspec.structs.replace(epoch.stream.checkpoint, epoch=epoch.stream.epoch + 1)
        disk.room += 400_000
    assert 1 <= fulls < 10
    assert epoch.stream.closed is not None
    assert epoch.stream.closed.error == ""
    whole(recorded, clip, *outputs)


def test_a_full_disk_at_the_very_end(
    tmp_path: Path, recorded: Recorded, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All frames are through, only the trailer does not fit: not finished, and whole in the end."""
    outputs = [tmp_path / "a.mkv", tmp_path / "b.jsonl"]
    disk = Disk(monkeypatch, 10**9)
    epoch = Epoch(recorded, Checkpoint(run=RUN, epoch=1), *outputs)
    epoch.say(len(epoch.said) - 1)
    epoch.until(lambda: epoch.stream.resolved == FRAMES - 1, "all frames")
    disk.room = 0
    epoch.say()
    epoch.over()
    assert epoch.stream.full
    assert not epoch.stream.checkpoint.finished
    disk.room = 10**9
    again = Epoch(recorded, msgspec.structs.replace(epoch.stream.checkpoint, epoch=2), *outputs)
    again.say()
    again.over()
    whole(recorded, clip, *outputs)


def test_a_full_disk_in_live_mode_ends_that_output_only(
    tmp_path: Path, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = [tmp_path / "a.mkv", tmp_path / "b.jsonl"]
    Disk(monkeypatch, 100_000)
    epoch = Epoch(recorded, Checkpoint(run=RUN, epoch=1), *outputs, mode="live")
    epoch.say()
    epoch.over()
    assert epoch.stream.full == ""
    assert epoch.stream.closed is not None
    assert "No space left" in epoch.stream.closed.error
    assert len(lines(outputs[1])) == FRAMES


def test_an_output_that_had_failed_is_not_taken_up_again(tmp_path: Path, recorded: Recorded) -> None:
    outputs = [tmp_path / "none" / "a.mkv", tmp_path / "b.jsonl", tmp_path / "c.ts"]
    first = Epoch(recorded, Checkpoint(run=RUN, epoch=1), *outputs, ledger=str(tmp_path / "x.json"))
    first.say(len(first.said) // 2)
    first.until(lambda: first.stream.resolved > 20, "some frames")
    first.stream.retire()
    first.over()
    assert "none/a.mkv" in first.stream.checkpoint.error
    (tmp_path / "none").mkdir()
    found = load(first.stream.config, RUN)
    assert found is not None
    second = Epoch(recorded, msgspec.structs.replace(found, epoch=2), *outputs, ledger=str(tmp_path / "x.json"))
    second.say()
    second.over()
    assert second.stream.closed is not None
    assert "none/a.mkv" in second.stream.closed.error, "the run has failed in part, and says so at its end"
    assert list((tmp_path / "none").iterdir()) == [], "half a recording would look like a whole one"
    assert [line["index"] for line in lines(outputs[1])] == list(range(FRAMES))
    assert len([one for part in parts(outputs[2]) for one in pictures(part)]) == FRAMES


def test_nothing_came_and_nothing_is_left(tmp_path: Path, recorded: Recorded) -> None:
    """A run without any frame leaves an earlier run's files as they were."""
    outputs = [tmp_path / "a.mkv"]
    first = Epoch(recorded, Checkpoint(run=RUN, epoch=1), *outputs)
    first.say()
    first.over()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    again = Epoch(recorded, Checkpoint(run="run 2", epoch=1), *outputs)
    again.stream.on_link(m.End(stream="s", epoch=1, link=1, last=-1), b"", 0.0)
    again.over()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_copies_of_a_folder_go_on_by_themselves(
    tmp_path: Path, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint names its files: a copy of the folder is of no use to it, and is not harmed."""
    outputs = [tmp_path / "one" / "a.mkv"]
    (tmp_path / "one").mkdir()
    epoch = Epoch(recorded, Checkpoint(run=RUN, epoch=1), *outputs)
    epoch.say(300)
    epoch.until(lambda: epoch.stream.checkpoint.books.frames > 10, "a checkpoint")
    epoch.die(monkeypatch)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    before = (tmp_path / "one" / "a.mkv").read_bytes()
    found = load(settings(tmp_path / "two" / "a.mkv"), RUN)
    assert found is None or found.marks == []
    assert (tmp_path / "one" / "a.mkv").read_bytes() == before
