"""With what a stream's next epoch begins, and when it has to wait for space on a disk."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from common import config
from common import messages as m
from sink.checkpoint import Checkpoint, LedgerFile
from sink.configured import Configured
from sink.ledger import Books
from sink.outputs.place import Mark, Part
from sink.registry import RETRY_MAX_S, RETRY_S, SPACE, Registry
from tests.builders import STREAM
from tests.feeds import settings

RUN = "run 1"


def fleet(*streams: config.Stream, run: str = RUN, wait: float = 600.0) -> config.Fleet:
    return config.Fleet(
        run=run,
        broker=config.Broker(frames="a", workers="b", news="c"),
        sink=config.Sink(media="d", results="e", disk_wait=wait),
        workers=config.Workers(model="echo"),
        streams=list(streams),
    )


def registry_of(known: config.Fleet) -> Registry:
    return Registry(Configured(known))


def hello(mode: m.Mode = "lossless", stream: str = STREAM) -> m.Hello:
    return m.Hello(
        stream=stream, session="x", mode=mode, latency=0.5, model="echo",
        video=m.VideoInfo(width=96, height=64, time_base=(1, 12800)),
        tracks=[m.TrackInfo(kind="video", codec="h264", carrier="nut", size=1, time_base=(1, 12800))],
    )  # fmt: skip


def left(folder: Path, frames: int = 10, **fields: Any) -> Checkpoint:
    path = str(folder / "a.mp4")
    known = {"run": RUN, "epoch": 4, "books": Books(frames, {"annotated": frames} if frames else {}),
             "marks": [Mark(path=path, parts=[Part(path)], size=5)], "error": "e"}  # fmt: skip
    return Checkpoint(**{**known, **fields})


def test_a_stream_that_was_never_here(tmp_path: Path) -> None:
    registry = registry_of(fleet(settings(tmp_path / "a.mp4"), settings(tmp_path / "b.mp4", name="t")))
    assert registry.next(hello(), 0.0) == Checkpoint(run=RUN, epoch=1)
    assert registry.known == {STREAM, "t"}
    assert registry.full(STREAM) == ""


def test_it_goes_on_from_memory_before_disk(tmp_path: Path) -> None:
    stream = settings(tmp_path / "a.mp4")
    LedgerFile(stream).save(left(tmp_path, frames=3), {})
    registry = registry_of(fleet(stream))
    assert registry.next(hello(), 0.0) == left(tmp_path, frames=3, epoch=5)
    registry.put(STREAM, left(tmp_path, frames=7, epoch=5), "", 0.0)
    assert registry.next(hello(), 0.0) == left(tmp_path, frames=7, epoch=6)


@pytest.mark.parametrize("mode", ["lossless", "live"])
def test_a_run_with_a_name_is_gone_on_with_even_when_it_had_finished(tmp_path: Path, mode: m.Mode) -> None:
    """Its producer, or the sink, ended before the last word was heard."""
    registry = registry_of(fleet(settings(tmp_path / "a.mp4")))
    registry.put(STREAM, left(tmp_path, finished=True), "", 0.0)
    assert registry.next(hello(mode), 0.0) == left(tmp_path, epoch=5)


def test_without_a_name_what_has_finished_is_begun_again_in_lossless_mode_only(tmp_path: Path) -> None:
    registry = registry_of(fleet(settings(tmp_path / "a.mp4"), run=""))
    registry.put(STREAM, left(tmp_path, run="", finished=True), "", 0.0)
    assert registry.next(hello(), 0.0) == Checkpoint(run="", epoch=5)
    assert registry.next(hello("live"), 0.0) == left(tmp_path, run="", epoch=5)
    registry.put(STREAM, left(tmp_path, run="", finished=False), "", 0.0)
    assert registry.next(hello(), 0.0) == left(tmp_path, run="", epoch=5)


def test_another_run_is_begun_anew(tmp_path: Path) -> None:
    stream = settings(tmp_path / "a.mp4")
    LedgerFile(stream).save(left(tmp_path), {})
    assert registry_of(fleet(stream, run="run 2")).next(hello(), 0.0) == Checkpoint(run="run 2", epoch=1)


def waits(registry: Registry, now: float) -> bool:
    """Whether it is not yet time to go on."""
    answer = registry.next(hello(), now)
    assert isinstance(answer, Checkpoint) or answer == "", answer
    return answer == ""


def test_a_full_disk_is_tried_again_after_a_pause_that_doubles(tmp_path: Path) -> None:
    registry = registry_of(fleet(settings(tmp_path / "a.mp4")))
    now, pause = 100.0, RETRY_S
    for _ in range(8):
        registry.put(STREAM, left(tmp_path), "disk full", now)
        assert registry.full(STREAM) == "disk full"
        assert waits(registry, now)
        assert waits(registry, now + pause - 0.01)
        now += pause
        assert not waits(registry, now)
        pause = min(RETRY_MAX_S, 2 * pause)
    assert pause == RETRY_MAX_S


def test_progress_makes_the_pause_short_again_and_the_patience_long(tmp_path: Path) -> None:
    registry = registry_of(fleet(settings(tmp_path / "a.mp4"), wait=10.0))
    for now in (0.0, 1.0, 3.0, 6.0):
        registry.put(STREAM, left(tmp_path, frames=10), "full", now)
    assert registry.next(hello(), 10.1) == "full; no space came free in 10 s"
    registry.put(STREAM, left(tmp_path, frames=11), "full", 9.0)
    assert waits(registry, 9.0 + RETRY_S - 0.01)
    assert not waits(registry, 9.0 + RETRY_S)
    assert not waits(registry, 18.9)


def test_an_epoch_that_ends_otherwise_ends_the_wait(tmp_path: Path) -> None:
    registry = registry_of(fleet(settings(tmp_path / "a.mp4"), wait=10.0))
    registry.put(STREAM, left(tmp_path), "full", 0.0)
    registry.put(STREAM, left(tmp_path), "", 1.0)
    assert registry.full(STREAM) == ""
    assert not waits(registry, 1.0)
    registry.put(STREAM, left(tmp_path), "full", 100.0)
    assert not waits(registry, 100.0 + RETRY_S), "patience begins anew"


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_no_try_before_there_is_space_on_the_disk_of_each_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = tmp_path / "one", tmp_path / "two"
    for folder in folders:
        folder.mkdir()
    free = dict.fromkeys(folders, SPACE)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, free[Path(path)]))
    registry = registry_of(fleet(settings(folders[0] / "a.mp4", folders[1] / "b.jsonl"), wait=100.0))
    registry.put(STREAM, left(tmp_path), "full", 0.0)
    assert not waits(registry, 5.0)
    free[folders[1]] = SPACE - 1
    assert waits(registry, 5.0)
    free[folders[1]] = SPACE
    assert not waits(registry, 5.0)
    free[folders[0]] = 0
    assert waits(registry, 99.0)
    answer = registry.next(hello(), 101.0)
    assert answer == "full; no space came free in 100 s"


def test_folders_that_are_made_with_the_segment_count_as_the_one_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = {tmp_path: SPACE}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, free[Path(path)]))
    registry = registry_of(fleet(settings(tmp_path / "%Y%m%d" / "rec-%H.mp4")))
    registry.put(STREAM, left(tmp_path), "full", 0.0)
    assert not waits(registry, 5.0)
    free[tmp_path] = 0
    assert waits(registry, 5.0)


def test_a_folder_that_has_gone_has_no_space(tmp_path: Path) -> None:
    registry = registry_of(fleet(settings(tmp_path / "none" / "a.mp4")))
    registry.put(STREAM, left(tmp_path), "full", 0.0)
    assert waits(registry, 5.0)


def test_one_stream_that_waits_holds_up_no_other(tmp_path: Path) -> None:
    registry = registry_of(fleet(settings(tmp_path / "a.mp4"), settings(tmp_path / "b.mp4", name="t")))
    registry.put(STREAM, left(tmp_path), "full", 0.0)
    assert waits(registry, 0.0)
    assert registry.next(hello(stream="t"), 0.0) == Checkpoint(run=RUN, epoch=1)


def test_epochs_only_rise(tmp_path: Path) -> None:
    registry = registry_of(fleet(settings(tmp_path / "a.mp4"), run=""))
    seen = [0]
    for turn in range(6):
        found = registry.next(hello(), float(turn))
        assert isinstance(found, Checkpoint)
        assert found.epoch == seen[-1] + 1
        seen.append(found.epoch)
        registry.put(STREAM, msgspec.structs.replace(found, finished=turn % 2 == 0), "", float(turn))
