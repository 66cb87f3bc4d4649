"""One stream in the sink, with its render thread: from Hello to Closed, and what is not accepted."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from common import messages as m
from common.errors import PeerError
from sink.checkpoint import Checkpoint
from sink.stream import MAX_ANNOUNCED, MAX_REFUSALS, SinkStream
from tests.builders import EPOCH, STREAM, TICK, end, expired, gave_up, notice, result
from tests.feeds import Recorded, record, settings
from tests.support import frame_times, lines, make_clip, wait_for

#: What a stream begins with that was never here.
FRESH = Checkpoint(run="", epoch=EPOCH)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    path = tmp_path_factory.mktemp("stream") / "clip.mp4"
    return record(make_clip(path, "-c:v", "libx264", "-bf", "2", seconds=1, size="96x64", sound="-c:a aac -ac 1"))


Open = Callable[..., SinkStream]


@pytest.fixture
def open_stream(recorded: Recorded) -> Iterator[Open]:
    """Opens streams; each must have come to its end, with its books in order."""
    opened: list[SinkStream] = []

    def make(*outputs: Path, hello: m.Hello | None = None, blobs: bytes | None = None, **fields: Any) -> SinkStream:
        config = settings(*outputs, **fields)
        blobs = recorded.blobs if blobs is None else blobs
        opened.append(SinkStream(config, hello or recorded.hello, blobs, FRESH, lambda: None))
        return opened[-1]

    yield make
    for stream in opened:
        stream.give_up("test over")
        finish(stream)
        stream.check()
        assert "pending" not in stream.ledger.states


def finish(stream: SinkStream, now: float = 0.0) -> m.Closed:
    def done() -> m.Closed | None:
        stream.advance(now)
        stream.check()
        return stream.closed

    closed = wait_for(done, 20, "the end of the stream")
    assert isinstance(closed, m.Closed)
    return closed


def test_from_hello_to_closed(tmp_path: Path, recorded: Recorded, open_stream: Open) -> None:
    """Results in any order and twice, link messages twice, one frame poisoned."""
    ledger = tmp_path / "a.ledger.json"
    stream = open_stream(tmp_path / "a.mp4", tmp_path / "a.jsonl", ledger=str(ledger))
    answers: list[Any] = [result(index, "x") for index in range(25) if index != 9]
    answers += [gave_up(9), result(3, "again"), result(4, epoch=EPOCH + 1)]
    random.Random(3).shuffle(answers)
    for header, payload in recorded.messages:
        stream.on_link(header, payload, 0.0)
        stream.on_link(header, payload, 0.0)
        if answers and header.link % 2:
            stream.on_answer(answers.pop(), 0.0)
        stream.advance(0.0)
        stream.check()
    for answer in answers:
        stream.on_answer(answer, 0.0)
    closed = finish(stream)
    assert closed.states == {"annotated": 24, "failed": 1}
    assert closed.error == ""
    assert stream.counts["other_epoch"] == 1
    assert len(frame_times(tmp_path / "a.mp4")) == 25
    assert [line["state"] for line in lines(tmp_path / "a.jsonl")][9] == "failed"
    (entry,) = json.loads(ledger.read_text())["streams"]
    assert entry["frames"] == 25
    assert entry["reasons"] == {"poison": 1}
    assert entry["parts"] == [str(tmp_path / "a.mp4"), str(tmp_path / "a.jsonl")]
    ack = stream.ack(1e9)
    assert ack is not None
    assert (ack.link, ack.gap, ack.resolved, ack.durable, ack.received) == (len(recorded.messages), False, 24, 24, [])


def test_what_is_beyond_a_gap_is_not_accepted(tmp_path: Path, recorded: Recorded, open_stream: Open) -> None:
    stream = open_stream(tmp_path / "a.mp4")
    for number in (0, 2, 3):
        stream.on_link(*recorded.messages[number], 0.0)
    ack = stream.ack(0.0)
    assert ack is not None
    assert (ack.link, ack.gap) == (1, True)
    for message in recorded.messages[1:4]:
        stream.on_link(*message, 0.0)
    ack = stream.ack(1.0)
    assert ack is not None
    assert (ack.link, ack.gap) == (4, False)


def test_live_deadlines_and_late_results(tmp_path: Path, recorded: Recorded, open_stream: Open) -> None:
    hello = msgspec.structs.replace(recorded.hello, mode="live", latency=0.5)
    stream = open_stream(tmp_path / "a.jsonl", hello=hello, mode="live")
    for index in range(3):
        stream.on_link(notice(index), b"", 10.0)
    stream.advance(10.4)
    assert stream.ledger.pending == 3
    assert stream.next_deadline() == 10.5
    stream.on_answer(result(1, "x"), 10.4)
    stream.on_answer(expired(2), 10.4)
    stream.on_link(end(4, 2), b"", 10.4)
    closed = finish(stream, 10.5)
    assert closed.states == {"annotated": 1, "late": 2}


def test_giving_up_settles_everything_once(tmp_path: Path, recorded: Recorded, open_stream: Open) -> None:
    stream = open_stream(tmp_path / "a.mp4")
    half = len(recorded.messages) // 2
    for message in recorded.messages[:half]:
        stream.on_link(*message, 0.0)
    announced = stream.ledger.announced
    stream.on_answer(result(0, "x"), 0.0)
    stream.give_up("shutdown")
    for message in recorded.messages[half:]:  # the producer does not know yet
        stream.on_link(*message, 0.0)
        stream.give_up("shutdown")
    closed = finish(stream)
    assert closed.states == {"annotated": 1, "lost": announced - 1}
    assert stream.ledger.announced == announced
    assert len(frame_times(tmp_path / "a.mp4")) == 1


def test_all_outputs_gone_ends_the_stream_with_their_error(
    tmp_path: Path, recorded: Recorded, open_stream: Open
) -> None:
    stream = open_stream(tmp_path / "none" / "a.mp4")
    for index in range(25):
        stream.on_answer(result(index), 0.0)
    for message in recorded.messages[:-1]:
        stream.on_link(*message, 0.0)
    closed = finish(stream)
    assert "cannot write" in closed.error
    assert sum(closed.states.values()) == stream.ledger.announced == 25


def test_an_empty_stream(tmp_path: Path, open_stream: Open) -> None:
    stream = open_stream(tmp_path / "a.mp4", ledger=str(tmp_path / "a.json"))
    stream.on_link(end(1, -1), b"", 0.0)
    closed = finish(stream)
    assert (closed.states, closed.error) == ({}, "")
    assert list(tmp_path.iterdir()) == []


def test_a_ledger_that_cannot_be_written_is_told(tmp_path: Path, open_stream: Open) -> None:
    stream = open_stream(tmp_path / "a.jsonl", ledger=str(tmp_path / "none" / "x.json"))
    stream.on_link(notice(0, "not_sampled", link=1), b"", 0.0)
    stream.on_link(end(2, 0), b"", 0.0)
    assert "cannot write" in finish(stream).error


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (m.Packet(stream=STREAM, epoch=EPOCH, link=2, track=9, time_base=(1, 1000)), "track 9"),
        (notice(5, link=2), "frame 5, expected 1"),
        (notice(1, "sent", link=2, count=2), "2 frames that are sent"),
        (notice(1, link=2, out=-1), "is at -1 ticks"),
        (notice(1, link=2, out=0), "comes 0 ticks"),
    ],
)
def test_what_a_producer_may_not_say(tmp_path: Path, open_stream: Open, message: Any, why: str) -> None:
    """It may be damage, and is asked for again; then the stream ends, and what was announced is accounted for."""
    stream = open_stream(tmp_path / "a.jsonl")
    stream.on_link(notice(0, link=1), b"", 0.0)
    for turn in range(MAX_REFUSALS + 1):
        assert "lost" not in stream.ledger.states
        with pytest.raises(PeerError, match=why):
            stream.on_link(message, b"x", 0.0)
        ack = stream.ack(float(turn))
        assert ack is not None
        assert (ack.link, ack.gap) == (1, True)
    stream.on_link(notice(1, link=3), b"", 0.0)
    assert finish(stream).states == {"lost": 1}
    assert stream.counts["after_end"] == 1


def test_what_was_damaged_on_its_way_comes_again(tmp_path: Path, open_stream: Open) -> None:
    stream = open_stream(tmp_path / "a.jsonl")
    for damaged, whole in ((notice(7, link=1), notice(0, link=1)), (end(2, 5), end(2, 0))):
        for _ in range(MAX_REFUSALS):
            with pytest.raises(PeerError):
                stream.on_link(damaged, b"", 0.0)
        stream.on_link(whole, b"", 0.0)
    stream.on_answer(result(0), 0.0)
    assert finish(stream).states == {"annotated": 1}


def test_a_hello_that_does_not_open(tmp_path: Path, recorded: Recorded) -> None:
    sound_first = msgspec.structs.replace(recorded.hello, tracks=recorded.hello.tracks[::-1])
    for hello, blobs in ((sound_first, recorded.blobs), (recorded.hello, b"")):
        with pytest.raises(PeerError):
            SinkStream(settings(tmp_path / "b.mp4"), hello, blobs, FRESH, lambda: None)


def test_more_announced_frames_than_anybody_has_are_not_accepted(tmp_path: Path, open_stream: Open) -> None:
    """They would be sent again; a hostile producer's runs of frames do not fill the memory."""
    stream = open_stream(tmp_path / "a.jsonl")
    stream.on_link(notice(0, link=1), b"", 0.0)  # waits for its result
    index = 1
    for link in range(2, 100):
        run = notice(index, "gap", link=link, count=m.MAX_RUN, out=index * TICK)
        stream.on_link(run, b"", 0.0)
        index += m.MAX_RUN
    assert stream.ledger.announced <= MAX_ANNOUNCED + m.MAX_RUN + 1
    assert stream.counts["held_up"] > 50
    ack = stream.ack(1.0)
    assert ack is not None
    assert not ack.gap, "it is not asked for before there is room"
    stream.on_answer(result(0), 0.0)

    def decided() -> bool:
        stream.advance(0.0)
        return stream.resolved > 60_000

    wait_for(decided, 60, "the end of the runs")
    ack = stream.ack(2.0)
    assert ack is not None
    assert ack.gap


COLOURS = st.integers(0, 255)


@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_stands_in_a_valid_hello(tmp_path: Path, recorded: Recorded, data: st.DataObject) -> None:
    """A stream that comes to its end, or PeerError."""
    draw = data.draw
    video = msgspec.structs.replace(
        recorded.hello.video,
        width=draw(st.integers(1, m.MAX_SIDE)),
        time_base=draw(st.sampled_from(((1, 12800), (1, 1), (2**31 - 1, 1), (1, 2**31 - 1)))),
        rate=draw(st.sampled_from((None, (25, 1), (0, 1), (-5, 1), (2**31 - 1, 1), (1, 2**31 - 1)))),
        sar=draw(st.sampled_from((None, (1, 1), (0, 1), (2**31 - 1, 2)))),
        **{name: draw(COLOURS) for name in ("color_range", "primaries", "transfer", "matrix")},
    )
    blobs = bytearray(recorded.blobs)
    for _ in range(draw(st.integers(0, 4))):
        blobs[draw(st.integers(0, len(blobs) - 1))] = draw(st.integers(0, 255))
    hello = msgspec.structs.replace(recorded.hello, video=video)
    path = tmp_path / f"a.{draw(st.sampled_from(('mp4', 'mkv', 'ts')))}"
    try:
        stream = SinkStream(settings(path), hello, bytes(blobs), FRESH, lambda: None)
    except PeerError:
        return
    for index in range(25):
        stream.on_answer(result(index), 0.0)
    for message in recorded.messages:
        for _ in range(MAX_REFUSALS + 1):  # times that cannot be: the stream ends there
            with contextlib.suppress(PeerError):
                stream.on_link(*message, 0.0)
    finish(stream)
