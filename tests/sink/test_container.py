"""Container files: right times and durations, sound beside the picture, and playable whenever the writer dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest

from common.config import Encoding
from common.errors import OutputError
from sink.encode import Encoder, Shape
from sink.outputs.container import ContainerOutput
from sink.sound import Sound
from tests.support import frame_times, make_clip, sound_packets

KINDS = ("mp4", "mkv", "ts")
BASE = Fraction(1, 12800)
TICK = 512
#: Matroska knows milliseconds, TS 1/90000 s; MP4 keeps the time base.
SLACK = {"mp4": Fraction(0), "mkv": Fraction(1, 1000), "ts": Fraction(1, 90_000)}


def encoded(stamps: Sequence[int]) -> tuple[Any, list[av.Packet]]:
    """Template and packets of a tiny stream with pictures at ``stamps`` (in ``BASE``)."""
    shape = Shape(96, 64, BASE, Fraction(25), False, None, 2, 2, 2)
    encoder = Encoder(shape, Encoding(encoder="x264", preset="ultrafast"), False)
    packets = []
    for number, pts in enumerate(stamps):
        frame = av.VideoFrame(96, 64, "yuv420p")
        memoryview(frame.planes[0])[:] = bytes([16 + number % 200]) * frame.planes[0].buffer_size
        packets += list(encoder.encode(frame, pts, TICK))
    packets += list(encoder.flush())
    return encoder.template(packets[0]), packets


def write(path: Path, stamps: Sequence[int], sounds: Sequence[Sound] = (), last: int = TICK) -> ContainerOutput:
    output = ContainerOutput(path, path.suffix[1:], sounds)
    template, packets = encoded(stamps)
    for packet in packets:
        output.video(packet, last, template)
    output.close()
    return output


def clip_sound(clip: Path, kind: str) -> tuple[Sound, list[av.Packet]]:
    container = av.open(str(clip))
    track = container.streams.audio[0]
    sound = Sound(track, {kind})
    return sound, [packet for packet in container.demux(track) if packet.size]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("container") / "tone.mp4"
    return make_clip(path, "-c:v", "libx264", "-preset", "ultrafast", seconds=2, size="96x64", sound="-c:a aac -ac 1")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "stamps",
    [
        [number * TICK for number in range(40)],
        [0, 512, 600, 5000, 5013, 40_000, 40_512],  # variable
        [64_000 + number * TICK for number in range(10)],  # starts at five seconds
    ],
)
def test_times_are_kept(tmp_path: Path, kind: str, stamps: list[int]) -> None:
    path = tmp_path / f"out.{kind}"
    write(path, stamps)
    got = frame_times(path)
    assert len(got) == len(stamps)
    assert all(abs(time - pts * BASE) <= SLACK[kind] for time, pts in zip(got, stamps, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_closer_than_a_millisecond_follow_each_other(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"out.{kind}"
    stamps = [0, 512, 513, 514, 1024, 1536, 5000, 5001, 40_000]
    write(path, stamps)
    got = frame_times(path)
    assert all(before < after for before, after in pairwise(got))
    aside = Fraction(2, 1000) if kind == "mkv" else 0  # the third of three in a millisecond
    assert all(abs(time - pts * BASE) <= SLACK[kind] + aside for time, pts in zip(got, stamps, strict=True))


def test_the_last_picture_has_the_duration_that_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    write(path, [0, 512, 2048], last=1280)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        base = Fraction(stream.time_base or 0)
        lengths = [(packet.duration or 0) * base / BASE for packet in container.demux(stream) if packet.size]
        assert lengths == [512, 1536, 1280]
        assert (stream.duration or 0) * base == Fraction(2048 + 1280) * BASE


@pytest.mark.parametrize("kind", KINDS)
def test_sound_is_copied_byte_for_byte_and_stays_in_sync(tmp_path: Path, clip: Path, kind: str) -> None:
    path = tmp_path / f"out.{kind}"
    sound, packets = clip_sound(clip, kind)
    assert seconds(packets[0]) < 0, "the priming of the encoder starts before zero"
    output = ContainerOutput(path, kind, [sound])
    template, pictures = encoded([number * TICK for number in range(50)])
    for packet in pictures:
        output.video(packet, TICK, template)
        while packets and seconds(packets[0]) <= (output.time or -1):
            output.sound(0, packets.pop(0))
    for packet in packets:
        output.sound(0, packet)
    output.close()
    if kind == "ts":  # ADTS headers are put before each packet
        assert [data[-100:] for data in sound_packets(path)] == [data[-100:] for data in sound_packets(clip)]
    else:
        assert sound_packets(path) == sound_packets(clip)
    with av.open(str(path)) as container:
        times = [seconds(packet) for packet in container.demux(audio=0) if packet.size]
    with av.open(str(clip)) as container:
        source = [seconds(packet) for packet in container.demux(audio=0) if packet.size]
    assert abs(times[-1] - source[-1]) <= Fraction(1, 1000)
    assert all(abs(a - b) <= Fraction(1, 1000) for a, b in zip(times, source, strict=True) if b >= 0)
    assert all(a <= b for a, b in pairwise(times))


def test_sound_without_or_with_repeated_times_goes_on(tmp_path: Path, clip: Path) -> None:
    sound, packets = clip_sound(clip, "mkv")
    packets[5].pts = packets[5].dts = None
    packets[9].pts = packets[9].dts = packets[8].pts
    output = ContainerOutput(tmp_path / "out.mkv", "mkv", [sound])
    template, pictures = encoded([0, TICK])
    for packet in pictures:
        output.video(packet, TICK, template)
    for packet in packets:
        output.sound(0, packet)
    output.close()
    assert len(sound_packets(output.path)) == len(packets)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_written_leaves_no_file(tmp_path: Path, kind: str) -> None:
    output = ContainerOutput(tmp_path / f"out.{kind}", kind, [])
    output.close()
    output.discard()
    assert not output.opened
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_one_picture_is_a_file(tmp_path: Path, kind: str) -> None:
    write(tmp_path / f"out.{kind}", [0])
    assert frame_times(tmp_path / f"out.{kind}") == [0]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*none/out\.mp4: No such file or directory"):
        write(tmp_path / "none" / "out.mp4", [0, TICK])


def test_a_name_with_a_colon(tmp_path: Path) -> None:
    write(tmp_path / "cam:1.mp4", [0, TICK])
    assert (tmp_path / "cam:1.mp4").stat().st_size > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_is_told_and_the_file_can_be_left(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"out.{kind}"
    path.symlink_to("/dev/full")
    output = ContainerOutput(path, kind, [])
    template, packets = encoded([number * TICK for number in range(60)])
    with pytest.raises(OutputError, match="No space left"):
        for packet in packets:
            output.video(packet, TICK, template)
    output.discard()


def killed(path: Path, clip: Path | None = None, count: int = 240, tick: int = TICK, silent: bool = False) -> Fraction:
    """Let a writer of ``count`` pictures (and the clip's sound) be killed; returns the time it took for durable."""
    sounds: list[Sound] = []
    waiting: list[av.Packet] = []
    if clip is not None:
        sound, waiting = clip_sound(clip, path.suffix[1:])
        sounds = [sound]
    template, packets = encoded([number * tick for number in range(count)])
    told, tell = os.pipe()
    child = os.fork()  # it only muxes, which needs no threads
    if child == 0:
        try:
            output = ContainerOutput(path, path.suffix[1:], sounds)
            for packet in packets:
                output.video(packet, tick, template)
                while waiting and not silent and seconds(waiting[0]) <= (output.time or -1):
                    output.sound(0, waiting.pop(0))
            os.write(tell, str(output.durable).encode())
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.close(tell)
    with os.fdopen(told) as pipe:
        durable = pipe.read()
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    return Fraction(durable)


def seconds(packet: av.Packet) -> Fraction:
    assert packet.pts is not None
    return packet.pts * Fraction(packet.time_base)


def playable(path: Path) -> Iterator[Fraction]:
    """Times of the pictures up to where the file breaks off."""
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                assert frame.pts is not None
                yield frame.pts * Fraction(frame.time_base or 0)
    except av.FFmpegError:
        return


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("with_sound", [False, True])
def test_a_killed_writer_leaves_a_playable_file(tmp_path: Path, clip: Path, kind: str, with_sound: bool) -> None:
    path = tmp_path / f"out.{kind}"
    count = 50 if with_sound else 240
    durable = killed(path, clip if with_sound else None, count)
    times = list(playable(path))
    assert len(times) >= count * (0.5 if with_sound else 0.9), f"{len(times)} of {count} pictures"
    assert durable > 0
    assert times[-1] >= durable - Fraction(1, 1000), "what was called durable is there"


@pytest.mark.parametrize("kind", KINDS)
def test_a_silent_sound_track_holds_nothing_back_for_long(tmp_path: Path, clip: Path, kind: str) -> None:
    path = tmp_path / f"out.{kind}"
    durable = killed(path, clip, 240, silent=True)
    times = list(playable(path))
    assert len(times) >= 240 * 0.8
    assert times[-1] >= durable - Fraction(1, 1000)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("silent", [False, True])
def test_durable_is_true_at_one_picture_a_second(tmp_path: Path, clip: Path, kind: str, silent: bool) -> None:
    path = tmp_path / f"out.{kind}"
    durable = killed(path, clip if silent else None, 20, tick=12_800, silent=silent)
    times = list(playable(path))
    assert times[-1] >= durable - Fraction(1, 1000)
    assert durable >= 14


def test_a_mute_track_is_not_called_durable_before_it_is(tmp_path: Path, clip: Path) -> None:
    """MP4's muxer keeps everything until each track has a packet."""
    sound, _ = clip_sound(clip, "mp4")
    output = ContainerOutput(tmp_path / "out.mp4", "mp4", [sound])
    template, packets = encoded([number * TICK for number in range(200)])
    for packet in packets:
        output.video(packet, TICK, template)
        if output.durable is not None:
            assert list(playable(output.path))[-1] >= output.durable
            break
    assert output.durable is not None
    output.close()


@pytest.mark.parametrize("codec", ["aac", "libmp3lame", "ac3", "eac3", "flac", "libopus", "alac", "pcm_s16le"])
def test_silence_can_be_made_for_every_sound_of_mp4(tmp_path: Path, codec: str) -> None:
    """A mute track of any codec neither keeps the file from the disk nor spoils it."""
    source = tmp_path / "source.mkv"
    tone = f"-c:a {codec} -ac 2 -strict -2"
    make_clip(source, "-c:v", "libx264", "-preset", "ultrafast", seconds=1, size="96x64", sound=tone)
    sound, _ = clip_sound(source, "mp4")
    output = ContainerOutput(tmp_path / "out.mp4", "mp4", [sound])
    template, packets = encoded([number * TICK for number in range(200)])
    for packet in packets:
        output.video(packet, TICK, template)
    assert output.durable is not None
    assert len(list(playable(output.path))) > 150
    output.close()
    assert len(frame_times(output.path)) == 200
    with av.open(str(output.path)) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) < 10_000
