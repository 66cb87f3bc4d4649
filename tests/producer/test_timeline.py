"""The source's clock, repaired: whatever the picture's stamps, the output increases and every repair is counted."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.timeline import LATEST_S, Timeline
from sink.times import OutputTimes
from tests.builders import notice

BASE = Fraction(1, 90_000)
TICK, SECOND = 3600, 90_000
#: Where the stamps of MPEG-TS, RTMP and RTP start again, at 90 kHz.
WRAPS = {"mpeg-ts": 2**33, "rtmp": 2**32 * 90, "rtp": 2**32}


def timeline(
    start: Fraction | None = None, live: bool = False, discontinuous: bool = True, rate: Fraction | None = Fraction(25)
) -> Timeline:
    line = Timeline(BASE, live, start)
    line.opened(BASE, rate, (), discontinuous, None)
    return line


def out(line: Timeline, *stamps: int | None, at: float | None = None) -> list[int]:
    """Output times of pictures that come 25 a second, from ``at`` on."""
    given = []
    for number, pts in enumerate(stamps):
        given.append(line.picture(pts, 0, (at or 0.0) + number / 25).pts)
        line.check()
    return given


def steady(count: int, start: int = 0) -> list[int]:
    return [start + number * TICK for number in range(count)]


def test_good_stamps_are_left_alone() -> None:
    line = timeline(Fraction(7, 5))
    assert out(line, 126_000, 129_600, 140_000) == [126_000, 129_600, 140_000]
    assert not line.repairs


def test_a_negative_start_is_moved_to_zero() -> None:
    line = timeline(Fraction(-1, 2))
    assert out(line, -45_000, -41_400) == [0, TICK]
    assert line.repairs == {"rebased": 1}


def test_a_picture_before_zero_that_the_header_does_not_tell_of() -> None:
    line = timeline(Fraction(0))
    assert out(line, -7200, -3600, 0) == [0, TICK, 2 * TICK]
    assert line.repairs == {"negative_start": 1}


def test_a_late_start_and_a_live_source_begin_at_zero() -> None:
    assert out(timeline(Fraction(3600)), 3600 * SECOND) == [0]
    assert out(timeline(Fraction(5)), 5 * SECOND) == [5 * SECOND]
    live = timeline(Fraction(5), live=True)
    assert out(live, 7 * SECOND, 7 * SECOND + TICK) == [0, TICK]
    assert not live.repairs, "it says nothing of a live source when it starts"


def test_a_start_that_cannot_be_becomes_zero() -> None:
    line = timeline()
    assert out(line, *steady(3, 2**60)) == steady(3)
    assert line.repairs == {"rebased": 1}


def test_missing_stamps_go_on_at_the_frame_rate() -> None:
    line = timeline()
    assert out(line, None, None, 10_000, None) == [0, 3600, 10_000, 13_600]
    assert line.repairs == {"missing_pts": 3}


@pytest.mark.parametrize("rate", [None, Fraction(0), Fraction(90_000), Fraction(1, 100)])
def test_without_a_rate_that_can_be_missing_stamps_are_25_a_second(rate: Fraction | None) -> None:
    assert out(timeline(rate=rate), None, None, None) == steady(3)


def test_a_wrong_rate_is_measured() -> None:
    line = timeline(rate=Fraction(60))
    assert out(line, *steady(6), None, None, 8 * TICK) == steady(9)
    assert line.repairs == {"wrong_rate": 1, "missing_pts": 2}


def test_a_repeated_stamp_shares_the_time_until_the_next() -> None:
    line = timeline()
    assert out(line, 0, 3600, 3600, 3600, 10_800) == [0, 3600, 5400, 6300, 10_800]
    assert line.repairs == {"duplicate_pts": 2}


def test_a_frozen_clock_leaves_the_cadence() -> None:
    line = timeline()
    times = out(line, *steady(10), *[9 * TICK] * 30, *steady(5, 40 * TICK))
    assert times[:10] == steady(10)
    assert times[13:40] == steady(27, 13 * TICK)
    assert times[40:] == steady(5, 40 * TICK), "it is right again when the clock is"
    assert line.repairs == {"duplicate_pts": 3, "frozen_pts": 27}


def test_an_earlier_stamp_comes_just_after() -> None:
    line = timeline()
    assert out(line, 0, 3600, 1800, 7200) == [0, 3600, 4050, 7200]
    assert line.repairs == {"not_increasing": 1}


def test_what_lies_a_little_ahead_is_waited_for() -> None:
    """One stamp is half a second ahead: those that follow are told in a hurry until they are right again."""
    line = timeline()
    stamps = steady(40)
    stamps[10] += SECOND // 2
    times = out(line, *stamps)
    assert times[:10] + times[25:] == stamps[:10] + stamps[25:]
    assert set(line.repairs) == {"not_increasing"}


@pytest.mark.parametrize("discontinuous", [False, True])
@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("wrong", [-(2**62), -SECOND * 4000, -SECOND * 2, SECOND * 4000, 2**62])
def test_one_wrong_stamp_moves_nothing(wrong: int, live: bool, discontinuous: bool) -> None:
    line = timeline(live=live, discontinuous=discontinuous)
    stamps = steady(30)
    stamps[10] += wrong
    assert out(line, *stamps) == steady(30)
    assert line.repairs == {"wrong_pts": 1}


@pytest.mark.parametrize("live", [False, True])
def test_clocks_that_alternate_move_nothing(live: bool) -> None:
    line = timeline(live=live)
    stamps = steady(30, 5 * SECOND)
    stamps[10:20:2] = [0] * 5
    assert out(line, *stamps) == steady(30, 0 if live else 5 * SECOND)
    assert line.repairs["wrong_pts"] == 5


def test_a_clock_that_starts_again_goes_on_at_the_cadence() -> None:
    line = timeline(Fraction(10))
    assert out(line, *steady(5, 900_000), *steady(5)) == steady(10, 900_000)
    assert line.repairs == {"restarted": 1}


@pytest.mark.parametrize("jump", [-50 * SECOND, -2 * SECOND, 11 * SECOND, 10**9])
def test_a_jump_of_the_clock_is_not_seen(jump: int) -> None:
    line = timeline()
    first = 100 * SECOND
    stamps = [*steady(5, first), *steady(5, first + 5 * TICK + jump)]
    assert out(line, *stamps) == steady(10, first)
    assert line.repairs == {"jumped_back" if jump < 0 else "jumped_ahead": 1}


@pytest.mark.parametrize("pause", [10, 3600])
def test_a_pause_of_a_file_is_kept(pause: int) -> None:
    """A clock that cannot jump tells of pauses of up to an hour, others of up to ten seconds."""
    line = timeline(discontinuous=pause == 10)
    stamps = [*steady(5), *steady(5, 4 * TICK + pause * SECOND)]
    assert out(line, *stamps) == stamps
    assert not line.repairs


@pytest.mark.parametrize("jump", [3600, 4000])
def test_beyond_an_hour_the_clock_of_any_file_has_jumped(jump: int) -> None:
    line = timeline(discontinuous=False)
    assert out(line, *steady(5), *steady(5, 5 * TICK + jump * SECOND + 1)) == steady(10)
    assert line.repairs == {"jumped_ahead": 1}


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
@pytest.mark.parametrize("lost", [0, 100])
def test_a_clock_that_wraps_keeps_what_lies_between(wrap: int, lost: int) -> None:
    line = timeline(live=True)
    true = [*steady(10, wrap - 10 * TICK + 17), *steady(10, wrap + 17 + lost * TICK)]
    assert out(line, *[stamp % wrap for stamp in true]) == [stamp - true[0] for stamp in true]
    assert line.repairs == {"wrapped": 1}


def test_a_signed_clock_wraps_too() -> None:
    line = timeline(live=True)
    true = steady(20, 2**31 * 90 - 10 * TICK)
    signed = [stamp if stamp < 2**31 * 90 else stamp - 2**32 * 90 for stamp in true]
    assert out(line, *signed) == steady(20)
    assert line.repairs == {"wrapped": 1}


def test_a_live_pause_is_told_from_a_jump_by_the_time_of_arrival() -> None:
    for arrived, expected, repairs in ((60.0, 60, {}), (0.04, 0.04, {"jumped_ahead": 1})):
        line = timeline(live=True)
        times = out(line, *steady(25)) + out(line, *steady(5, 24 * TICK + 60 * SECOND), at=24 / 25 + arrived)
        assert times[:25] == steady(25)
        assert times[25:] == steady(5, 24 * TICK + round(expected * SECOND))
        assert line.repairs == repairs


def test_after_a_live_jump_the_output_goes_on_by_wall_clock_time() -> None:
    """A camera is restarted: five seconds without a picture, then its clock starts at zero."""
    line = timeline(live=True)
    out(line, *steady(25, SECOND * 1000))
    times = out(line, *steady(10), at=1 + 5.0)
    assert abs(times[0] - 6 * SECOND) < TICK
    assert [b - a for a, b in pairwise(times)] == [TICK] * 9
    assert line.repairs == {"restarted": 1}


def test_live_pictures_without_stamps_keep_to_wall_clock_time() -> None:
    """Declared 25 pictures a second; there are ten, then fifty."""
    line = timeline(live=True)
    slow = [line.picture(None, 0, number / 10).pts for number in range(100)]
    assert abs(slow[-1] / SECOND - 9.9) < 0.6
    quick = [line.picture(None, 0, 10 + number / 50).pts for number in range(500)]
    assert abs(quick[-1] / SECOND - 20) < 0.6
    assert all(a < b for a, b in pairwise([*slow, *quick]))


def test_durations() -> None:
    line = timeline()
    assert line.picture(0, 0, 0).duration == TICK
    assert line.picture(3600, 1800, 0).duration == 1800
    assert line.picture(7200, -5, 0).duration == TICK
    assert line.picture(10_800, 30 * SECOND, 0).duration == 750 * TICK
    assert line.picture(14_400, 2**62, 0).duration == TICK
    assert line.picture(18_000, 1, 0).duration == TICK
    assert line.repairs["wrong_duration"] == 2


def test_times_are_told_in_the_output_s_base() -> None:
    line = Timeline(BASE, True)
    line.opened(Fraction(1, 1000), Fraction(30), (), False, None)
    assert [line.picture(pts, 33, 0).pts for pts in (5000, 5033, 5067)] == [0, 2970, 6030]
    assert line.picture(5100, 33, 0).duration == 2970


def test_a_file_played_again_follows_at_once() -> None:
    line = timeline(Fraction(7, 5))
    first = out(line, *steady(5, 126_000))
    line.opened(BASE, Fraction(25), (), True, None)
    assert first + out(line, *steady(5, 126_000)) == steady(10, 126_000)
    assert not line.repairs


def test_a_file_played_again_goes_on_at_the_cadence_that_was_measured() -> None:
    line = timeline(rate=Fraction(60))
    out(line, *steady(10))
    line.opened(BASE, Fraction(60), (), True, None)
    assert out(line, *steady(3)) == steady(3, 10 * TICK)


def test_a_live_source_returns_at_wall_clock_time() -> None:
    line = timeline(live=True)
    out(line, *steady(25), at=100.0)
    assert line.filler(100.0) is None, "that is past"
    fillers = [filler.pts for at in (102.0, 103.0, 104.0) if (filler := line.filler(at)) is not None]
    assert fillers == [2 * SECOND, 3 * SECOND, 4 * SECOND]
    line.opened(Fraction(1, 1000), Fraction(10), (), False, 105.0)
    assert [line.picture(pts, 0, at).pts for pts, at in ((70, 105.0), (170, 105.1))] == [450_000, 459_000]
    line.opened(BASE, Fraction(25), (), False, 105.2)
    assert out(line, 0, at=105.0) == [459_000 + TICK], "never before what was told"
    line.check()


def test_outages_do_not_make_the_output_run_ahead() -> None:
    """A server that sends its last two seconds first: each time that it is back, two seconds come at once."""
    line = timeline(live=True)
    at, latest = 0.0, 0
    for opening in range(20):
        if opening:
            line.opened(BASE, Fraction(25), (), True, at)
        for number in range(250):
            latest = line.picture(number * TICK, 0, at + max(0.0, number / 25 - 2)).pts
        at += 10 - 2 + 5
    assert abs(latest / SECOND - (at - 5 + 2)) < 0.1


def test_no_filler_without_a_picture_and_none_at_the_same_time() -> None:
    line = timeline(live=True)
    assert line.filler(5.0) is None
    line.picture(0, 0, 5.0)
    first = line.filler(6.0)
    assert first is not None
    assert first.pts == SECOND
    assert first.duration == TICK
    assert line.filler(6.0) is None


def test_no_filler_within_a_hundredth_of_a_second() -> None:
    """What a container then makes of it may be the time of the picture before."""
    line = timeline(live=True)
    line.picture(0, 0, 5.0)
    assert line.filler(5.0003) is None
    assert line.filler(5.009) is None
    assert line.filler(5.011) is not None


def test_after_a_day_away_the_step_is_one_that_can_be_written() -> None:
    line = timeline(live=True)
    line.picture(0, 0, 0.0)
    line.opened(BASE, Fraction(25), (), True, 86_400.0)
    assert line.picture(0, 0, 86_400.0).pts == 3600 * SECOND


NUMBERS = st.integers(-(2**62), 2**62) | st.integers(-(2**33), 2**33) | st.integers(-20, 20).map(TICK.__mul__)
BASES = st.sampled_from((BASE, Fraction(1, 1000), Fraction(1001, 30_000), Fraction(1, 2**31 - 1), Fraction(1, 25)))
#: A picture, the source opened again, or a placeholder.
CALLS = st.one_of(
    st.tuples(st.none() | NUMBERS, NUMBERS, st.floats(0, 10**6)),
    st.tuples(BASES, st.none() | st.fractions(0, 10**6), st.booleans(), st.none() | st.floats(0, 10**6)),
    st.floats(0, 10**6),
)


@given(
    BASES,
    st.booleans(),
    st.none() | st.fractions(-(10**6), 10**12, max_denominator=90_000),
    st.lists(CALLS, min_size=1, max_size=60),
)
def test_whatever_is_said_the_sink_takes_the_times(
    base: Fraction,
    live: bool,
    start: Fraction | None,
    calls: list[tuple[int | None, int, float] | tuple[Fraction, Fraction | None, bool, float | None] | float],
) -> None:
    line, times, index = Timeline(base, live, start), OutputTimes(base), 0
    line.opened(base, Fraction(25), (), True, None)
    for call in calls:
        if isinstance(call, float):
            stamp = line.filler(call)
            assert stamp is not None or line.filler(call) is None
        elif len(call) == 3:
            stamp = line.picture(*call)
        else:
            line.opened(call[0], call[1], (), call[2], call[3])
            stamp = None
        line.check()
        if stamp is not None:
            assert 0 < stamp.duration * base <= 3601
            assert stamp.pts * base <= LATEST_S
            times.take(notice(index, out=stamp.pts, duration=stamp.duration))
            index += 1
