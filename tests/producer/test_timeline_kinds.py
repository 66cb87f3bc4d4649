"""Whose clock was set anew is told apart in the repairs: sound's alone, or that of both."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from producer.timeline import Timeline

PICTURE, SOUND = Fraction(1, 90_000), Fraction(1, 48_000)
LENGTH = Fraction(1024, 48_000)
#: When the clock jumps, in seconds, and where to.
JUMP, START = 20, 100
TO = {"jumped_ahead": 500.0, "jumped_back": 50.0, "restarted": 0.0}


def repairs(to: float, sound_alone: bool, sound_late: float, live: bool) -> dict[str, int]:
    """Of 40 s of picture and sound, whose packets come ``sound_late`` seconds after their pictures."""
    line = Timeline(PICTURE, live, Fraction(START))
    line.opened(PICTURE, Fraction(25), [(SOUND, LENGTH)], True, None)
    events = [(Fraction(number, 25), 0, Fraction(number, 25)) for number in range(1000)]
    times = [number * LENGTH for number in range(int(40 / LENGTH))]
    events += [(time + Fraction(sound_late), 1, time) for time in times]
    for at, track, time in sorted(events):
        jumps = time >= JUMP and (track or not sound_alone)
        stamp = Fraction(to) + time - JUMP if jumps else START + time
        if track:
            line.sound(0, round(stamp / SOUND), 1024, float(at))
        else:
            line.picture(round(stamp / PICTURE), 3600, float(at))
        line.check()
    return {kind: count for kind, count in line.repairs.items() if kind not in ("rebased", "sound_before_picture")}


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("late", [-0.5, 0.001, 0.5])
@pytest.mark.parametrize("kind", TO)
def test_whose_clock_has_jumped(kind: str, late: float, live: bool) -> None:
    table = (Path(__file__).parents[2] / "docs" / "live.md").read_text()
    assert f"`{kind}`" in table
    assert f"`sound_{kind}`" in table
    assert repairs(TO[kind], False, late, live) == {kind: 1}
    assert repairs(TO[kind], True, late, live) == {f"sound_{kind}": 1}
