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

from common.media import pack, unpack
from common.messages import TrackInfo
from sink.sound import COPIED, Sound
from sink.soundform import AAC_RATES
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
    coded = [one for packet in [*packets, None] for _, one in sound.take(packet)]
    assert all(a.pts < b.pts for a, b in pairwise(coded) if a.pts is not None and b.pts is not None)
    decoder = sound.template("mp4").codec_context
    frames = [frame for packet in [*coded, None] for frame in decoder.decode(packet)]
    assert coded[0].pts is not None
    return coded[0].pts * Fraction(coded[0].time_base), loudness(frames), frames[0].sample_rate


@pytest.mark.parametrize("name", SOURCES)
def test_what_mp4_does_not_take_becomes_aac_in_sync(tmp_path: Path, name: str) -> None:
    track, packets = opened(tmp_path, name)
    sound = Sound(track, {"mp4"})
    assert sound.form("mp4") == "aac"
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
    assert sound.form("mkv") == "copied"
    assert sound.template("mkv") is track
    assert [list(sound.take(packet)) for packet in packets] == [[("copied", packet)] for packet in packets]
    assert list(sound.take(None)) == []
    both = Sound(track, {"mkv", "ts"})
    assert both.form("mkv") == "copied"
    assert both.form("ts") == "aac"
    assert both.template("ts").codec_context.name == "aac"


def test_damaged_sound_costs_itself_only(tmp_path: Path) -> None:
    track, packets = opened(tmp_path, "vorbis")
    sound = Sound(track, {"mp4"})
    broken = av.Packet(b"\xff" * 50)
    broken.pts, broken.time_base = packets[3].pts, packets[3].time_base
    coded = [one for packet in [*packets[:3], broken, *packets[4:], None] for _, one in sound.take(packet)]
    assert len(coded) > 20


def test_mu_law_is_copied_nowhere() -> None:
    """Some muxers abort the process on it."""
    assert all("pcm_mulaw" not in codecs for codecs in COPIED.values())
