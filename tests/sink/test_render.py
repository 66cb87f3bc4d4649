"""A live stream whose render thread is behind: frames are left out, the others keep their pictures."""

from __future__ import annotations

from pathlib import Path
from threading import Semaphore

import av
import msgspec
import numpy as np
import pytest

from common import messages as m
from common.media import unpack
from sink.ledger import State
from sink.overload import Overload
from sink.render import Finished, Outcome, Renderer
from sink.reorder import Decision
from sink.studio import Studio
from tests.builders import EPOCH
from tests.feeds import Recorded, record, settings
from tests.support import frame_times, lines, make_clip

FRAMES = 25


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("render") / "clip.mp4"
    return make_clip(path, "-c:v", "libx264", "-bf", "2", seconds=1, size="96x64")


@pytest.fixture(scope="module")
def recorded(clip: Path) -> Recorded:
    return record(clip)


def studio(recorded: Recorded, *outputs: Path) -> Studio:
    hello = msgspec.structs.replace(recorded.hello, mode="live")
    return Studio(settings(*outputs, mode="live"), hello, EPOCH, unpack(hello.tracks, recorded.blobs))


def decision(notice: m.Notice, state: State = State.ANNOTATED, reason: str = "") -> Decision:
    return Decision(notice, state, reason)


def render(made: Studio, recorded: Recorded, overload: Overload, lost: int | None = None) -> list[tuple[str, str]]:
    """All frames at once; ``lost``: the index of one that is lost before. Returns where they ended."""
    told = Semaphore(0)
    renderer = Renderer(made, told.release, overload)
    for header, payload in recorded.messages:
        if isinstance(header, m.Packet):
            renderer.packet(header, payload)
        elif isinstance(header, m.Notice):
            renderer.announce(header)
    for notice in recorded.notices:
        gone = (State.LOST, "gap") if notice.index == lost else (State.ANNOTATED, "")
        renderer.decide(decision(notice, *gone))
    renderer.end()
    ended: list[tuple[str, str]] = []
    while told.acquire(timeout=30):
        for outcome in renderer.outcomes():
            if isinstance(outcome, Outcome):
                assert outcome.index == len(ended)
                ended.append((str(outcome.state), outcome.reason))
            elif isinstance(outcome, Finished):
                assert (outcome.error, outcome.crash) == ("", None)
                return ended
    raise AssertionError("the render thread does not end")


def test_what_waits_too_long_is_left_out_and_counted(tmp_path: Path, recorded: Recorded) -> None:
    """No waiting at all is allowed after the second frame, so all others are left out."""
    overload = Overload(0.5)
    overload.bound = 0.0
    paths = tmp_path / "a.mp4", tmp_path / "a.jsonl"
    ended = render(studio(recorded, *paths), recorded, overload, lost=20)
    left_out = [("lost", "sink_overload")] * (FRAMES - 2)
    left_out[20 - 2] = ("lost", "gap")
    assert ended == [("annotated", "")] * 2 + left_out
    assert overload.skipped == FRAMES - 3
    overload.check()
    assert len(frame_times(paths[0])) == 2
    told = lines(paths[1])
    assert [line["index"] for line in told] == list(range(FRAMES)), "each frame has its line"
    assert [(line["state"], line.get("reason", "")) for line in told] == ended


@pytest.mark.parametrize("latency", [None, 0.5])
def test_a_thread_that_keeps_up_leaves_nothing_out(tmp_path: Path, recorded: Recorded, latency: float | None) -> None:
    path = tmp_path / "a.mp4"
    assert render(studio(recorded, path), recorded, Overload(latency)) == [("annotated", "")] * FRAMES
    assert len(frame_times(path)) == FRAMES


def test_where_nothing_is_encoded_nothing_is_left_out(tmp_path: Path, recorded: Recorded) -> None:
    """Lines cost little: leaving them out would bring nothing."""
    overload = Overload(0.5)
    overload.bound = 0.0
    assert render(studio(recorded, tmp_path / "a.jsonl"), recorded, overload) == [("annotated", "")] * FRAMES


def test_pictures_after_one_that_was_left_out_are_their_own(tmp_path: Path, clip: Path, recorded: Recorded) -> None:
    made, path = studio(recorded, tmp_path / "a.mkv"), tmp_path / "a.mkv"
    for header, payload in recorded.messages:
        if isinstance(header, m.Packet):
            made.packet(header, payload)
        elif isinstance(header, m.Notice):
            made.announce(header)
            if header.index % 3:
                assert made.skip(decision(header), "sink_overload") == (State.LOST, "sink_overload")
            else:
                assert made.show(decision(header)) == (State.ANNOTATED, "")
    made.close()
    assert made.durable == FRAMES - 1
    with av.open(str(clip)) as source, av.open(str(path)) as output:
        wanted = [frame.to_ndarray(format="yuv420p") for frame in source.decode(video=0)][::3]
        shown = [frame.to_ndarray(format="yuv420p") for frame in output.decode(video=0)]
    assert len(shown) == len(wanted)
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(shown, wanted, strict=True))
    assert frame_times(path) == pytest.approx(frame_times(clip)[::3], abs=1e-3)
