"""Clips that flash and beep at the same instant each second, and how far apart flash and beep are in what comes out."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.packet import Packet

#: Sound: samples a second, samples of an AAC frame, and of a beep of 20 ms at 1 kHz.
RATE, FRAME, BEEP = 48_000, 1024, 960
#: A picture is a flash from this mean luma on; a beep begins where the envelope first reaches this level.
FLASH, LEVEL = 128, 0.15
#: Beeps come at least so far apart, in seconds; what comes sooner is the same beep.
APART_S = 0.5

#: Changes a packet's times before it is written; None leaves it out. Gets the track's kind.
Distort = Callable[[str, Packet], Packet | None]


def make_clip(
    path: Path,
    seconds: int = 5,
    fps: int = 25,
    size: tuple[int, int] = (320, 180),
    distort: Distort | None = None,
    bframes: int = 0,
) -> Path:
    """H.264 with one slice a picture, and AAC. The first flash and beep are in the middle of the first second."""
    with av.open(str(path), "w") as out:
        options = {"preset": "ultrafast", "g": str(fps), "bf": str(bframes)}
        video = out.add_stream("libx264", rate=fps, options=options)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        video.codec_context.thread_count = 1
        audio = out.add_stream("aac", rate=RATE, layout="mono")
        wave = _wave(seconds, fps)

        def write(kind: str, packets: list[Packet]) -> None:
            for packet in packets:
                changed = distort(kind, packet) if distort is not None else packet
                if changed is not None:
                    out.mux(changed)

        spoken = 0
        for number in range(seconds * fps):
            bright = number % fps == fps // 2
            frame = av.VideoFrame.from_ndarray(np.full((size[1] * 3 // 2, size[0]), 128, np.uint8), format="yuv420p")
            np.frombuffer(frame.planes[0], np.uint8)[:] = 235 if bright else 32  # type: ignore[call-overload]
            frame.pts, frame.time_base = number, Fraction(1, fps)
            write("video", video.encode(frame))
            while spoken * fps < (number + 1) * RATE and spoken < len(wave):
                sound = av.AudioFrame.from_ndarray(wave[None, spoken : spoken + FRAME], format="fltp", layout="mono")
                sound.sample_rate, sound.pts, sound.time_base = RATE, spoken, Fraction(1, RATE)
                write("audio", audio.encode(sound))
                spoken += FRAME
        write("video", video.encode(None))
        write("audio", audio.encode(None))
    return path


def _wave(seconds: int, fps: int) -> np.ndarray:
    count = -(-seconds * RATE // FRAME) * FRAME
    wave = np.zeros(count, np.float32)
    tone = 0.8 * np.sin(2 * np.pi * 1000 * np.arange(BEEP) / RATE).astype(np.float32)
    for second in range(seconds):
        start = second * RATE + fps // 2 * RATE // fps
        wave[start : start + BEEP] = tone
    return wave


def flashes(path: Path) -> list[float]:
    """Time of each flash's first picture, in seconds."""
    found, before = [], 0.0
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            plane = frame.planes[0]
            rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # type: ignore[call-overload]
            # The middle: an annotated picture has boxes, and one that is fitted in has bars.
            height, width = frame.height, frame.width
            mean = float(rows[height * 2 // 5 : height * 3 // 5, width * 2 // 5 : width * 3 // 5].mean())
            if mean >= FLASH > before and frame.time is not None:
                found.append(frame.time)
            before = mean
    return found


def beeps(path: Path) -> list[float]:
    """Time of each beep's onset, in seconds."""
    found: list[float] = []
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            if frame.pts is None or frame.time_base is None:
                continue
            samples = np.abs(frame.to_ndarray().astype(np.float64)).reshape(-1)
            if frame.format.name.startswith("s16"):
                samples /= 32768
            loud = np.flatnonzero(samples >= LEVEL)
            if loud.size:
                at = float(frame.pts * frame.time_base) + float(loud[0]) / frame.sample_rate
                if not found or at - found[-1] > APART_S:
                    found.append(at)
    return found


def offsets(path: Path) -> list[float]:
    """For each flash that has a beep within half a second: seconds by which the beep comes later."""
    heard = beeps(path)
    told = []
    for flash in flashes(path):
        at = bisect_left(heard, flash)
        near = [heard[place] - flash for place in (at - 1, at) if 0 <= place < len(heard)]
        if near and abs(best := min(near, key=abs)) < APART_S:
            told.append(best)
    return told


def assert_in_sync(path: Path, limit: float = 0.040, least: int = 3) -> None:
    """Sound is within ``limit`` seconds of its picture, in at least ``least`` places."""
    told = offsets(path)
    assert len(told) >= least, f"{path.name}: only {len(told)} flashes with a beep"
    assert max(map(abs, told)) <= limit, f"{path.name}: sound is off by {[round(one, 3) for one in told]} s"
