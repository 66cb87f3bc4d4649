"""What the producer writes: numbers of the link, one index for each picture, gaps in a row in one Notice."""

from __future__ import annotations

from fractions import Fraction

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import messages as m
from producer.letters import Letters, Shown
from producer.link import Link
from producer.replay import Kept
from producer.timeline import Stamp
from tests.builders import EPOCH, STREAM, TICK

BASE = Fraction(1, 25 * TICK)


def letters(link: Link, resume: int = 0) -> Letters:
    return Letters(STREAM, EPOCH, BASE, link, resume)


def stamp(index: int) -> Stamp:
    return Stamp(index * TICK, TICK)


def picture(writer: Letters, fate: m.Fate = "sent") -> None:
    index = writer.index + 1
    writer.picture(Shown(index * TICK, 7), stamp(index), fate, "", 0.0)


def transmit(link: Link) -> list[m.Head]:
    """What a socket takes now."""
    sent = []
    while (one := link.peek()) is not None:
        sent.append(one.header)
        link.sent()
    return sent


def gaps(sent: list[m.Head]) -> list[tuple[int, int]]:
    return [(one.index, one.count) for one in sent if isinstance(one, m.Notice)]


def test_a_packet_carries_what_the_demuxer_said() -> None:
    packet = av.Packet(b"bytes")
    packet.pts, packet.dts, packet.duration, packet.time_base = 100, 90, 20, Fraction(1, 1000)
    packet.is_keyframe = True
    link = Link()
    kept = Kept(0, 2, packet, time=70)
    letters(link).packet(kept, 0.0)
    assert kept.link == 1
    one = link.peek()
    assert one is not None
    assert one.payload == b"bytes"
    assert one.header == m.Packet(
        stream=STREAM, epoch=EPOCH, link=1, track=2, pts=70, dts=70, duration=20, time_base=(1, 1000), key=True
    )


def test_the_end_of_the_picture_is_told_that_of_sound_is_not() -> None:
    link = Link()
    writer = letters(link)
    for track in (1, 0):
        writer.packet(Kept(0, track, av.Packet(0)), 0.0)
    (flush,) = transmit(link)
    assert isinstance(flush, m.Packet)
    assert (flush.track, flush.pts, flush.time_base) == (0, None, (1, 25 * TICK))


def test_pictures_count_from_where_the_sink_wants_them() -> None:
    link = Link()
    writer = letters(link, resume=40)
    picture(writer)
    writer.gap(stamp(41), 0.0)
    picture(writer, "not_sampled")
    writer.end("why", {"missing_pts": 1}, 0.0)
    *told, end = transmit(link)
    assert gaps(told) == [(40, 1), (41, 1), (42, 1)]
    assert [one.link for one in (*told, end)] == [1, 2, 3, 4]  # type: ignore[attr-defined]
    assert isinstance(end, m.End)
    assert (end.last, end.reason, end.repairs) == (42, "why", {"missing_pts": 1})


def test_gaps_in_a_row_are_one_notice_until_it_is_transmitted() -> None:
    link = Link()
    writer = letters(link)
    for index in range(5):
        writer.gap(stamp(index), 0.0)
    (run,) = transmit(link)
    assert isinstance(run, m.Notice)
    assert (run.index, run.count, run.out, run.duration, run.fate) == (0, 5, 0, TICK, "gap")
    for index in range(5, 8):
        writer.gap(stamp(index), 0.0)
    assert gaps(transmit(link)) == [(5, 3)]
    assert writer.index == 7


def test_what_was_transmitted_once_never_changes_even_when_it_waits_again() -> None:
    """The sink may have it: a longer one under the same number would be taken for a duplicate, its frames lost."""
    link = Link()
    writer = letters(link)
    writer.gap(stamp(0), 0.0)
    transmit(link)
    link.tick(100.0)
    assert link.unsent == 1, "all is sent again"
    writer.gap(stamp(1), 100.0)
    writer.gap(stamp(2), 100.0)
    assert gaps(transmit(link)) == [(0, 1), (1, 2)]


def test_a_picture_or_a_packet_ends_the_run() -> None:
    link = Link()
    writer = letters(link)
    writer.gap(stamp(0), 0.0)
    picture(writer)
    writer.gap(stamp(2), 0.0)
    writer.packet(Kept(0, 0, av.Packet(b"x")), 0.0)
    writer.gap(stamp(3), 0.0)
    assert gaps(transmit(link)) == [(0, 1), (1, 1), (2, 1), (3, 1)], "order on the link is the order of events"


def test_a_run_has_an_end() -> None:
    link = Link()
    writer = letters(link)
    for index in range(m.MAX_RUN + 5):
        writer.gap(stamp(index), 0.0)
    assert gaps(transmit(link)) == [(0, m.MAX_RUN), (m.MAX_RUN, 5)]


def test_an_hour_without_a_sink_costs_next_to_nothing() -> None:
    link = Link()
    writer = letters(link)
    for index in range(90_000):
        writer.gap(stamp(index), index / 25)
    assert link.unacknowledged == 9
    assert writer.index == 89_999


@pytest.mark.parametrize("count", [1, 7, m.MAX_RUN, 2 * m.MAX_RUN + 3])
@pytest.mark.parametrize("begun", [False, True])
def test_missing_frames_lie_between_their_neighbours(count: int, begun: bool) -> None:
    link = Link()
    writer = letters(link, resume=10)
    if begun:
        picture(writer)
    first = writer.index + 1
    until = stamp(first + count)
    writer.missing(count, until, 0.0)
    writer.picture(Shown(until.pts, 7), until, "sent", "", 0.0)
    told = [one for one in transmit(link) if isinstance(one, m.Notice)]
    runs = told[int(begun) : -1]
    assert sum(one.count for one in runs) == count
    assert [one.index for one in told] == sorted({one.index for one in told})
    outs = [one.out + place * one.duration for one in runs for place in range(one.count)]
    assert all(a < b for a, b in zip(outs, [*outs[1:], until.pts], strict=True))
    assert not begun or outs[0] > told[0].out
    assert writer.index == first + count


def test_more_missing_frames_than_there_is_time_for() -> None:
    """A hole of few ticks: times still rise, up to one that is not the next picture's."""
    link = Link()
    writer = letters(link)
    picture(writer)
    writer.missing(1000, Stamp(5 * TICK, TICK), 0.0)
    (_, run) = transmit(link)
    assert isinstance(run, m.Notice)
    assert run.duration >= 1
    assert run.out + 999 * run.duration < 5 * TICK


def test_missing_frames_at_the_beginning_are_not_before_zero() -> None:
    """The picture after them may last much longer than they did; the sink refuses negative times."""
    link = Link()
    writer = letters(link, resume=2)
    writer.missing(50, Stamp(60 * TICK, 1000 * TICK), 0.0)
    (run,) = transmit(link)
    assert isinstance(run, m.Notice)
    assert run.out >= 0
    assert run.out + 49 * run.duration < 60 * TICK


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(["gap", "gap", "gap", "picture", "send", "rewind", "ack"]), max_size=60))
def test_whatever_happens_the_sink_hears_of_each_frame_once(events: list[str]) -> None:
    link = Link()
    writer = letters(link)
    heard: dict[int, m.Notice] = {}  # link number → what came first
    now = 0.0
    for event in [*events, "send"]:
        now += 10
        if event == "gap":
            writer.gap(stamp(writer.index + 1), now)
        elif event == "picture":
            picture(writer)
        elif event == "send":
            for one in transmit(link):
                assert isinstance(one, m.Notice)
                assert heard.setdefault(one.link, one) == one, "the same number says something else"
        elif event == "rewind":
            link.tick(now)
        else:
            link.ack(len(heard) // 2, False, now)
        link.check()
    told = [heard[number] for number in sorted(heard)]
    frames = [index for one in told for index in range(one.index, one.index + one.count)]
    assert frames == list(range(writer.index + 1))
