"""A file at its own speed."""

from __future__ import annotations

import pytest

from producer.playback import Playback


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
