"""Silence: where it is due, never over real sound, and packets of it that decode to nothing of the right length."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from av.audio.codeccontext import AudioCodecContext
from av.audio.resampler import AudioResampler
from hypothesis import given, settings
from hypothesis import strategies as st

from sink.recode import open_encoder
from sink.silence import GONE_S, HOLE_S, LAG_S, MAX_FILL_S, MAX_LAG_S, SLACK_S, Silence, SilentPackets
from sink.soundform import Form

LENGTH = Fraction(1, 50)


def made() -> Silence:
    silence = Silence()
    silence.length = LENGTH
    return silence


def filled(silence: Silence, picture: float, gone: bool = False) -> list[Fraction]:
    """What is due behind a picture."""
    at = Fraction(picture)
    starts = list(silence.behind(at, gone)) if silence.is_behind(at, gone) else []
    silence.check()
    return starts


def test_a_track_that_lags_is_filled_a_second_behind() -> None:
    silence = made()
    assert silence.sound(Fraction(0), LENGTH)
    assert filled(silence, 1) == []
    assert filled(silence, 2) == [LENGTH * number for number in range(1, 50)]
    assert silence.end == 1
    assert silence.filled == 49


def test_a_track_that_is_gone_is_filled_close_behind() -> None:
    silence = made()
    assert silence.sound(Fraction(0), LENGTH)
    starts = filled(silence, 2, gone=True)
    assert starts == [LENGTH * number for number in range(1, 90)]
    assert filled(silence, 2.01, gone=True) == [], "no packet fits yet"


def test_a_track_that_never_began_is_filled_from_the_first_picture() -> None:
    silence = made()
    assert filled(silence, 100, gone=True) == []
    assert filled(silence, 101, gone=True)[0] == 100
    other = made()
    assert filled(other, 100) == []
    assert other.sound(Fraction(99), LENGTH), "nothing was filled yet"


def test_sound_for_a_time_that_is_filled_is_left_out_and_counted() -> None:
    silence = made()
    filled(silence, 0)
    filled(silence, 3)
    assert not silence.sound(Fraction(3, 2), LENGTH)
    assert silence.left_out == 1
    assert silence.sound(Fraction(2), LENGTH)
    assert silence.end == 2 + LENGTH


def test_sound_that_keeps_coming_late_is_waited_for_longer() -> None:
    """Two seconds late: lost once, and never again."""
    silence = made()
    given = []
    for number in range(500):
        picture = number * LENGTH
        if picture >= 2:
            given.append(silence.sound(picture - 2, LENGTH))
        filled(silence, float(picture))
    assert given.index(True) < 75
    assert all(given[given.index(True) :])
    for number in range(100):  # but not for ever
        silence.sound(Fraction(-number), LENGTH)
    silence.check()
    assert filled(silence, 500)[-1] >= 500 - MAX_LAG_S - 2 * LENGTH


def test_sound_after_an_absence_moves_nothing() -> None:
    silence = made()
    filled(silence, 0)
    filled(silence, 60, gone=True)
    assert not silence.sound(Fraction(50), LENGTH)
    assert filled(silence, 62)[-1] == 61 - LENGTH


def test_a_hole_is_filled_up_to_the_sound_that_ends_it() -> None:
    silence = made()
    silence.sound(Fraction(0), LENGTH)
    assert not silence.is_hole(LENGTH + HOLE_S)
    assert silence.is_hole(Fraction(1, 2))
    assert list(silence.before(Fraction(1, 2))) == [LENGTH * number for number in range(1, 25)]
    assert silence.sound(Fraction(1, 2), LENGTH)


def test_silence_goes_on_to_the_sound_that_comes_back() -> None:
    silence = made()
    filled(silence, 0)
    assert filled(silence, 5, gone=True)[-1] + LENGTH == 5 - GONE_S
    assert silence.is_hole(5 - GONE_S + 2 * LENGTH)
    assert len(list(silence.before(5 - GONE_S + 2 * LENGTH))) == 2


def test_most_silence_at_one_time() -> None:
    silence = made()
    silence.sound(Fraction(0), LENGTH)
    starts = filled(silence, 100_000)
    assert len(starts) == MAX_FILL_S / LENGTH
    assert starts[-1] + LENGTH == 100_000 - LAG_S, "near the picture, where it is waited for"


def test_what_cannot_be_encoded_is_not_filled() -> None:
    silence = Silence()
    assert silence.sound(Fraction(0), LENGTH)
    assert silence.is_behind(Fraction(9), False)
    assert list(silence.behind(Fraction(9), False)) == []
    assert silence.sound(Fraction(1, 10), LENGTH)


def test_packets_without_a_length_are_as_long_as_the_one_before() -> None:
    silence = made()
    for number in range(5):
        silence.sound(Fraction(number, 2), Fraction(0))
    assert silence.end == Fraction(5, 2)


times = st.fractions(-10, 60, max_denominator=1000)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("psgc"), times), max_size=80), st.sampled_from(["1/50", "1536/48000", "1/2"]))
def test_silence_never_overlaps_anything(events: list[tuple[str, Fraction]], length: str) -> None:
    """Events: a picture, a picture while the source is gone, sound, a change; pictures never go back."""
    silence = Silence()
    silence.length = Fraction(length)
    picture = Fraction(-100)
    last_silence: Fraction | None = None
    end: Fraction | None = None
    for kind, time in events:
        starts: list[Fraction] = []
        if kind in "pg":
            picture = max(picture, time)
            if silence.is_behind(picture, kind == "g"):
                starts = list(silence.behind(picture, kind == "g"))
            assert all(start + silence.length <= picture - GONE_S for start in starts)
            assert silence.end is not None
            # Nothing that fits is missing.
            assert silence.end + silence.length > picture - (GONE_S if kind == "g" else MAX_LAG_S)
        elif kind == "s":
            if silence.is_hole(time):
                starts = list(silence.before(time))
                assert all(start + silence.length <= time for start in starts)
        else:
            silence.close()
        for start in starts:
            assert end is None or start >= end, "it overlaps what was given before"
            end = last_silence = start + silence.length
        if kind == "s" and silence.sound(time, LENGTH):
            assert last_silence is None or time >= last_silence - SLACK_S
            end = time + LENGTH if end is None else max(end, time + LENGTH)
        silence.check()


FORMS = [
    Form("aac", 48000, 2, "stereo", bytes([2, 0])),
    Form("aac", 8000, 1, "mono", bytes([2, 0])),
    Form("aac", 24000, 2, "stereo", bytes([2, 0]), doubled=True),
    Form("aac", 44100, 6, "5.1", bytes([2, 0])),
    Form("aac", 48000, 7, "7.1", bytes([2, 0])),
    Form("mp3", 44100, 2, "stereo"),
    Form("mp3", 8000, 1, "mono"),
    Form("mp2", 48000, 2, "stereo"),
    Form("mp2", 16000, 1, "mono"),
    Form("ac3", 44100, 2, "stereo"),
    Form("eac3", 48000, 6, "5.1(side)"),
    Form("opus", 48000, 2, "stereo", bytes(3)),
    Form("flac", 48000, 2, "stereo", bytes([0, 15]), 1152),
    Form("flac", 96000, 8, "7.1", bytes([1, 7]), 4096),
    Form("alac", 44100, 2, "stereo", bytes([0, 16, 40, 10, 14, 2]), 4096),
    Form("pcm_s16le", 44100, 2, "stereo", b"stereo"),
    Form("pcm_s24le", 48000, 8, "7.1", b"7.1"),
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.codec}-{form.rate}-{form.layout}")
def test_packets_of_silence_last_exactly_and_are_silent(form: Form) -> None:
    packets = SilentPackets(form)
    decoder = av.CodecContext.create(form.codec, "r")
    assert isinstance(decoder, AudioCodecContext)
    encoder = open_encoder(form)
    decoder.extradata = encoder.extradata
    decoder.sample_rate, decoder.layout = form.rate, encoder.layout
    lengths, loudest = [], 0.0
    for number in range(10):
        packet = packets.at(1 + number * packets.length)
        assert packet.pts == round((1 + number * packets.length) * form.rate)
        assert (packet.duration or 0) * Fraction(packet.time_base) == packets.length
        for frame in decoder.decode(packet):
            lengths.append(Fraction(frame.samples, frame.sample_rate))
            (mono,) = AudioResampler("flt", "mono").resample(frame)
            loudest = max(loudest, float(np.abs(mono.to_ndarray()).max()))
    # Decoders leave the encoder's delay out at the beginning.
    assert set(lengths[1:]) == {packets.length}
    assert len(lengths) >= 9
    assert loudest < 1e-3


@pytest.mark.parametrize("form", [Form("vorbis", 48000, 2, "stereo", b"books"), Form("dts", 48000, 2, "stereo")])
def test_no_silence_without_an_encoder(form: Form) -> None:
    with pytest.raises(ValueError, match="no encoder makes"):
        SilentPackets(form)
