"""A source that comes back with other sound, over and over, into running MP4, MKV, FLV and TS files: read back, every
beep is at its time, no time goes back, no decoder complains, and nothing is silent for longer than it should be."""

from __future__ import annotations

import io
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream

from common.config import Encoding
from common.media import pack, unpack
from common.messages import Packet, TrackInfo
from sink.encode import Encoder, Shape
from sink.outputs import container as container_module
from sink.outputs.container import ContainerOutput
from sink.sound import Sound
from sink.sounddesk import SoundDesk
from tests.support import ffmpeg

BASE, TICK = Fraction(1, 12800), 512
KINDS = ("mp4", "mkv", "flv", "ts")
#: How far a beep may be from its time, in seconds; how long a file may be without sound.
CLOSE_S, HOLE_S = 0.04, 0.1
#: Length of each source and of the time without one, in seconds.
PLAYED_S, AWAY_S = Fraction(3, 2), Fraction(3, 5)
#: Of the beeps, in Hz.
PITCH = 1000
#: Source → suffix and options. All beep at a quarter and at three quarters of each second.
SOURCES = {
    "aac-44": "flv -c:a aac -ar 44100 -ac 2",
    "adts-44": "ts -c:a aac -ar 44100 -ac 2",
    "aac-48-mono": "flv -c:a aac -ar 48000 -ac 1",
    "adts-48-mono": "ts -c:a aac -ar 48000 -ac 1",
    "aac-5.1": "mkv -c:a aac -ar 48000 -ac 6",
    "mu-law": "wav -c:a pcm_mulaw -ar 8000 -ac 1",
    "mp3": "mp3 -c:a libmp3lame -ar 44100 -ac 2",
    "ac3": "mkv -c:a ac3 -ar 48000 -ac 2",
    "eac3": "mkv -c:a eac3 -ar 48000 -ac 2",
    "mp2": "mkv -c:a mp2 -ar 48000 -ac 2",
    "opus": "mkv -c:a libopus -ar 48000 -ac 2",
    "flac": "mkv -c:a flac -ar 44100 -ac 2 -sample_fmt s16",
    "flac-24": "mkv -c:a flac -ar 48000 -ac 2 -sample_fmt s32",
    "alac": "mov -c:a alac -ar 44100 -ac 2 -sample_fmt s16p",
    "pcm": "mkv -c:a pcm_s16le -ar 44100 -ac 2",
}


@dataclass(frozen=True, slots=True)
class Clip:
    """A source's sound track, its packets, and when it beeps, in its own time (seconds)."""

    track: AudioStream
    packets: list[av.Packet]
    beeps: list[float]

    def again(self) -> AudioStream:
        """The track as the sink gets it from a producer."""
        carrier, blob = pack(self.track)
        base = Fraction(self.track.time_base or 1)
        info = TrackInfo(
            kind="audio", codec=self.track.codec_context.name, carrier=carrier, size=len(blob),
            time_base=(base.numerator, base.denominator),
        )  # fmt: skip
        (copy,) = unpack([info], blob)
        assert isinstance(copy, AudioStream)
        return copy


class Clips:
    """Clips by the names of ``SOURCES``, made when they are asked for."""

    def __init__(self, folder: Path, **found: Clip) -> None:
        self._folder, self._found = folder, found

    def __getitem__(self, name: str) -> Clip:
        if name not in self._found:
            self._found[name] = made(self._folder, name, SOURCES[name])
        return self._found[name]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    return Clips(tmp_path_factory.mktemp("clips"))


def made(folder: Path, name: str, spec: str) -> Clip:
    suffix, _, options = spec.partition(" ")
    path = folder / f"{name}.{suffix}"
    beep = f"aevalsrc=0.5*sin(2*PI*{PITCH}*t)*between(mod(t\\,0.5)\\,0.25\\,0.31):s=48000:d={float(PLAYED_S)}"
    ffmpeg("-f", "lavfi", "-i", beep, *options.split(), "-muxdelay", "0", "-muxpreload", "0", path)
    container = av.open(str(path))
    track = container.streams.audio[0]
    return Clip(track, [packet for packet in container.demux(track) if packet.size], beeps(path))


def beeps(path: Path) -> list[float]:
    """When a file's sound begins to be loud after a tenth of a second of quiet, in seconds. It must have the pitch of
    the sources."""
    with av.open(str(path)) as container:
        times, levels = [np.zeros(0)], [np.zeros(0)]
        for frame in container.decode(audio=0):
            packed = AudioResampler("flt", "mono").resample(frame)[0].to_ndarray()[0]
            times.append(float((frame.pts or 0) * Fraction(frame.time_base or 1)) + np.arange(len(packed)) / frame.rate)
            levels.append(packed)
    time, level = np.concatenate(times), np.concatenate(levels)
    loud = np.flatnonzero(np.abs(level) > 0.1)
    starts = [int(at) for before, at in pairwise([-1, *loud]) if before < 0 or time[at] - time[before] > 0.1]
    for start in starts:
        beep = level[(time > time[start] + 0.01) & (time < time[start] + 0.05)]
        pitch = np.count_nonzero(np.diff(beep > 0.01)) / 2 / 0.04
        assert abs(pitch / PITCH - 1) < 0.04, (path, time[start], pitch)
    return [float(time[start]) for start in starts]


class FakeRack:
    """Black pictures and a desk, into one file of each kind."""

    def __init__(self, folder: Path, first: AudioStream) -> None:
        self.paths = [folder / f"out.{kind}" for kind in KINDS]
        self.sound = Sound(first, set(KINDS))
        self.desk = SoundDesk([self.sound], live=True)
        self.outputs = [ContainerOutput(path, path.suffix[1:], [self.sound]) for path in self.paths]
        shape = Shape(96, 64, BASE, Fraction(25), False, None, 2, 2, 2)
        self._encoder = Encoder(shape, Encoding(encoder="x264", preset="ultrafast"), True)
        self._frame = av.VideoFrame(96, 64, "yuv420p")
        for plane, sample in zip(self._frame.planes, (16, 128, 128), strict=True):
            memoryview(plane)[:] = bytes([sample]) * plane.buffer_size
        self._template = None
        self.index = 0

    @property
    def time(self) -> Fraction:
        return self.index * TICK * BASE

    def picture(self) -> None:
        for packet in self._encoder.encode(self._frame, self.index * TICK, TICK):
            self._template = self._template or self._encoder.template(packet)
            for output in self.outputs:
                output.video(packet, TICK, self._template)
        self.index += 1
        times = [output.time for output in self.outputs]
        if None not in times:
            self._write(min(time for time in times if time is not None))

    def close(self) -> None:
        self._write(None)
        for output in self.outputs:
            output.close()

    def play(self, clip: Clip | None) -> list[float]:
        """Pictures for ``PLAYED_S``, and the clip's sound, which comes a little ahead. Returns when it beeps."""
        start = self.time
        self.desk.change([] if clip is None else [clip.again()])
        packets = [] if clip is None else list(clip.packets)
        while self.time < start + PLAYED_S:
            while packets and seconds(packets[0]) <= self.time - start + Fraction(1, 10):
                self.desk.put(*message(packets.pop(0), start))
            self.picture()
        for packet in packets:
            self.desk.put(*message(packet, start))
        return [] if clip is None else [float(start) + beep for beep in clip.beeps]

    def away(self) -> None:
        """Placeholders for ``AWAY_S``."""
        end = self.time + AWAY_S
        while self.time < end:
            self.desk.away()
            self.picture()

    def _write(self, time: Fraction | None) -> None:
        for number, form, packet in self.desk.release(time):
            for output in self.outputs:
                if self.sound.form(output.kind) == form:
                    output.sound(number, packet)
        self.desk.check()


def seconds(packet: av.Packet) -> Fraction:
    return (packet.pts or 0) * Fraction(packet.time_base)


def message(packet: av.Packet, start: Fraction) -> tuple[Packet, bytes]:
    """The packet as the producer sends it, its times moved into those of the output."""
    base = Fraction(packet.time_base)
    pts = (packet.pts or 0) + round(start / base)
    header = Packet(
        stream="s", epoch=1, link=1, track=1, pts=pts, dts=pts, duration=packet.duration or 0,
        time_base=(base.numerator, base.denominator), key=True,
    )  # fmt: skip
    return header, bytes(packet)


def played(folder: Path, clips: Clips, names: list[str]) -> tuple[FakeRack, list[float]]:
    """Sources one after the other, with times without one; "none": one without sound. Returns when it should beep."""
    rack = FakeRack(folder, clips[names[0]].again())
    expected = []
    for number, name in enumerate(names):
        if number:
            rack.away()
        expected += rack.play(None if name == "none" else clips[name])
    rack.close()
    return rack, expected


@pytest.fixture(autouse=True)
def flv(monkeypatch: pytest.MonkeyPatch) -> None:
    """FLV is only sent, not written; its muxer is the same."""
    monkeypatch.setitem(container_module.OPTIONS, "flv", {"flush_packets": "1"})
    monkeypatch.setitem(container_module.FORMATS, "flv", "flv")
    monkeypatch.setitem(container_module.SLACK, "flv", Fraction(1, 1000))
    monkeypatch.setattr(container_module, "NO_NEGATIVE", ("mkv", "ts", "flv"))


def check(path: Path, expected: list[float], end: float) -> None:
    """``end``: time of the last picture, in seconds."""
    with av.open(str(path)) as container:
        track = container.streams.audio[0]
        base = Fraction(track.time_base or 1)
        packets = [packet for packet in container.demux(track) if packet.size]
        times = [float((packet.dts or 0) * base) for packet in packets]
    assert all(a < b for a, b in pairwise(times)), path
    steps = [b - a for a, b in pairwise(times)]
    assert max(steps) < max(HOLE_S, 2.01 * sorted(steps)[len(steps) // 2]), (path, max(steps))
    assert times[0] < HOLE_S
    assert times[-1] > end - 0.4
    found = beeps(path)
    assert len(found) == len(expected), (path, found, expected)
    wrong = max(abs(a - b) for a, b in zip(found, expected, strict=True))
    assert wrong < CLOSE_S, (path, wrong, found, expected)
    done = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", path, "-map", "0", "-f", "null", "-"], capture_output=True, text=True
    )
    assert (done.stderr, done.returncode) == ("", 0), path


def test_a_source_that_comes_back_with_other_sound(tmp_path: Path, clips: Clips) -> None:
    """With and without parameters, of another rate and layout, without sound, of a codec that no file takes."""
    rack, expected = played(tmp_path, clips, ["adts-44", "aac-48-mono", "none", "mu-law", "aac-44"])
    for path in rack.paths:
        check(path, expected, float(rack.time))
    assert rack.desk.counts["damaged"] == rack.desk.counts["dropped"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("first", SOURCES)
def test_each_sound_after_each(tmp_path: Path, clips: Clips, first: str) -> None:
    names = list(SOURCES)
    at = names.index(first)
    others = [names[(at + step) % len(names)] for step in (1, 4, 6, 9, 11)]
    rack, expected = played(tmp_path, clips, [first, *others[:3], "none", *others[3:], first])
    for path in rack.paths:
        check(path, expected, float(rack.time))


@pytest.mark.slow
@pytest.mark.parametrize(("parameters", "layout"), [("2b118800", "stereo"), ("1310", "stereo"), ("eb098800", "mono")])
def test_a_track_that_was_declared_as_he_aac(tmp_path: Path, clips: Clips, parameters: str, layout: str) -> None:
    """Explicit, implicit, with parametric stereo. What comes later is encoded as its core, which its decoders take."""
    core = made(tmp_path, "core", f"flv -c:a aac -ar 24000 -af aformat=channel_layouts={layout}")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="nut") as nut:
        track = nut.add_stream_from_template(core.track, opaque=True)
        track.codec_context.extradata = bytes.fromhex(parameters)
        track.codec_context.sample_rate = 48000
        packet = av.Packet(b"\0" * 16)
        packet.stream, packet.pts, packet.dts, packet.time_base = track, 0, 0, Fraction(1, 1000)
        packet.is_keyframe = True
        nut.mux(packet)
    declared = av.open(io.BytesIO(buffer.getvalue()), format="nut").streams.audio[0]
    heaac = Clip(declared, core.packets, core.beeps)
    rack, expected = played(tmp_path, Clips(tmp_path, he=heaac), ["he", "aac-48-mono", "adts-44", "mu-law", "he"])
    for path in rack.paths:
        check(path, expected, float(rack.time))
