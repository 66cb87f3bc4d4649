"""Files with broken clocks, through the whole command: sound stays with its picture, and times only increase."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest

from tests.flashbeep import assert_in_sync, flashes, make_clip
from tests.restamp import TS_CLOCK, TS_WRAP, Change, restamp
from tests.support import frame_times, headrace, ledger

#: Seconds of a clip, and where in it the clock breaks: not at a flash, which comes in the middle of each second.
SECONDS, BREAK = 8, Fraction(31, 10)
#: Where MPEG-TS starts again, in seconds.
WRAP = Fraction(TS_WRAP, TS_CLOCK)


@dataclass(frozen=True, slots=True)
class Case:
    """``repairs``: kinds that must be in the ledger. ``flashes``: those that must have their beep near them."""

    end: str
    change: Change
    repairs: frozenset[str]
    flashes: int = SECONDS


def case(end: str, change: Change, *repairs: str, flashes: int = SECONDS) -> Case:
    return Case(end, change, frozenset(repairs), flashes)


def moved(by: Fraction | int, since: Fraction = BREAK) -> Change:
    return lambda kind, number, time: time + by if time >= since else time


def one(kind: str, by: int) -> Change:
    """Every 40th time of a track is wrong."""
    return lambda track, number, time: time + by if track == kind and number % 40 == 39 else time


def during(kind: str, change: Callable[[int, Fraction], Fraction | None]) -> Change:
    """Two seconds of a track."""
    return lambda track, number, time: change(number, time) if track == kind and BREAK <= time < BREAK + 2 else time


def all_at_once(kind: str, number: int, time: Fraction) -> Fraction | None:
    """One after the other: wrong times, a restart, missing times, jitter, a jump to just before the wrap."""
    if (kind, number) in (("video", 45), ("audio", 110)):
        return time + 5000
    if time < BREAK:
        return time
    if kind == "video" and 4 <= time < 5:
        return None
    if time < Fraction(61, 10):
        jitter = Fraction(number * 7 % 9 - 4, 1000) if time > 5 else 0
        return time - BREAK + jitter
    return WRAP - 1 + (time - Fraction(61, 10))


def unsteady(number: int, time: Fraction) -> Fraction:
    """Up to 40 ms off, but right where it flashes."""
    return time if number % 25 == 12 else time + Fraction(number * 4 % 9 - 4, 100)


CASES = {
    "all_at_once": case("ts", all_at_once, "wrong_pts", "restarted", "jumped_ahead", "wrapped"),
    # FFmpeg's demuxer takes it for the end of 32 bits of milliseconds, and gives a jump ahead.
    "flv_jump_back": case(
        "flv", lambda kind, number, time: time + (100_000 if time < BREAK else 30_000), "jumped_ahead"
    ),
}
SLOW = {
    "clean": case("ts", lambda kind, number, time: time),
    "restart": case("ts", moved(-BREAK), "restarted"),
    "jump_ahead": case("ts", moved(Fraction(1003, 10)), "jumped_ahead"),
    "jump_back": case("ts", moved(-Fraction(2)), "jumped_back"),
    "small_jump_back": case("ts", moved(-Fraction(7, 10)), "sound_overlap", flashes=SECONDS - 2),
    "pause": case("ts", moved(Fraction(33, 10))),
    "near_wrap": case("ts", moved(WRAP - 3, Fraction(-1)), "rebased"),
    "picture_wrong": case("ts", one("video", 50), "wrong_pts"),
    "sound_wrong": case("ts", one("audio", -2), "sound_wrong_pts"),
    "picture_missing": case("ts", during("video", lambda number, time: None), "missing_pts"),
    "picture_frozen": case("ts", during("video", lambda number, time: BREAK), "frozen_pts"),
    "sound_frozen": case("ts", during("audio", lambda number, time: BREAK), "sound_duplicate_pts"),
    "picture_zero": case("ts", during("video", lambda number, time: Fraction(0)), "frozen_pts"),
    "jitter": case("ts", during("video", unsteady), "not_increasing"),
    "flv_jump_ahead": case("flv", moved(2**31 // 1000), "jumped_ahead"),
    "flv_restart": case("flv", moved(-BREAK), "restarted"),
}


def check(case: Case, folder: Path) -> None:
    good = make_clip(folder / f"good.{case.end}", SECONDS, size=(160, 96))
    clip = restamp(good, folder / f"clip.{case.end}", case.change)
    outputs = [folder / "out.mp4", folder / "out.mkv"]
    done = headrace("run", clip, "-o", outputs[0], "-o", outputs[1], "--model", "echo", "--preset", "ultrafast")
    assert done.code == 0, done.err
    found = ledger(outputs[0])
    assert case.repairs <= set(found["repairs"]), found["repairs"]
    assert found["frames"] == SECONDS * 25
    for output in outputs:
        times = frame_times(output)
        assert len(times) == SECONDS * 25, output.suffix
        assert all(before < after for before, after in pairwise(times)), output.suffix
        assert len(flashes(output)) == SECONDS, output.suffix
        with av.open(str(output)) as container:
            sound = [packet.dts for packet in container.demux(audio=0) if packet.dts is not None]
        assert all(before < after for before, after in pairwise(sound)), output.suffix
        assert_in_sync(output, least=case.flashes)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_sound_stays_with_its_picture(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", SLOW.values(), ids=SLOW)
def test_sound_stays_with_its_picture_whatever_the_clock(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)
