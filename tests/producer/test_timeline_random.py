"""Random faults of a source's clock: the output increases, and sound is with its picture again soon after each."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.timeline import LATEST_S, Timeline
from tests.producer.test_timeline_sound import SECOND, SYNC_S, Piece, between, clip, jump, new_line, play, worst

#: Faults come from the fourth second on. What a wrong stamp less than ten seconds ahead has pushed ahead is waited for;
#: that takes the longest.
CALM_S, RECOVERY_S = 4.0, 12
KINDS = ("jump", "restart", "visit", "wrong", "wrong_twice", "missing", "frozen", "twin", "gap", "gap_of_one", "jitter")
LASTING = ("missing", "frozen", "gap", "gap_of_one", "jitter")


@dataclass(frozen=True, slots=True)
class Fault:
    """``after``: seconds since the one before; ``size``: of the jump; ``length``: of what lasts, in seconds too."""

    kind: str
    track: int
    after: float
    size: float
    length: float

    def damage(self, pieces: list[Piece], now: float, random: Random) -> list[Piece]:
        hit = [one for one in between(pieces, self.track, now, now + self.length) if one.raw is not None]
        if self.kind == "jump":
            jump(pieces, now, self.size, random.choice((0, 0, 0.1, 0.3)))
        elif self.kind == "restart":
            first = min((one.raw for one in pieces if one.raw is not None and one.true >= now * SECOND), default=0)
            jump(pieces, now, -first / SECOND)
        elif self.kind == "visit":
            jump(pieces, now, self.size)
            jump(pieces, now + 0.3, -self.size)
        elif self.kind.startswith("wrong"):
            jump(hit[: 2 if self.kind == "wrong_twice" else 1], 0, self.size)
        elif self.kind in ("missing", "frozen", "twin"):
            for one in hit[: 2 if self.kind == "twin" else None]:
                one.raw = None if self.kind == "missing" else hit[0].raw
        elif self.kind == "jitter":
            for one in hit:
                jump([one], 0, random.uniform(-0.01, 0.01))
        else:
            lost = {id(one) for one in between(pieces, self.track, now, now + self.length)}
            if self.kind == "gap":
                lost |= {id(one) for one in between(pieces, 1 - self.track, now, now + self.length)}
            return [one for one in pieces if id(one) not in lost]
        return pieces


@dataclass(frozen=True, slots=True)
class Case:
    """``ahead`` and ``delay`` are those of :func:`clip`; ``declared``: the rate that the header tells."""

    live: bool
    fps: int
    ahead: float
    delay: float
    declared: int | None
    faults: list[Fault]
    seed: int

    def check(self) -> None:
        random = Random(self.seed)
        starts = list(accumulate((fault.after for fault in self.faults), initial=CALM_S))[1:]
        faults = list(zip(self.faults, starts, strict=True))
        over = max(now + (fault.length if fault.kind in LASTING else 0) for fault, now in faults)
        pieces = clip(round(over + 2 * RECOVERY_S), self.fps, self.ahead, self.delay)
        start = random.choice((0, 5, 1000, 80_000))
        jump(pieces, 0, start)
        for fault, now in faults:
            pieces = fault.damage(pieces, now, random)
        for one in pieces:
            one.at += random.uniform(0, 0.03)
        play(new_line(self.live, start, fps=self.declared), pieces)
        assert worst(pieces, over + RECOVERY_S) <= SYNC_S


FAULTS = st.builds(
    Fault,
    kind=st.sampled_from(KINDS),
    track=st.integers(0, 1),
    after=st.floats(0.1, 6),
    size=st.floats(-5, 5) | st.floats(-20, 20) | st.floats(-1e5, 1e5) | st.sampled_from((-1.0, 1.0, 10.0, 3600.0)),
    length=st.sampled_from((0.2, 0.5, 2.0, 6.0)),
)
CASES = st.builds(
    Case,
    live=st.booleans(),
    fps=st.sampled_from((5, 12, 25, 50)),
    ahead=st.sampled_from((-0.8, -0.3, 0.0, 0.3, 0.8)),
    delay=st.sampled_from((0.04, 0.2, 0.6)),
    declared=st.sampled_from((None, 25, 90_000)),
    faults=st.lists(FAULTS, min_size=1, max_size=4),
    seed=st.integers(0, 1000),
)


@settings(max_examples=40, deadline=None)
@given(CASES)
def test_sound_and_picture_are_together_again(case: Case) -> None:
    case.check()


@pytest.mark.slow
@settings(max_examples=1500, deadline=None)
@given(CASES)
def test_sound_and_picture_are_together_again_at_length(case: Case) -> None:
    case.check()


STAMPS = st.none() | st.integers(-(2**62), 2**62) | st.integers(-(2**34), 2**34) | st.integers(0, 9).map((3600).__mul__)
#: 0 and 1: stamp, length and arrival of a picture, of a packet of sound; 2: the source is opened again.
CALLS = st.one_of(
    st.tuples(st.integers(0, 1), STAMPS, st.integers(-5, 2**62) | st.just(1024), st.floats(0, 1e6)),
    st.tuples(st.just(2), STAMPS, st.integers(0, 3), st.floats(0, 1e6)),
)


@settings(deadline=None)
@given(st.booleans(), st.booleans(), st.lists(CALLS, min_size=1, max_size=80))
def test_whatever_is_said_sound_never_goes_back(
    live: bool, discontinuous: bool, calls: list[tuple[int, int | None, int, float]]
) -> None:
    base, picture = Fraction(1, 48_000), -1
    sound = Fraction(-2)
    line = Timeline(Fraction(1, 90_000), live)
    line.opened(Fraction(1, 90_000), Fraction(25), [(base, None)], discontinuous, None)
    for what, pts, number, at in calls:
        if what == 0:
            told = line.picture(pts, number, at).pts
            assert told > picture
            picture = told
        elif what == 1 and (heard := line.sound(0, pts, number, at)) is not None:
            assert sound < heard * base <= LATEST_S
            sound = heard * base
        elif what == 2:
            base = (Fraction(1, 48_000), Fraction(1, 44_100), Fraction(1, 1000), Fraction(1, 90_000))[number]
            line.opened(Fraction(1, 90_000), None, [(base, None)], discontinuous, at if number else None)
        line.check()
