"""The window: its limits, and sending again by knowledge rather than by time."""

from __future__ import annotations

import pytest

from producer.pace import Pace
from producer.window import BACKSTOP_MAX_S, BACKSTOP_S, Window
from tests.builders import EPOCH, STREAM, ack, frame, news


def window(sent: int = 0, span: int = 10, size: int = 1000, in_flight: int = 5) -> Window:
    """A window with ``sent`` frames announced and sent at time 0."""
    made = Window(span, size, Pace(in_flight, None))
    for index in range(sent):
        made.announce(index, 10)
        made.sent(frame(index), b"jpeg", 0.0)
    made.check()
    return made


def again(made: Window, *held: tuple[int, int], now: float, incarnation: str = "a", heard: bool = True) -> list[int]:
    """One round of the sink's and the broker's word; the indexes that are sent again."""
    if heard:
        made.ack(ack(), now)
    resent = made.news(news(*held, incarnation=incarnation), STREAM, EPOCH, now)
    made.check()
    return [header.index for header, _ in resent]


def test_span_counts_every_announced_frame() -> None:
    made = window(span=3)
    for index in range(3):
        assert made.room
        made.announce(index)
    assert not made.room
    made.ack(ack(resolved=0), 0.5)
    assert made.room
    assert made.unresolved == 2


def test_bytes_count_as_well() -> None:
    made = window(size=100)
    made.announce(0, 99)
    assert made.room
    made.announce(1, 1)
    assert not made.room
    made.ack(ack(resolved=1), 0.5)
    assert made.room
    made.check()


def test_in_flight_is_freed_by_an_answer_the_span_only_by_order() -> None:
    made = window(sent=5)
    assert not made.room_to_send
    made.ack(ack(received=[(2, 3)]), 0.5)
    assert made.room_to_send
    assert (made.unanswered, made.unresolved) == (3, 5)
    made.check()


def test_an_old_acknowledgement_takes_nothing_back() -> None:
    made = window(sent=5)
    made.ack(ack(resolved=3, durable=2), 0.5)
    made.ack(ack(resolved=1, durable=0), 0.5)
    assert (made.resolved, made.durable, made.unresolved) == (3, 2, 1)


def test_a_frame_is_announced_once() -> None:
    made = window(sent=1)
    with pytest.raises(AssertionError):
        made.announce(0)


def test_not_before_three_news_without_the_frame() -> None:
    made = window(sent=2)
    assert again(made, now=1) == []
    assert again(made, now=2) == []
    assert again(made, now=3) == [0, 1]
    assert made.resent == 2
    assert again(made, now=4) == [], "the count starts anew"
    assert again(made, now=5) == []
    assert again(made, now=6) == [0, 1]


def test_news_without_a_fresh_acknowledgement_say_nothing() -> None:
    """The sink may have had the result long ago: without its word since the last News nothing is known."""
    made = window(sent=1)
    assert again(made, now=1) == []
    for second in range(2, 9):
        assert again(made, now=second, heard=False) == []
    assert again(made, now=9) == []
    assert again(made, now=10) == [0]


def test_a_held_frame_is_never_sent_again_by_news() -> None:
    made = window(sent=3)
    for second in range(1, 20):
        assert again(made, (0, 0), (2, 2), now=second) == ([1] if second % 3 == 0 else [])


def test_held_once_more_forgets_the_missing_ones() -> None:
    made = window(sent=1)
    again(made, now=1)
    again(made, now=2)
    assert again(made, (0, 5), now=3) == []
    assert again(made, now=4) == []
    assert again(made, now=5) == []
    assert again(made, now=6) == [0]


def test_what_another_epoch_holds_is_not_ours() -> None:
    made = window(sent=1)
    resent = []
    for second in range(1, 4):
        made.ack(ack(), second)
        resent += made.news(news((0, 9), epoch=EPOCH + 1), STREAM, EPOCH, second)
    assert [header.index for header, _ in resent] == [0]


def test_a_new_broker_gets_everything_at_once() -> None:
    made = window(sent=3)
    again(made, (0, 2), now=1)
    made.ack(ack(received=[(1, 1)]), 0.5)
    assert again(made, now=1.1, incarnation="b", heard=False) == [0, 2]
    assert again(made, (0, 2), now=1.2, incarnation="b") == []
    assert again(made, (2, 2), now=1.3, incarnation="c") == [0], "what reached it before its first word is not sent"


def test_the_first_news_is_no_new_broker() -> None:
    assert again(window(sent=3), now=1) == []


def test_an_answered_frame_is_forgotten() -> None:
    made = window(sent=2)
    made.ack(ack(received=[(0, 0)]), 0.5)
    assert [again(made, now=second) for second in (1, 2, 3)] == [[], [], [1]]
    assert not made.waits(frame(0))
    assert made.waits(frame(1))
    assert not made.waits(frame(1, epoch=EPOCH + 1))


def test_the_payload_comes_along() -> None:
    made = window(sent=1)
    again(made, now=1)
    again(made, now=2)
    made.ack(ack(), 3)
    assert made.news(news(), STREAM, EPOCH, 3) == [(frame(0), b"jpeg")]


def test_the_backstop_backs_off() -> None:
    made = window(sent=1)
    times, now = [], 0.0
    while now < 1000:
        if made.tick(now):
            times.append(now)
        made.check()
        now += 0.5
    gaps = [b - a for a, b in zip([0.0, *times], times, strict=False)]
    assert gaps[:5] == [BACKSTOP_S, 2 * BACKSTOP_S, 4 * BACKSTOP_S, 8 * BACKSTOP_S, BACKSTOP_MAX_S]
    assert set(gaps[4:]) == {BACKSTOP_MAX_S}


# -- live: late frames -------------------------------------------------------------------------------------------------

BUDGET_S = 0.5


def live(sent: int, limit: int | None = None) -> Window:
    """A live window whose pace has found ``limit`` (or as many as are sent), and which holds ``sent`` frames."""
    pace = Pace(64, BUDGET_S)
    pace.workers(64, 0.0)
    now = 0.0
    while pace.limit < (limit or sent):
        pace.sent(pace.limit)
        pace.answered(now, now + 0.001, False)
        now += 0.002
    made = Window(100, 10_000, pace)
    made.news(news(), STREAM, EPOCH, 0.0)
    for index in range(sent):
        made.announce(index)
        made.sent(frame(index), b"jpeg", 10.0)
    made.check()
    return made


def test_a_late_frame_still_counts_while_the_broker_holds_it() -> None:
    """It keeps a worker busy: another one in its place would be late as well."""
    made = live(1)
    made.ack(ack(resolved=0, late=1), 10.5)
    assert (made.unanswered, made.with_model) == (0, 1)
    assert not made.room_to_send
    made.news(news((0, 0)), STREAM, EPOCH, 10.7)
    assert not made.room_to_send
    made.news(news(), STREAM, EPOCH, 10.9)
    assert made.room_to_send
    made.check()


def test_a_late_frame_of_which_no_news_come_is_forgotten_in_the_end() -> None:
    made = live(1)
    made.ack(ack(resolved=0, late=1), 10.5)
    made.tick(10.5 + BACKSTOP_S - 0.01)
    assert not made.room_to_send
    made.tick(10.5 + BACKSTOP_S)
    assert made.room_to_send


def test_so_many_of_an_acknowledgement_are_late_as_its_count_has_grown() -> None:
    made = live(4)
    made.ack(ack(received=[(2, 3)], resolved=0, late=1), 10.5)  # 0, 2 and 3: the oldest is the late one
    assert (made.unanswered, made.with_model) == (1, 2)
    made.news(news(), STREAM, EPOCH, 10.6)
    made.ack(ack(resolved=3, late=1), 10.7)
    assert made.with_model == 0, "the count has not grown"
    made.check()


def test_late_frames_lower_the_limit_and_quick_ones_do_not() -> None:
    """That no time at all has passed is no sign of speed: the queue was full."""
    quick, late = live(8), live(8)
    quick.ack(ack(resolved=7), 10.01)
    late.ack(ack(resolved=7, late=8), 10.01)
    assert quick.limit == 8
    assert late.limit < 8


def test_a_count_that_begins_anew_makes_nothing_late() -> None:
    made = live(3)
    made.ack(ack(resolved=0, late=1), 10.5)
    made.ack(ack(resolved=1, late=0), 10.6)
    made.news(news(), STREAM, EPOCH, 10.7)
    made.ack(ack(resolved=2, late=1), 10.8)
    assert made.with_model == 1


def test_lateness_means_nothing_in_lossless_mode() -> None:
    made = window(sent=5)
    made.ack(ack(resolved=1), 100.0)
    assert made.limit == 5
    assert made.room_to_send
