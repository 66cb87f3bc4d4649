"""Output times: those that a producer can mean pass, others are refused before a muxer sees them."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import PeerError
from common.messages import MAX_RUN
from producer.timeline import Timeline
from sink.times import LATEST_S, MAX_STEP_S, OutputTimes
from tests.builders import TICK, notice

BASE = Fraction(1, 25 * TICK)
SECOND = 25 * TICK


def refused(times: OutputTimes, index: int, **fields: int) -> str:
    with pytest.raises(PeerError) as caught:
        times.take(notice(index, **fields))
    times.check()
    assert caught.value.kind == "time"
    return caught.value.detail


def test_honest_times_pass() -> None:
    times = OutputTimes(BASE)
    for index in range(100):
        times.take(notice(index))
    times.take(notice(100, out=100 * TICK + 3600 * SECOND))
    times.check()


def test_a_stream_that_goes_on_after_days_passes() -> None:
    OutputTimes(BASE).take(notice(10**7, out=10**7 * TICK))


def test_what_follows_a_long_gap_passes() -> None:
    times = OutputTimes(BASE)
    times.take(notice(0, "gap", count=MAX_RUN, duration=10 * SECOND, out=0))
    times.take(notice(MAX_RUN, out=MAX_RUN * 10 * SECOND))
    times.check()


@pytest.mark.parametrize("out", [-1, -(2**62), (LATEST_S + 1) * SECOND, 2**62])
def test_a_time_that_cannot_be(out: int) -> None:
    assert "is at" in refused(OutputTimes(BASE), 0, out=out)


@pytest.mark.parametrize("duration", [-1, -(2**62), 2**62])
def test_a_wrong_duration_is_no_reason(duration: int) -> None:
    """Containers tell of some; nothing is made of them here."""
    times = OutputTimes(BASE)
    times.take(notice(0, duration=duration))
    times.take(notice(1, duration=duration))
    assert "after" in refused(times, 2, out=2 * MAX_STEP_S * SECOND)


@pytest.mark.parametrize("out", [0, 10, (MAX_STEP_S + 1) * SECOND + 10])
def test_a_step_back_or_far_ahead_is_refused_and_forgotten(out: int) -> None:
    times = OutputTimes(BASE)
    times.take(notice(0, out=10, duration=1))
    assert "after the last one" in refused(times, 1, out=out)
    times.take(notice(1, out=11))


@given(
    st.sampled_from((Fraction(1, 90_000), Fraction(1, 1000), Fraction(1001, 30_000), Fraction(1, 2**31 - 1))),
    st.lists(st.none() | st.integers(-(2**45), 2**45), min_size=1, max_size=50),
    st.lists(st.integers(-5, 10_000), min_size=1, max_size=50),
)
def test_whatever_the_source_says_repaired_times_pass(
    base: Fraction, stamps: list[int | None], durations: list[int]
) -> None:
    line, times = Timeline(base, live=False), OutputTimes(base)
    line.opened(base, Fraction(25), (), False, None)
    for index, pts in enumerate(stamps):
        stamp = line.picture(pts, durations[index % len(durations)], index / 25)
        if stamp.pts * base > LATEST_S:
            return
        times.take(notice(index, out=stamp.pts, duration=stamp.duration))
        times.check()
