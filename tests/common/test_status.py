"""Progress lines: whole or not at all, and never in anybody's way."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from common.status import MAX_BYTES, MAX_LINE, MAX_WAITING, Status


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def test_lines(pipe: tuple[int, int]) -> None:
    status = Status(pipe[1], "sink")
    status.say("progress", frames=3, ratio=0.5)
    status.say("closed")
    lines = [json.loads(line) for line in os.read(pipe[0], 65536).splitlines()]
    assert lines == [
        {"part": "sink", "event": "progress", "frames": 3, "ratio": 0.5},
        {"part": "sink", "event": "closed"},
    ]
    assert status.dropped == 0


def test_without_a_pipe_nothing_happens() -> None:
    Status(None, "sink").say("progress")


def read(pipe: tuple[int, int]) -> bytes:
    """What there is to read now."""
    data = b""
    os.set_blocking(pipe[0], False)
    while True:
        try:
            data += os.read(pipe[0], 65536)
        except BlockingIOError:
            return data


def test_a_slow_reader_loses_progress_but_never_half_a_line(pipe: tuple[int, int]) -> None:
    status = Status(pipe[1], "sink")
    for number in range(100):
        status.say("progress", number=number, filler="x" * 100_000)
    assert status.dropped == 99, "a pipe holds 64 KiB: the first one fitted by half"
    data = b""
    for _ in range(3):
        data += read(pipe)
        status.say("last")  # the rest comes with the next one
    lines = [json.loads(line) for line in data.splitlines()]
    assert [line.get("number") for line in lines if line["event"] == "progress"] == [0]
    assert data.endswith(b"\n")
    assert b'"last"' in data


def test_what_is_said_once_arrives_however_slow_the_reader_is(pipe: tuple[int, int]) -> None:
    """In order, and before what is said again and again."""
    status = Status(pipe[1], "sink")
    heard: list[dict[str, object]] = []
    for number in range(60):
        status.say("progress", stream="other", filler="x" * 4000)
        status.say("closed", stream=str(number), parts=["part" * 500])
        status.say("troubles", troubles=[])
    for _ in range(60):
        heard += [json.loads(line) for line in read(pipe).splitlines()]
        status.say("progress", stream="other")
    closed = [record["stream"] for record in heard if record["event"] == "closed"]
    assert closed == [str(number) for number in range(60)]
    assert status.dropped > 0


def test_progress_leaves_room_for_what_is_said_once(pipe: tuple[int, int]) -> None:
    """A part that says its last word and ends has no other chance to say it."""
    status = Status(pipe[1], "sink")
    for _ in range(10_000):
        status.say("progress", filler="x" * 300)
    status.say("closed", parts=["part" * 1000])
    assert json.loads(read(pipe).splitlines()[-1])["event"] == "closed"


def test_what_waits_is_bounded(pipe: tuple[int, int]) -> None:
    status = Status(pipe[1], "sink")
    for number in range(3 * MAX_WAITING):
        status.say("closed", number=number, filler="x" * 100)
    assert len(status._waiting) <= MAX_WAITING
    for number in range(40):
        status.say("closed", number=number, filler="x" * 500_000)
    assert sum(map(len, status._waiting)) == status._held <= MAX_BYTES
    assert status.dropped > 0


def test_of_a_line_that_is_too_long_the_lists_are_cut(pipe: tuple[int, int]) -> None:
    """What is most of a line, the files of days, is not what is waited for."""
    status = Status(pipe[1], "sink")
    status.say("closed", stream="a", parts=[f"/видео/{number:06}.mp4" for number in range(200_000)], error="")
    data = b""
    while not data.endswith(b"\n"):
        data += read(pipe)
        status.say("progress")
    line = json.loads(data.splitlines()[0])
    assert len(data.splitlines()[0]) <= MAX_LINE
    assert (line["stream"], line["error"], line["parts"][0]) == ("a", "", "/видео/000000.mp4")
    assert len(line["parts"]) > 10_000


def test_a_reader_that_has_gone_is_no_error(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    status = Status(pipe[1], "sink")
    status.say("progress")
    status.say("progress")
