"""A live sink whose encoder is too slow: bounded lag, losses spread evenly, none where it keeps up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import groupby

import pytest

from sink.overload import LEAST_S, Overload

#: Frames a second of the source, and seconds that decoding one takes.
FPS, DECODE_S = 25, 0.004
#: The first frame opens the encoder, which takes so many seconds.
OPEN_S = 1.5


class Run:
    """A render thread that takes ``encode(index)`` seconds for a frame that it encodes."""

    def __init__(
        self, overload: Overload, encode: Callable[[int], float], frames: int, hold: float = 0.0, opening: float = 0.0
    ) -> None:
        """``hold``: frames are decided in heaps, so many seconds of them at once (a late frame held them up)."""
        self.lost: list[bool] = []
        self.lags: list[float] = []
        heap = max(1, round(hold * FPS))
        waiting = deque((index, (index // heap + 1) * heap / FPS) for index in range(frames))
        now = 0.0
        for index, decided in waiting:
            now = max(now, decided)
            skipped = overload.skip(decided, now)
            overload.check()
            now += DECODE_S + (0.0 if skipped else encode(index)) + (0.0 if index else opening)
            self.lost.append(skipped)
            self.lags.append(now - decided)

    def longest_loss(self, since: int) -> int:
        """Most frames lost in a row."""
        return max((len(list(row)) for lost, row in groupby(self.lost[since:]) if lost), default=0)


@pytest.mark.parametrize("slow", [1.2, 2.0, 5.0, 20.0])
def test_too_slow_an_encoder(slow: float) -> None:
    """``slow``: how many times too long encoding takes. The lag hovers at the bound, losses come singly."""
    encode = slow / FPS
    overload = Overload(0.5)
    run = Run(overload, lambda _: encode, 60 * FPS)
    assert overload.bound == LEAST_S
    assert max(run.lags[5 * FPS :]) <= LEAST_S + encode + DECODE_S + 1e-9
    assert max(run.lags) <= LEAST_S + 2 * (encode + DECODE_S) + 1e-9, "a little more while the first one opened it"
    settled = run.lost[-40 * FPS :]
    shown = settled.count(False) / len(settled)
    assert shown == pytest.approx((1 - DECODE_S * FPS) / slow, rel=0.1), "as many as the encoder can take"
    assert run.longest_loss(5 * FPS) <= slow / (1 - DECODE_S * FPS) + 1, "one is encoded as soon as can be"
    assert min(run.lags[-40 * FPS :]) > LEAST_S - encode - 2 / FPS, "no more than necessary are left out"
    assert overload.skipped == run.lost.count(True)


@pytest.mark.parametrize("latency", [0.1, 0.5, 2.0])
def test_an_encoder_that_keeps_up_loses_nothing(latency: float) -> None:
    """Not even when all frames of a latency are decided at once."""
    run = Run(Overload(latency), lambda _: 0.8 / FPS, 20 * FPS, hold=latency)
    assert not any(run.lost)


def test_opening_the_encoder_costs_no_frame() -> None:
    run = Run(Overload(0.5), lambda _: 0.5 / FPS, 20 * FPS, opening=OPEN_S)
    assert not any(run.lost)
    assert max(run.lags) > LEAST_S


def test_a_hiccup_is_made_good() -> None:
    run = Run(Overload(0.5), lambda index: 0.9 if index == 100 else 0.2 / FPS, 20 * FPS)
    assert not any(run.lost)
    assert run.lags[-1] < 0.1


def test_a_pause_costs_what_it_must() -> None:
    """A disk that stops for 5 s: what waited longer than the bound is left out, then all is well again."""
    run = Run(Overload(0.5), lambda index: 5.0 if index == 100 else 0.2 / FPS, 30 * FPS)
    assert 3.5 * FPS < run.lost.count(True) <= 5 * FPS
    assert not any(run.lost[: 100 + 1])
    assert not any(run.lost[100 + 6 * FPS :])


def test_lossless_never_skips() -> None:
    overload = Overload(None)
    run = Run(overload, lambda _: 10 / FPS, 10 * FPS)
    assert not any(run.lost)
    assert overload.bound is None
