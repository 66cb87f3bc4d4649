"""Sound: copied where the container takes it, else AAC in sync; held until its picture is written."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from common.media import pack, unpack
from common.messages import Packet, TrackInfo
from sink.sound import AAC_RATES, COPIED, MAX_JUMP_S, MAX_KEPT_BYTES, Sound, SoundGate
from tests.support import ffmpeg

#: Codec → how ffmpeg writes half a second of a tone after a quarter of silence.
SOURCES = {
    "pcm_s16le": "wav -c:a pcm_s16le",
    "pcm_mulaw": "wav -c:a pcm_mulaw -ar 8000",
    "vorbis": "ogg -c:a libvorbis",
    "wma": "wma -c:a wmav2",
    "adpcm": "wav -c:a adpcm_ima_wav",
    "odd-rate": "wav -c:a pcm_s16le -ar 37800",
    "five-one-side": "wav -c:a pcm_s16le -ac 6 -channel_layout 5.1(side)",
    "quad": "wav -c:a pcm_s16le -ac 4 -channel_layout quad",
    "seven-one": "wav -c:a pcm_s16le -ac 8 -channel_layout 7.1",
    "mono": "wav -c:a pcm_s16le -ac 1",
}


def opened(folder: Path, name: str) -> tuple[AudioStream, list[av.Packet]]:
    """The track at the sink's end, and the packets."""
    kind, _, options = SOURCES[name].partition(" ")
    path = folder / f"{name}.{kind}"
    tone = "aevalsrc=0.5*sin(2*PI*440*t)*gte(t\\,0.25):s=48000:d=0.75"
    ffmpeg("-f", "lavfi", "-i", tone, *options.split(), path)
    container = av.open(str(path))
    track = container.streams.audio[0]
    carrier, blob = pack(track)
    base = Fraction(track.time_base or 1)
    info = TrackInfo(
        kind="audio", codec=track.codec_context.name, carrier=carrier, size=len(blob),
        time_base=(base.numerator, base.denominator),
    )  # fmt: skip
    (copy,) = unpack([info], blob)
    assert isinstance(copy, AudioStream)
    return copy, [packet for packet in container.demux(track) if packet.size]


def loudness(frames: list[av.AudioFrame]) -> np.ndarray:
    """The loudest channel's absolute value at each sample."""
    packed = AudioResampler("flt", frames[0].layout)
    channels = frames[0].layout.nb_channels
    parts = [one.to_ndarray().reshape(-1, channels) for frame in [*frames, None] for one in packed.resample(frame)]
    return np.abs(np.concatenate(parts)).max(axis=1)


def onset(start: Fraction, loud: np.ndarray, rate: int) -> float:
    """When the tone begins, in seconds."""
    return float(start) + int(np.argmax(loud > loud.max() / 5)) / rate


def reencoded(sound: Sound, packets: list[av.Packet]) -> tuple[Fraction, np.ndarray, int]:
    """Time of the first sample, loudness, and rate, decoded again."""
    coded = [one for packet in [*packets, None] for one in sound.encoded(packet)]
    assert all(a.pts < b.pts for a, b in pairwise(coded) if a.pts is not None and b.pts is not None)
    decoder = sound.template("mp4").codec_context
    frames = [frame for packet in [*coded, None] for frame in decoder.decode(packet)]
    assert coded[0].pts is not None
    return coded[0].pts * Fraction(coded[0].time_base), loudness(frames), frames[0].sample_rate


@pytest.mark.parametrize("name", SOURCES)
def test_what_mp4_does_not_take_becomes_aac_in_sync(tmp_path: Path, name: str) -> None:
    track, packets = opened(tmp_path, name)
    sound = Sound(track, {"mp4"})
    assert not sound.copied("mp4")
    start, loud, rate = reencoded(sound, packets)
    assert rate in AAC_RATES
    with av.open(str(next(tmp_path.iterdir()))) as container:
        frames = list(container.decode(audio=0))
    reference = loudness(frames)
    first = (frames[0].pts or 0) * Fraction(frames[0].time_base or 0)
    # Codecs that code blocks smear the start of the tone by up to a block.
    assert onset(start, loud, rate) == pytest.approx(onset(first, reference, frames[0].sample_rate), abs=0.025)
    length = float(first) + len(reference) / frames[0].sample_rate
    assert float(start) + len(loud) / rate == pytest.approx(length, abs=0.05)
    assert loud.max() == pytest.approx(reference.max(), rel=0.2)


def test_a_source_that_starts_later_stays_later(tmp_path: Path) -> None:
    track, packets = opened(tmp_path, "pcm_s16le")
    for packet in packets:
        assert packet.pts is not None
        packet.pts += 2 * packet.time_base.denominator
        packet.dts = packet.pts
    start, _, _ = reencoded(Sound(track, {"mp4"}), packets)
    assert float(start) == pytest.approx(2, abs=0.03)


def test_what_every_output_takes_is_never_decoded(tmp_path: Path) -> None:
    track, packets = opened(tmp_path, "pcm_s16le")
    sound = Sound(track, {"mkv"})
    assert sound.copied("mkv")
    assert sound.template("mkv") is track
    assert [sound.encoded(packet) for packet in [*packets, None]] == [[]] * (len(packets) + 1)
    both = Sound(track, {"mkv", "ts"})
    assert both.copied("mkv")
    assert not both.copied("ts")
    assert both.template("ts").codec_context.name == "aac"


def test_damaged_sound_costs_itself_only(tmp_path: Path) -> None:
    track, packets = opened(tmp_path, "vorbis")
    sound = Sound(track, {"mp4"})
    broken = av.Packet(b"\xff" * 50)
    broken.pts, broken.time_base = packets[3].pts, packets[3].time_base
    coded = [one for packet in [*packets[:3], broken, *packets[4:], None] for one in sound.encoded(packet)]
    assert len(coded) > 20


def test_mu_law_is_copied_nowhere() -> None:
    """Some muxers abort the process on it."""
    assert all("pcm_mulaw" not in codecs for codecs in COPIED.values())


def packet(at: int | None, size: int = 10, dts: int | None = None) -> tuple[Packet, bytes]:
    return Packet(stream="s", epoch=1, link=1, track=1, pts=at, dts=dts, time_base=(1, 1000)), bytes(size)


def released(gate: SoundGate, time: Fraction | None) -> list[int | None]:
    taken = [header.pts for header, _ in gate.release(time)]
    gate.check()
    return taken


def test_the_gate_opens_up_to_the_pictures_time() -> None:
    gate = SoundGate()
    for at in (0, 20, 40, 60):
        gate.put(*packet(at))
    assert released(gate, Fraction(-1)) == []
    assert released(gate, Fraction(40, 1000)) == [0, 20, 40]
    assert released(gate, Fraction(59, 1000)) == []
    assert released(gate, None) == [60]
    assert gate.forced == 0


def test_sound_without_pts_goes_by_dts_or_at_once() -> None:
    gate = SoundGate()
    gate.put(*packet(None))
    gate.put(*packet(None, dts=30))
    assert released(gate, Fraction(0)) == [None]
    assert released(gate, Fraction(30, 1000)) == [None]


def test_the_gate_is_bounded_in_number_and_bytes() -> None:
    gate = SoundGate(max_packets=3, max_bytes=100)
    for at in range(1000, 1005):
        gate.put(*packet(at))
    assert released(gate, Fraction(0)) == [1000, 1001]
    assert gate.forced == 2
    gate.put(*packet(1005, size=90))
    assert released(gate, Fraction(0)) == [1002, 1003]
    assert gate.forced == 4


def test_without_any_picture_the_oldest_sound_is_left_out() -> None:
    gate = SoundGate()
    size = MAX_KEPT_BYTES // 8
    for at in range(20):
        gate.put(*packet(at, size))
        gate.check()
    assert gate.dropped == 12
    assert released(gate, None) == list(range(12, 20))


@given(
    st.lists(
        st.tuples(st.none() | st.integers(-(2**62), 2**62) | st.integers(0, 200), st.integers(0, 40))
        | st.none()
        | st.fractions(0, Fraction(1, 4), max_denominator=1000),
        max_size=60,
    )
)
def test_sound_leaves_in_order_never_early_unless_forced(
    events: list[tuple[int | None, int] | Fraction | None],
) -> None:
    """Events: a packet ``(pts, size)``, a picture's time, or the end."""
    gate = SoundGate(max_packets=5, max_bytes=100)
    put: list[int] = []
    left: list[int] = []
    stamps: list[Fraction] = []
    for event in events:
        if isinstance(event, tuple):
            pts, size = event
            header, data = packet(pts, size)
            gate.put(replace(header, link=len(put)), data)
            stamps.append(Fraction(pts or 0, 1000))
            put.append(len(put))
            continue
        forced = gate.forced
        gone = [header.link for header, _ in gate.release(event)]
        left += gone
        if event is None:
            assert len(left) + gate.dropped == len(put)
            assert gate.forced == forced
        else:
            assert sum(stamps[number] > event for number in gone) <= gate.forced - forced, "early ones are counted"
            assert len(put) - len(left) - gate.dropped <= 5
        gate.check()
    assert left == sorted(left)
    if all(abs(stamp) < MAX_JUMP_S / 2 for stamp in stamps):
        assert gate.dropped == 0
        assert left == put[: len(left)]


def test_sound_far_from_its_picture_is_left_out_and_counted() -> None:
    """Muxers fail on such times, and MP4's ends the process."""
    gate = SoundGate()
    hour, far = 3_600_000, 2**62
    gate.put(*packet(0))
    gate.put(*packet(far))
    gate.put(*packet(-far))
    gate.put(*packet(20, dts=far))
    gate.put(*packet(hour))
    gate.put(*packet(2 * hour))
    gate.put(*packet(40))
    assert released(gate, Fraction(1)) == [0]
    assert released(gate, None) == [0, hour, 2 * hour, 40][1:]
    assert gate.dropped == 3
    assert gate.forced == 0


def test_a_stream_that_goes_on_late_keeps_its_sound() -> None:
    gate = SoundGate()
    gate.put(*packet(10**9))
    assert released(gate, Fraction(10**6)) == [10**9]


@pytest.mark.parametrize("duration", [-1, -(2**62), 2**62, 8_000_000])
def test_a_duration_that_cannot_be_is_forgotten(duration: int) -> None:
    gate = SoundGate()
    header, data = packet(0)
    gate.put(replace(header, duration=duration), data)
    ((header, _),) = gate.release(None)
    assert header.duration == 0
