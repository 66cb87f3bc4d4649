"""What a decoder is set up for: AudioSpecificConfig and ADTS headers, and which tracks may follow which."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sink.recode import can_make
from sink.soundform import AAC_RATES, Form, adts_header, describe, form_of, is_adts, read_adts
from sink.soundlane import packet_form
from tests.support import ffmpeg

LC = bytes([2, 0])


def config(digits: str, rate: int) -> Form:
    """Of AAC; ``rate``: what the decoder gives."""
    return describe("aac", bytes.fromhex(digits), rate, 2, "stereo")


@pytest.mark.parametrize(
    ("digits", "rate", "form"),
    [
        ("1210", 44100, Form("aac", 44100, 2, "stereo", LC)),
        ("119056e500", 48000, Form("aac", 48000, 2, "stereo", LC)),  # as FFmpeg writes it: without SBR
        ("1588", 8000, Form("aac", 8000, 1, "mono", LC)),
        ("11b0", 48000, Form("aac", 48000, 6, "5.1", LC)),
        ("0a10", 44100, Form("aac", 44100, 2, "stereo", bytes([1, 0]))),  # Main
        ("1214", 44100, Form("aac", 44100, 2, "stereo", bytes([2, 1]))),  # 960 samples
        ("2b118800", 48000, Form("aac", 24000, 2, "stereo", LC, doubled=True)),  # HE-AAC that says so
        ("1310", 48000, Form("aac", 24000, 2, "stereo", LC, doubled=True)),  # HE-AAC that does not
        ("131056e598", 24000, Form("aac", 24000, 2, "stereo", LC, doubled=True)),  # and that says so behind
        ("eb098800", 48000, Form("aac", 24000, 1, "mono", LC, doubled=True)),  # with parametric stereo
        ("17805622100000", 44100, Form("aac", 44100, 2, "stereo", LC)),  # the rate is written out
    ],
)  # fmt: skip
def test_audio_specific_configs(digits: str, rate: int, form: Form) -> None:
    assert config(digits, rate) == form


def test_tracks_that_may_follow_each_other() -> None:
    plain, behind = config("1210", 44100), config("121056e500", 44100)
    assert plain.takes(behind)
    assert behind.takes(plain)
    assert not plain.takes(config("1190", 48000)), "another rate"
    assert not plain.takes(config("1208", 44100)), "mono"
    assert not plain.takes(config("1214", 44100)), "shorter packets"
    heaac = config("2b118800", 48000)
    core = config("1310", 24000)
    assert not core.takes(heaac), "a decoder of the one may give half the treble or twice the rate"
    assert not heaac.takes(core)
    assert heaac.takes_plain(core), "but its core can be encoded"
    assert not heaac.takes_plain(config("1190", 48000))


def test_other_codecs() -> None:
    def flac(block: int, depth: int) -> Form:
        bits = 48000 << 44 | 1 << 41 | (depth - 1) << 36
        info = b"\0\x10" + block.to_bytes(2, "big") + bytes(6) + bits.to_bytes(8, "big") + bytes(16)
        return describe("flac", info, 48000, 2, "stereo")

    assert flac(4096, 16).takes(flac(1152, 16))
    assert not flac(1152, 16).takes(flac(4096, 16)), "longer packets than declared"
    assert not flac(4096, 16).takes(flac(4096, 24))
    head = b"OpusHead\x01\x02"
    opus = describe("opus", head + b"\x38\x01\x80\xbb\0\0\0\0\0", 48000, 2, "stereo")
    assert opus.takes(describe("opus", head + b"\0\0\x40\x1f\0\0\0\0\0", 8000, 2, "stereo")), "delay, original rate"
    assert opus.takes(describe("opus", b"", 48000, 2, "stereo")), "as out of RTSP"
    assert not opus.takes(describe("opus", head + b"\x38\x01\x80\xbb\0\0\0\1\0", 48000, 2, "stereo")), "gain"
    mp3 = describe("mp3", b"", 44100, 2, "stereo")
    assert mp3.takes(mp3)
    assert not mp3.takes(describe("mp3", b"", 44100, 1, "mono"))
    assert not mp3.takes(describe("mp2", b"", 44100, 2, "stereo"))
    assert not describe("pcm_s16le", b"", 48000, 6, "5.1").takes(describe("pcm_s16le", b"", 48000, 6, "hexagonal"))
    assert describe("pcm_s16le", b"", 48000, 6, "6 channels").layout == "5.1"
    vorbis = describe("vorbis", b"books", 48000, 2, "stereo")
    assert vorbis.takes(describe("vorbis", b"books", 48000, 2, "stereo"))
    assert not vorbis.takes(describe("vorbis", b"other books", 48000, 2, "stereo"))


@pytest.mark.parametrize(("rate", "layout"), [(8000, "mono"), (44100, "stereo"), (48000, "5.1")])
def test_adts_headers_are_read_and_written_as_ffmpeg_does(tmp_path: Path, rate: int, layout: str) -> None:
    bare, framed = tmp_path / "a.mp4", tmp_path / "a.aac"
    filters = f"aformat=channel_layouts={layout}"
    ffmpeg("-f", "lavfi", "-i", "sine=440:d=0.5", "-af", filters, "-c:a", "aac", "-ar", str(rate), bare)
    ffmpeg("-i", bare, "-c", "copy", framed)
    with av.open(str(bare)) as container:
        track = form_of(container.streams.audio[0])
        inner = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    with av.open(str(framed)) as container:
        outer = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    assert len(inner) == len(outer) > 3
    for one, other in zip(inner, outer, strict=True):
        assert not is_adts(one)
        assert is_adts(other)
        form, head = read_adts(other) or (None, 0)
        assert form == track
        assert other[head:] == one
        header = adts_header(track, len(one))
        assert header is not None
        assert read_adts(header + one) == (track, 7)
        # All but the buffer's fullness, which FFmpeg gives as unknown too.
        assert header == other[:7]


def test_what_an_adts_header_cannot_say() -> None:
    form = Form("aac", 48000, 2, "stereo", LC)
    assert adts_header(form, 8184) is not None
    assert adts_header(form, 8185) is None
    for other in (replace(form, rate=37800), replace(form, channels=0), replace(form, setup=bytes([2, 1])),
                  replace(form, setup=bytes([42, 0])), replace(form, setup=b"")):  # fmt: skip
        assert adts_header(other, 100) is None


def test_damaged_adts_headers() -> None:
    form = Form("aac", 48000, 2, "stereo", LC)
    whole = (adts_header(form, 50) or b"") + bytes(50)
    assert read_adts(whole) == (form, 7)
    assert read_adts(whole[:-1]) is None, "cut off"
    assert read_adts(whole[:6] + bytes([whole[6] | 1]) + whole[7:]) is None, "two frames in one"
    assert read_adts(whole[:2] + bytes([whole[2] | 0x3C]) + whole[3:]) is None, "no such rate"
    crc = bytes([whole[0], whole[1] & 0xFE]) + whole[2:]
    assert read_adts(crc) == (form, 9)


@settings(deadline=None)
@given(
    st.binary(max_size=40),
    st.sampled_from(["aac", "flac", "alac", "opus", "mp3", "vorbis", "pcm_s16le", "pcm_odd"]),
    st.sampled_from([0, 1, 44100, 48000, 2**31 - 1]),
    st.sampled_from([(0, ""), (1, "mono"), (2, "stereo"), (9, "9 channels"), (16, "hexadecagonal")]),
)
def test_any_parameters(data: bytes, codec: str, rate: int, channels: tuple[int, str]) -> None:
    form = describe(codec, data, rate, *channels)
    assert can_make(form) in (True, False)
    assert form.takes(form)
    assert form.takes_core(form)
    assert form.channels >= 0


@settings(deadline=None)
@given(st.binary(max_size=40), st.booleans())
def test_any_packet(data: bytes, framed: bool) -> None:
    data = b"\xff\xf1" + data if framed else data
    packet = av.Packet(data)
    form, is_framed = packet_form(packet, Form("aac", 48000, 2, "stereo", LC))
    assert form is None or form.codec == "aac"
    assert is_framed == is_adts(data)
    if form is not None and is_framed:
        assert form.rate in AAC_RATES
