"""Numbered clips, made and read back with PyAV alone: each picture shows its number as blocks along the lower edge.

What comes out of a run is so judged by the pictures themselves, not by what the parts say about them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from deploy.faults.number import BITS, number_in, write_number

#: Sound beside the picture: a tone, mono.
SOUND_RATE, TONE_HZ = 48_000, 440
#: Samples of one AAC frame.
SOUND_FRAME = 1024


@dataclass(frozen=True, slots=True)
class Clip:
    """What a clip shall be. The codec is H.264; ``options`` are x264's."""

    frames: int
    #: Pictures a second.
    rate: int = 25
    size: tuple[int, int] = (320, 180)
    #: Number of the first picture.
    first: int = 0
    sound: bool = True
    #: Height of the noise in the picture, in luma steps: it makes packets large.
    noise: int = 0
    pixels: str = "yuv420p"
    #: Clockwise degrees that a player turns the picture by.
    turn: int = 0
    options: dict[str, str] = field(default_factory=lambda: {"preset": "ultrafast", "g": "25", "bf": "0"})

    @property
    def seconds(self) -> float:
        return self.frames / self.rate


def make(path: Path, clip: Clip) -> Path:
    """Write ``clip`` to ``path``; its ending chooses the container."""
    assert clip.first + clip.frames <= 2**BITS
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=clip.rate, options=dict(clip.options))
        video.width, video.height, video.pix_fmt = *clip.size, clip.pixels
        video.codec_context.thread_count = 1
        if clip.turn:
            video.set_display_rotation(-clip.turn)  # FFmpeg counts counter-clockwise
        audio = container.add_stream("aac", rate=SOUND_RATE, layout="mono") if clip.sound else None
        spoken = 0
        for number, picture in enumerate(_pictures(clip)):
            picture.pts, picture.time_base = number, Fraction(1, clip.rate)
            container.mux(video.encode(picture))
            while audio is not None and spoken * clip.rate < (number + 1) * SOUND_RATE:
                container.mux(audio.encode(_tone(spoken)))
                spoken += SOUND_FRAME
        for track in (video, audio):
            if track is not None:
                container.mux(track.encode(None))
    return path


def join(path: Path, *parts: Path) -> Path:
    """Transport streams one after the other, as they are: times jump back, sizes may change."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def numbers(paths: Sequence[Path], turns: int = 0) -> list[int]:
    """The numbers that the pictures of ``paths`` show, one file after the other.

    ``turns``: quarter turns, counter-clockwise, that bring the number to the lower edge. Raises av.FFmpegError where a
    file cannot be read.
    """
    return [number_in(np.rot90(grey, turns)) for path in paths for grey in _greys(path)]


def times(path: Path) -> list[Fraction]:
    """Time of every picture, in seconds."""
    with av.open(str(path)) as container:
        return [Fraction(one.pts or 0) * Fraction(one.time_base or 1) for one in container.decode(video=0)]


def size(path: Path) -> tuple[int, int]:
    """Width and height of the picture as it is stored."""
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        return context.width, context.height


def _greys(path: Path) -> Iterable[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for frame in container.decode(video=0):
            plane = frame.planes[0]
            luma = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # type: ignore[call-overload]
            yield luma[: frame.height, : frame.width]


def _pictures(clip: Clip) -> Iterable[av.VideoFrame]:
    chance = np.random.default_rng(1)
    width, height = clip.size
    # Some noise is enough: the encoder cannot tell it from other noise.
    noises = [chance.integers(96, 96 + clip.noise, (height, width), np.uint8) for _ in range(7 if clip.noise else 0)]
    for number in range(clip.first, clip.first + clip.frames):
        luma = noises[number % len(noises)].copy() if noises else np.full((height, width), 96, np.uint8)
        write_number(luma, number)
        yield av.VideoFrame.from_ndarray(luma, format="gray").reformat(format=clip.pixels)


def _tone(start: int) -> av.AudioFrame:
    at = np.arange(start, start + SOUND_FRAME) / SOUND_RATE
    wave = (0.2 * np.sin(2 * np.pi * TONE_HZ * at)).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(wave.reshape(1, -1), format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, start, Fraction(1, SOUND_RATE)
    return frame
