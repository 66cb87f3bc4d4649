"""A file at its own speed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.playback import JUMP_S, Playback


def test_the_first_packet_is_due_at_once_and_the_next_in_its_time() -> None:
    playback = Playback()
    assert playback.delay(5.0, 100.0) == 0.0
    assert playback.delay(5.04, 100.0) == pytest.approx(0.04)
    assert playback.delay(5.08, 100.05) == pytest.approx(0.03)


def test_what_is_overdue_does_not_wait() -> None:
    playback = Playback()
    playback.delay(0.0, 100.0)
    assert playback.delay(0.04, 103.0) == 0.0


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
        assert delay >= 0
        assert delay == pytest.approx(max(0.0, time - first - (now - since)), abs=1e-5)
        last = time
