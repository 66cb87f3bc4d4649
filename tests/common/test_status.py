"""Progress lines: whole or not at all, and never in anybody's way."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from common.status import Status


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


def test_a_slow_reader_loses_lines_but_never_half_of_one(pipe: tuple[int, int]) -> None:
    status = Status(pipe[1], "sink")
    for number in range(100):  # longer than what a pipe takes whole (PIPE_BUF, 4096 bytes)
        status.say("progress", number=number, filler="x" * 10_000)
    assert status.dropped > 0, "a pipe holds 64 KiB"
    data = b""
    os.set_blocking(pipe[0], False)
    for _ in range(3):  # the rest of a line that fitted by half comes with the next one
        while True:
            try:
                data += os.read(pipe[0], 65536)
            except BlockingIOError:
                break
        status.say("last")
    numbers = [json.loads(line).get("number") for line in data.splitlines()]
    assert numbers[:7] == list(range(7)), "the seventh fitted by half"
    assert data.endswith(b"\n")
    assert b'"last"' in data


def test_a_reader_that_has_gone_is_no_error(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    status = Status(pipe[1], "sink")
    status.say("progress")
    status.say("progress")
