"""What is known of an open source: how it ends, what its times are worth, how fast it comes.

All is looked at once, after opening: nothing of a container may be touched when it is closed.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import av
from av.container import InputContainer
from av.format import Flags
from av.video.stream import VideoStream

from common.config import Stream
from producer.inputs import arrival
from producer.inputs.plan import Plan

#: The mean rate of a file of constant rate may differ from it by this share (the last picture's length, rounding).
RATE_SLACK = Fraction(1, 100)


@dataclass(frozen=True, slots=True)
class Facts:
    """Times in seconds."""

    #: It comes at its own speed and does not wait: the network, a device.
    live: bool
    #: Its end is its natural end.
    finite: bool
    #: It can be read again from its beginning, with the same content.
    rereadable: bool
    #: Its clock may jump by design.
    discontinuous: bool
    #: It has no times of its own: packets are stamped when they arrive.
    clockless: bool
    #: It is played at its own speed.
    paced: bool
    #: Time base of the picture's packets.
    time_base: Fraction
    #: The container's first time.
    start_time: Fraction | None
    #: What a server says of its length.
    length: float | None
    rate: Fraction | None
    #: The rate where the pictures keep to it. None where it is unknown or varies: a mean, written into a file, would be
    #: taken for the grid that the pictures lie on.
    constant_rate: Fraction | None
    #: How many pictures the header lists, one by one; 0 where it does not.
    listed: int
    #: How many pictures are expected.
    expected: int | None


def facts_of(plan: Plan, stream: Stream, container: InputContainer, video: VideoStream) -> Facts:
    """Of a container that was opened by ``plan``."""
    remote = plan.kind in ("network", "srt", "device")
    hls, scheme = container.format.name == "hls", plan.scheme
    length = None if container.duration is None else container.duration / av.time_base
    # Of the network, only what tells its size has an end of its own: a live FLV tells a length as well.
    sized = not _has(container, Flags.no_file) and container.size > 0
    finite = not (remote or hls) or (bool(length) and (hls or sized or scheme.startswith("rtsp")))
    live = plan.live or not finite
    at_speed = stream.realtime or stream.mode == "live"
    clockless = _has(container, Flags.no_timestamps) and (
        (live and not finite) or (plan.kind == "pipe" and stream.mode == "live" and not stream.realtime)
    )
    start, rate = container.start_time, None if clockless else _rate(video)
    return Facts(
        live=live,
        finite=finite,
        rereadable=plan.rereadable if finite and not remote else finite and (hls or sized),
        discontinuous=hls or _has(container, Flags.ts_discont),
        clockless=clockless,
        paced=at_speed and not clockless and (plan.paced or (finite and sized)),
        time_base=arrival.BASE if clockless else Fraction(video.time_base or Fraction(1, 1000)),
        start_time=None if start is None or clockless else Fraction(start, av.time_base),
        length=length if finite and remote else None,
        rate=rate,
        constant_rate=None if clockless else _constant_rate(video, rate),
        listed=video.frames if "mov" in container.format.name.split(",") else 0,
        expected=video.frames or (round(length * rate) or None if length and rate else None),
    )


def _has(container: InputContainer, flag: Flags) -> bool:
    return flag in Flags(container.format.flags)


def _rate(video: VideoStream) -> Fraction | None:
    rate = video.average_rate or video.guessed_rate or video.base_rate
    return Fraction(rate) if rate and rate > 0 else None


def _constant_rate(video: VideoStream, rate: Fraction | None) -> Fraction | None:
    mean, grid = video.average_rate, video.base_rate
    if not mean or not grid:
        return rate
    return Fraction(grid) if abs(Fraction(mean) / Fraction(grid) - 1) <= RATE_SLACK else None
