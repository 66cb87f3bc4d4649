"""Sound goes through the time line beside its picture, as far from it as the source's clock says."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import pytest

from producer.timeline import NUDGE_S, Timeline

#: Time bases of picture and sound; a common part of both: all times of these tests are counted in it.
PICTURE, SOUND = Fraction(1, 90_000), Fraction(1, 48_000)
SECOND = 720_000
TICKS = (SECOND // 90_000, SECOND // 48_000)
#: Ears notice sound that is early by 45 ms (ITU-R BT.1359-1, detectability).
SYNC_S = 0.04


@dataclass(slots=True)
class Piece:
    """A picture (track 0) or a packet of sound (track 1). ``true``: its time, if all were well; ``raw``: its stamp."""

    track: int
    true: int
    length: int
    at: float
    order: float
    raw: int | None
    out: int | None = None


def clip(seconds: int, fps: int = 25, ahead: float = 0.0, delay: float = 0.12) -> list[Piece]:
    """Sound comes ``ahead`` of its picture (seconds), a picture ``delay`` late, since it is decoded first."""
    step, packet = SECOND // fps, 1024 * TICKS[1]
    end = seconds * SECOND
    pictures = [Piece(0, t, step, t / SECOND + 7, t / SECOND + delay, t) for t in range(0, end, step)]
    return pictures + [
        Piece(1, t, packet, t / SECOND + 7 - ahead, t / SECOND - ahead, t) for t in range(0, end, packet)
    ]


def jump(pieces: Iterable[Piece], since: float, by: float, cut: float = 0.0) -> None:
    """The source's clock jumps; sound tells it ``cut`` seconds later in the clip."""
    for one in pieces:
        if one.raw is not None and one.true >= (since + cut * one.track) * SECOND:
            one.raw += round(by * 6000) * (SECOND // 6000)


def between(pieces: Iterable[Piece], track: int, start: float, end: float) -> list[Piece]:
    return [one for one in pieces if one.track == track and start * SECOND <= one.true < end * SECOND]


def new_line(live: bool, start: float | None = None, discontinuous: bool = True, fps: int | None = 25) -> Timeline:
    line = Timeline(PICTURE, live, None if start is None else Fraction(start))
    reopen(line, None, discontinuous, fps)
    return line


def reopen(line: Timeline, at: float | None, discontinuous: bool = True, fps: int | None = 25) -> None:
    rate = None if fps is None else Fraction(fps)
    line.opened(PICTURE, rate, [(SOUND, Fraction(1024, 48_000))], discontinuous, at)


def play(line: Timeline, pieces: list[Piece], later: float = 0.0) -> None:
    """Everything in its order; the output must increase. ``later``: seconds by which all arrives later."""
    last = [-(2**62)] * 2
    for one in sorted(pieces, key=lambda one: one.order):
        tick = TICKS[one.track]
        pts = None if one.raw is None else one.raw // tick
        if one.track:
            told = line.sound(0, pts, one.length // tick, one.at + later)
        else:
            stamp = line.picture(pts, one.length // tick, one.at + later)
            told = stamp.pts
            assert stamp.duration > 0
            line.check()
        one.out = None if told is None else told * tick
        if one.out is not None:
            assert one.out > last[one.track]
            last[one.track] = one.out


def worst(pieces: list[Piece], since: float = 0.0) -> float:
    """How far sound is from its picture at most, in seconds, from ``since`` on. Most of it must have been told."""
    pictures = sorted((one.true, one.out) for one in pieces if one.track == 0 and one.out is not None)
    times = [true for true, _ in pictures]
    found = []
    sounds = [one for one in pieces if one.track and one.true >= since * SECOND]
    for one in sounds:
        if one.out is not None and (place := bisect_right(times, one.true)):
            true, out = pictures[place - 1]
            found.append(abs((one.out - one.true) - (out - true)) / SECOND)
    assert len(found) > 0.85 * len(sounds), "sound is missing"
    return max(found)


def told(pieces: list[Piece], track: int) -> list[int | None]:
    return [one.out for one in pieces if one.track == track]


MODES = pytest.mark.parametrize("live", [False, True], ids=["file", "live"])
AHEAD = pytest.mark.parametrize("ahead", [-0.5, 0.0, 0.5], ids=["sound_late", "together", "sound_early"])


@AHEAD
@pytest.mark.parametrize("discontinuous", [False, True])
def test_a_good_file_is_left_alone(ahead: float, discontinuous: bool) -> None:
    pieces, line = clip(5, ahead=ahead), new_line(False, 0.0, discontinuous)
    play(line, pieces)
    assert all(one.out == one.raw for one in pieces)
    assert not line.repairs


def test_the_beginning_of_sound_may_lie_before_zero() -> None:
    """The first packet of AAC does."""
    line = new_line(False, 0.0)
    assert [line.sound(0, pts, 1024, 0.0) for pts in (-1024, 0, 1024)] == [-1024, 0, 1024]
    assert not line.repairs


def test_live_sound_before_the_first_picture_is_left_out() -> None:
    pieces, line = clip(5, ahead=0.3), new_line(True)
    jump(pieces, 0, 5000)
    play(line, pieces)
    assert told(pieces, 0)[0] == 0
    left = [one for one in pieces if one.track and one.out is None]
    assert left
    assert line.repairs == {"sound_before_picture": len(left)}
    assert worst([one for one in pieces if one not in left]) < 1e-4


@MODES
@AHEAD
@pytest.mark.parametrize("cut", [0.0, 0.3])
@pytest.mark.parametrize("by", [-3000.0, -15.0, -1.5, 12.0, 3000.0])
def test_a_jump_takes_sound_along(by: float, cut: float, ahead: float, live: bool) -> None:
    pieces, line = clip(12, ahead=ahead), new_line(live, 3600.0)
    jump(pieces, 0, 3600)
    jump(pieces, 5, by, cut)
    play(line, pieces)
    assert worst(pieces, 1.0) < SYNC_S
    assert {kind: n for kind, n in line.repairs.items() if kind not in ("rebased", "sound_before_picture")} == {
        "jumped_back" if by < 0 else "jumped_ahead": 1
    }


@MODES
@AHEAD
def test_a_small_jump_back_is_waited_out(ahead: float, live: bool) -> None:
    pieces, line = clip(12, ahead=ahead), new_line(live)
    jump(pieces, 5, -0.7)
    play(line, pieces)
    assert worst(pieces, 6.5) < SYNC_S
    assert line.repairs["sound_overlap"] == pytest.approx(0.7 / 1024 * 48_000, abs=3)


@MODES
@AHEAD
@pytest.mark.parametrize("wrap", [2**33 * 8, 2**32 * 720, 2**32 * 8], ids=["mpeg-ts", "rtmp", "rtp"])
def test_a_wrap_is_exact(wrap: int, ahead: float, live: bool) -> None:
    pieces, line = clip(10, ahead=ahead), new_line(live, wrap / SECOND - 5)
    for one in pieces:
        assert one.raw is not None
        one.raw = (one.raw + wrap - 5 * SECOND) % wrap // TICKS[one.track] * TICKS[one.track]
    play(line, pieces)
    assert all(one.out is None or abs(one.out - one.true) <= TICKS[1] for one in pieces)
    assert line.repairs["wrapped"] == 1


def test_sound_that_starts_before_a_wrap_and_its_picture_after() -> None:
    line = new_line(True)
    line.picture(0, 3600, 5.0)
    wrap = Fraction(2**33, 90_000)
    first = [round((wrap + Fraction(ms, 1000)) / SOUND) for ms in (-64, -43)]
    assert [line.sound(0, pts, 1024, 5.0) for pts in first] == [None, None], "before the picture"
    assert line.sound(0, 480, 1024, 5.02) == 480
    assert line.repairs == {"wrapped": 1, "sound_before_picture": 2}


@MODES
@AHEAD
@pytest.mark.parametrize("track", [0, 1], ids=["picture", "sound"])
@pytest.mark.parametrize("by", [-5000.0, -9.0, 3.0, 9.0, 50.0, 5000.0])
def test_one_wrong_stamp_moves_nothing(by: float, track: int, ahead: float, live: bool) -> None:
    pieces, line = clip(12, ahead=ahead), new_line(live)
    jump(between(pieces, track, 5, 5.02), 0, by)
    play(line, pieces)
    assert worst(pieces, 1.0) < SYNC_S
    assert line.repairs["wrong_pts" if track == 0 else "sound_wrong_pts"] == 1


@MODES
@pytest.mark.parametrize("track", [0, 1], ids=["picture", "sound"])
@pytest.mark.parametrize("stamp", [None, 5 * SECOND, 0], ids=["missing", "frozen", "zero"])
def test_without_its_stamps_a_track_goes_on_beside_the_other(stamp: int | None, track: int, live: bool) -> None:
    pieces, line = clip(14), new_line(live, fps=60)
    jump(pieces, 0, 5)
    for one in between(pieces, track, 5, 9):
        one.raw = stamp
    play(line, pieces)
    assert worst(pieces, 5.2) < SYNC_S
    kinds = {"missing_pts"} if stamp is None else {"duplicate_pts", "frozen_pts", "wrong_pts"}
    assert set(line.repairs) & {kind if track == 0 else f"sound_{kind}" for kind in kinds}


@MODES
@pytest.mark.parametrize("tracks", [(0,), (1,), (0, 1)], ids=["picture", "sound", "both"])
@pytest.mark.parametrize("seconds", [0.5, 4.0, 30.0])
def test_sound_and_picture_are_together_after_a_gap(seconds: float, tracks: tuple[int, ...], live: bool) -> None:
    line = new_line(live)
    pieces = [one for one in clip(42) if one.track not in tracks or not 5 * SECOND <= one.true < (5 + seconds) * SECOND]
    play(line, pieces)
    assert worst(pieces, 1.0 if seconds == 0.5 or tracks != (0, 1) else 5.2 + seconds) < SYNC_S
    last = max(one.out - one.true for one in pieces if one.track == 0 and one.out is not None)
    # A pause of both in a file whose clock may jump is none if it is long.
    assert last == 0 or (seconds == 30.0 and tracks == (0, 1) and not live)


@AHEAD
def test_sound_of_another_clock_is_put_beside_the_picture_and_stays_there(ahead: float) -> None:
    pieces, line = clip(10, ahead=ahead), new_line(True)
    jump(between(pieces, 1, 0, 99), 0, 50_000)
    play(line, pieces)
    assert line.repairs["sound_aligned"] == 1
    # Nothing but the arrival says where it belongs: that is as exact as sound and picture are sent together.
    assert worst(pieces, 1.0) < abs(ahead) + SYNC_S


@AHEAD
@pytest.mark.parametrize("both", [False, True])
def test_sound_that_finds_the_clock_later(both: bool, ahead: float) -> None:
    """RTSP: until the server's report comes, a track's stamps start anywhere."""
    pieces, line = clip(12, ahead=ahead), new_line(True)
    jump(pieces, 5 if both else 0, 71_004)
    jump(between(pieces, 1, 0, 5), 0, -1010 - (0 if both else 71_004))
    play(line, pieces)
    assert line.repairs["sound_aligned"] == 1
    assert worst(pieces, 6.0) < SYNC_S


def test_sound_without_stamps_from_the_start() -> None:
    pieces, line = clip(5), new_line(True)
    for one in between(pieces, 1, 0, 99):
        one.raw = None
    play(line, pieces)
    assert worst(pieces, 0.2) < 0.15, "by arrival"


def test_pictures_without_stamps_have_sound_by_arrival() -> None:
    pieces, line = clip(5), new_line(True)
    for one in between(pieces, 0, 0, 99):
        one.raw = None
    play(line, pieces)
    assert worst(pieces, 0.2) < 0.15


def test_jitter_of_sound_is_passed_on_and_never_goes_back() -> None:
    line = new_line(False, 0.0)
    line.picture(0, 3600, 0.0)
    given = [0, 1030, 2040, 2030, 1000, 4096, 4096, 6144]
    assert [line.sound(0, pts, 1024, 0.0) for pts in given] == [0, 1030, 2040, 2041, None, 4096, 5120, 6144]
    assert line.repairs == {"sound_not_increasing": 1, "sound_overlap": 1, "sound_duplicate_pts": 1}


@pytest.mark.parametrize("overlap", [0.0, 0.4])
def test_a_file_played_again_keeps_its_sound(overlap: float) -> None:
    """``overlap``: its sound is longer than its picture."""
    first, again, line = clip(5), clip(5), new_line(False, 10.5)
    for pieces in (first, again):
        pieces[:] = [one for one in pieces if one.track or one.true < (5 - overlap) * SECOND]
        jump(pieces, 0, 10.5)
    play(line, first)
    reopen(line, None)
    play(line, again)
    assert worst(again) <= NUDGE_S
    assert told(again, 0)[0] == round((5 - overlap) * SECOND)
    left = told(again, 1).count(None)
    assert left == pytest.approx(overlap * 48_000 / 1024, abs=1)


def test_another_file_follows_a_file() -> None:
    first, other, line = clip(5), clip(5), new_line(False, 0.0)
    play(line, first)
    jump(other, 0, 12_000)
    reopen(line, None)
    play(line, other)
    assert told(other, 0)[0] == 5 * SECOND
    assert worst(other, 0.5) < 1e-4


@pytest.mark.parametrize("change", ["same", "silent", "slower"])
def test_a_live_source_that_comes_back(change: str) -> None:
    first, again, last, line = clip(5), clip(5), clip(5), new_line(True)
    play(line, first)
    jump(again, 0, -4000)
    if change == "slower":
        again = clip(5, fps=10)
    if change == "silent":
        again = [one for one in again if one.track == 0]
        line.opened(PICTURE, None, (), True, 15.0)
    else:
        reopen(line, 15.0)
    play(line, again, later=8.0)
    assert told(again, 0)[0] == pytest.approx(8 * SECOND, abs=SECOND / 10)
    if change != "silent":
        assert worst(again, 0.3) < SYNC_S
    reopen(line, 30.0)
    play(line, last, later=20.0)
    assert told(last, 0)[0] == pytest.approx(20 * SECOND, abs=SECOND / 10)
    assert worst(last, 0.3) < SYNC_S


def test_two_tracks_of_sound_go_each_its_way() -> None:
    line = Timeline(PICTURE, False, Fraction(0))
    line.opened(PICTURE, Fraction(25), [(SOUND, Fraction(1024, 48_000)), (Fraction(1, 1000), None)], True, None)
    for number in range(100):
        line.picture(number * 3600, 3600, 0.0)
        clock = 0 if number < 50 else 1000
        first = line.sound(0, number * 1920 + clock * 48_000, 1920, 0.0)
        second = line.sound(1, None if number % 10 == 5 else number * 40, 40, 0.0)
        assert (first, second) == (number * 1920, number * 40)
    assert line.repairs == {"sound_jumped_ahead": 1, "sound_missing_pts": 10}
