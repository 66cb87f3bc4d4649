"""Re-encoded sound follows its times: for hours, through holes, overlaps, other rates; and whatever frames claim."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from random import Random

import av
import numpy as np
import pytest

from sink.recode import MAX_HOLE_S, Recoder, can_make
from sink.soundform import Form

RATE, BLOCK = 8000, 512
#: A click of so many samples, at the beginning of every second of sound.
CLICK = 40
CLOSE_S = 0.010


def pcm(rate: int = RATE, layout: str = "mono", channels: int = 1) -> Form:
    return Form("pcm_s16le", rate, channels, layout, layout.encode())


def frame(start: float | None, samples: np.ndarray, rate: int = RATE, layout: str = "mono") -> av.AudioFrame:
    made = av.AudioFrame.from_ndarray(samples.reshape(1, -1).astype(np.int16), "s16", layout)
    made.sample_rate, made.time_base = rate, Fraction(1, 1_000_000)
    made.pts = None if start is None else round(start * 1e6)
    return made


def clicks(seconds: float, rate: int = RATE, block: int = BLOCK) -> Iterator[tuple[float, np.ndarray]]:
    """Blocks of sound, each with the time at which it begins by the count of samples."""
    for first in range(0, int(seconds * rate) - block + 1, block):
        yield first / rate, 20_000 * ((first + np.arange(block)) % rate < CLICK)


class Heard:
    """Finds clicks in what a recoder gives, and checks that its packets follow one on the other."""

    def __init__(self) -> None:
        self.clicks: list[float] = []
        self.end: Fraction | None = None
        self.holes = 0

    def hear(self, packets: Iterator[av.Packet]) -> None:
        for packet in packets:
            start = (packet.pts or 0) * Fraction(packet.time_base)
            samples = np.frombuffer(bytes(packet), np.int16)
            rate = packet.time_base.denominator
            assert packet.duration == len(samples)
            if self.end is not None and start != self.end:
                assert start > self.end
                self.holes += 1
            self.end = start + Fraction(len(samples), rate)
            for at in np.flatnonzero(np.abs(samples.astype(float)) > 8000):
                time = float(start) + at / rate
                if not self.clicks or time - self.clicks[-1] > 0.1:
                    self.clicks.append(time)


def follow(
    clock: Callable[[float], float],
    seconds: float,
    rate: int = RATE,
    out: int = RATE,
    lost: Callable[[int], bool] = lambda number: False,
    block: int = BLOCK,
    settled: float = 0,
) -> float:
    """Let a recoder hear clicks whose blocks come at ``clock(time by the count)``; those with ``lost(number)`` do not.
    Returns how far a click was off at most, in seconds; of those from ``settled`` on."""
    recoder, heard, expected = Recoder(pcm(out)), Heard(), []
    for number, (time, samples) in enumerate(clicks(seconds, rate, block)):
        if lost(number):
            continue
        end = clock(time) + block / rate
        after = -round(time * rate) % rate  # samples to the next whole second
        if after < block - CLICK and time >= settled:
            expected.append(clock(time) + after / rate)
        heard.hear(recoder.encode(frame(clock(time), samples, rate)))
    heard.hear(recoder.flush())
    assert heard.holes == 0
    assert recoder.left_out == 0
    assert heard.end is not None
    assert abs(float(heard.end) - end) < 2 * CLOSE_S
    assert len(expected) > (seconds - settled) * 0.5
    found = np.array(heard.clicks)
    return max(float(np.abs(found - time).min()) for time in expected)


def test_a_clock_that_is_right() -> None:
    assert follow(lambda time: time, 20) < 0.0005


@pytest.mark.parametrize("share", [2e-3, -2e-3])
def test_a_clock_that_is_wrong(share: float) -> None:
    assert follow(lambda time: time * (1 + share), 40) < CLOSE_S


def test_times_in_milliseconds() -> None:
    assert follow(lambda time: round(time, 3), 20) < 0.002


def test_times_that_jitter() -> None:
    random = Random(1)
    assert follow(lambda time: max(0, time + random.uniform(-0.004, 0.004)), 20) < CLOSE_S


@pytest.mark.parametrize(("rate", "out"), [(44100, 48000), (48000, 44100), (8000, 44100)])
def test_other_rates(rate: int, out: int) -> None:
    assert follow(lambda time: time * 1.0002, 10, rate, out, block=2048) < CLOSE_S


@pytest.mark.parametrize("length", [0.025, 0.3, 0.9])
def test_holes(length: float) -> None:
    assert follow(lambda time: time + length * int(time / 5), 20) < CLOSE_S


def test_a_hole_of_less_than_a_packet_is_stretched_away() -> None:
    assert follow(lambda time: time + 0.018 * (time >= 2.5), 10, settled=5) < 0.004


@pytest.mark.parametrize("every", [3, 50])
def test_lost_packets(every: int) -> None:
    assert follow(lambda time: time, 20, lost=lambda number: number % every == 2) < CLOSE_S


def test_sound_that_comes_twice() -> None:
    """What overlaps is cut; clicks are not among it."""
    assert follow(lambda time: time - 0.07 * int((time + 0.5) / 5), 20) < CLOSE_S


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_for_hours() -> None:
    """A clock that is off, milliseconds, a hole a minute, and a block that is lost now and then."""
    lost = lambda number: number % 997 == 5  # noqa: E731
    clock = lambda time: round(time * 1.0003 + 0.2 * int(time / 60), 3)  # noqa: E731
    assert follow(clock, 2 * 3600, lost=lost, block=4000) < CLOSE_S


@pytest.mark.parametrize("form", [pcm(), Form("aac", 8000, 1, "mono", bytes([2, 0]))])
def test_a_long_hole_stays_one(form: Form) -> None:
    """Silence is made elsewhere, and a time that is wrong by days costs no memory."""
    recoder = Recoder(form)
    packets = []
    for start in (0.0, 50.0, 1e6):
        for time, samples in clicks(1):
            packets += list(recoder.encode(frame(start + time, samples)))
    packets += list(recoder.flush())
    starts = [float((packet.pts or 0) * packet.time_base) for packet in packets]
    assert len(packets) < 300
    assert all(a < b for a, b in pairwise(starts))
    jumps = [b for a, b in pairwise(starts) if b - a > MAX_HOLE_S]
    assert jumps == pytest.approx([50, 1e6], abs=0.14), "an encoder's delay before"


def test_sound_that_goes_far_back_is_left_out_until_it_comes_up() -> None:
    recoder, heard = Recoder(pcm()), Heard()
    for time, samples in clicks(5):
        heard.hear(recoder.encode(frame(time, samples)))
    for time, samples in clicks(7):
        heard.hear(recoder.encode(frame(time, samples)))
    heard.hear(recoder.flush())
    assert heard.holes == 0
    assert recoder.left_out == pytest.approx(4 * RATE / BLOCK, abs=2)
    assert len(heard.clicks) == 7


def test_frames_without_times_go_on() -> None:
    recoder, heard = Recoder(pcm()), Heard()
    for number, (time, samples) in enumerate(clicks(5)):
        heard.hear(recoder.encode(frame(time + 3 if number == 0 else None, samples)))
    heard.hear(recoder.flush())
    assert heard.clicks == pytest.approx([3, 4, 5, 6, 7], abs=0.001)


def test_sound_that_changes_its_kind_under_way() -> None:
    recoder, heard = Recoder(pcm()), Heard()
    for time, samples in clicks(4):
        stereo = int(time) % 2 == 1
        both = np.repeat(samples, 2) if stereo else samples
        heard.hear(recoder.encode(frame(time, both, layout="stereo" if stereo else "mono")))
    heard.hear(recoder.flush())
    assert heard.clicks == pytest.approx([0, 1, 2, 3], abs=CLOSE_S)


@pytest.mark.parametrize("rate", [0, 1, 999, 1_000_000, 2**31 - 1])
def test_rates_that_nothing_has(rate: int) -> None:
    """One sample at 1 Hz would be 48,000 of ours."""
    recoder = Recoder(pcm(48000))
    assert list(recoder.encode(frame(0, np.zeros(100), rate))) == []
    assert recoder.left_out == 1


def test_a_frame_of_minutes_is_left_out() -> None:
    recoder = Recoder(pcm())
    assert list(recoder.encode(frame(0, np.zeros(11 * RATE)))) == []
    assert recoder.left_out == 1


@pytest.mark.parametrize("layout", ["7.1", "hexadecagonal", "9 channels"])
def test_many_channels(layout: str) -> None:
    """PyAV ends the process when the planes of a frame with 8 channels are asked for."""
    recoder = Recoder(Form("aac", 48000, 7, "7.1", bytes([2, 0])))
    channels = {"7.1": 8, "hexadecagonal": 16, "9 channels": 9}[layout]
    try:
        for number in range(20):
            list(recoder.encode(frame(number * 0.01, np.zeros(480 * channels), 48000, layout)))
        list(recoder.flush())
    except av.FFmpegError:
        assert layout == "9 channels", "nobody knows where they are"


def test_what_can_be_made() -> None:
    lc, main, ltp, short, usac = (bytes([kind, 0]) for kind in (2, 1, 4, 0, 42))
    assert can_make(Form("aac", 44100, 2, "stereo", lc))
    assert can_make(Form("aac", 44100, 2, "stereo", main))
    assert can_make(Form("aac", 44100, 2, "stereo", ltp))
    assert not can_make(Form("aac", 44100, 2, "stereo", usac))
    assert not can_make(Form("aac", 44100, 2, "stereo", bytes([2, 1]))), "960 samples a packet"
    assert not can_make(Form("aac", 37800, 2, "stereo", lc))
    assert not can_make(Form("aac", 44100, 2, "stereo", short))
    assert not can_make(Form("opus", 48000, 2, "stereo", b"\0\1\0")), "a gain"
    assert not can_make(Form("alac", 44100, 2, "stereo", bytes([0, 16, 40, 10, 13, 2]), 4096)), "another limit"
    assert not can_make(Form("alac", 44100, 2, "stereo", bytes([0, 16, 40, 10, 14, 2]), 1024)), "shorter packets"
    assert not can_make(Form("ac3", 37800, 2, "stereo"))
    assert not can_make(Form("truehd", 48000, 2, "stereo"))
    assert not can_make(Form("pcm_nothing", 48000, 2, "stereo"))
