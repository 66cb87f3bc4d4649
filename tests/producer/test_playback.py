"""A file at its own speed, and segments that come at once."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.lookout import MUTE_S
from producer.playback import CATCH_UP, JUMP_S, LATE_S, Playback


def test_the_first_packet_is_due_at_once_and_the_next_in_its_time() -> None:
    playback = Playback()
    assert playback.delay(5.0, 100.0) == 0.0
    assert playback.delay(5.04, 100.0) == pytest.approx(0.04)
    assert playback.delay(5.08, 100.05) == pytest.approx(0.03)


def test_what_is_a_little_late_is_caught_up_with() -> None:
    """Without a burst, and without losing what it was to be in step with."""
    playback, now = Playback(), 100.0
    playback.delay(0.0, now)
    now += 0.04 + 0.5
    went = []
    for number in range(1, 100):
        now += playback.delay(number / 25, now)
        went.append(now)
    assert went[0] == 100.54
    assert went[-1] == pytest.approx(100 + 99 / 25)
    steps = [b - a for a, b in pairwise(went)]
    assert steps[:57] == pytest.approx([0.04 / CATCH_UP] * 57)
    assert min(steps) == pytest.approx(0.04 / CATCH_UP)
    assert steps[65:] == pytest.approx([0.04] * 33)


def test_what_has_stood_still_goes_on_from_there() -> None:
    playback = Playback()
    playback.delay(0.0, 100.0)
    assert playback.delay(0.04, 103.0) == 0.0
    assert playback.delay(0.08, 103.0) == pytest.approx(0.04)
    assert playback.delay(0.12, 103.04) == pytest.approx(0.04)


@pytest.mark.parametrize("length", [1.0, 2.0, 4.0, 10.0])
@pytest.mark.parametrize("stall", [0.0, 0.7, 5.0, 25.0])
@pytest.mark.parametrize("buffer", [0, 2])
def test_segments_are_played_evenly_whatever_comes_late(length: float, stall: float, buffer: int) -> None:
    """A live playlist stalls after its tenth segment; nothing is lost, so that all that follows is as late. At first
    the server has ``buffer`` segments in stock."""
    playback, now = Playback(), (buffer + 1) * length
    begun = []
    for segment in range(40):
        now = max(now, (segment + 1) * length + (stall if segment >= 10 else 0.0))
        begun.append([])
        for picture in range(round(length * 25)):
            now += playback.delay(segment * length + picture / 25, now)
            begun[-1].append(now)
    for went in [*begun[:10], *begun[12:]]:
        assert length / CATCH_UP - 0.05 < went[-1] - went[0] < length
    steps = [b[0] - a[-1] for a, b in pairwise(begun[12:])]
    assert max(steps) < max(MUTE_S, LATE_S * length / 4), "no pause that would be called mute"


def test_tracks_that_lie_apart_are_no_delay() -> None:
    """Sound comes more than a second after its picture, or before it."""
    for apart in (-1.5, -0.3, 0.3, 1.5):
        playback, now = Playback(), 0.0
        for number in range(500):
            now += playback.delay(10 + number / 25, now)
            now += playback.delay(10 + number / 25 + apart, now)
        assert now == pytest.approx(499 / 25 + max(0.0, apart), abs=0.1)


@pytest.mark.parametrize("jump", [-50.0, 50.0])
def test_a_jump_of_the_files_clock_is_not_slept_through(jump: float) -> None:
    playback = Playback()
    playback.delay(100.0, 0.0)
    assert playback.delay(100.0 + jump, 0.04) == 0.0
    assert playback.delay(100.04 + jump, 0.04) == pytest.approx(0.04)


@given(st.lists(st.tuples(st.floats(-1e6, 1e6) | st.floats(0, 3), st.floats(0, 10)), min_size=1, max_size=60))
def test_whatever_the_stamps_no_packet_waits_longer_than_the_stream_has_run(steps: list[tuple[float, float]]) -> None:
    """Events: a packet's stream time, and the wall time since the one before."""
    playback, now, first, since = Playback(), 100.0, 0.0, 100.0
    last: float | None = None
    for time, gap in steps:
        now += gap
        delay = playback.delay(time, now)
        if last is None or abs(time - last) > JUMP_S:
            first, since = time, now
            assert delay == pytest.approx(0, abs=1e-6)
        assert 0 <= delay <= max(0.0, time - first - (now - since), max(time - first, 0) / CATCH_UP) + LATE_S
        last = time
