"""A stream of numbered pictures and of noise, played into a rack at its own speed: for tests of what is sent.

The noise tells sound packets apart, so that what arrives can be laid beside what was sent.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from common.config import Encoding, Output, Stream
from common.messages import Packet
from sink.encode import Encoder, Shape
from sink.ledger import State
from sink.outputs.rack import Rack
from sink.reorder import Decision
from sink.sound import Sound
from tests.builders import EPOCH, STREAM, TICK, notice
from tests.support import NUMBER_BITS, number_in, wait_for

RATE = 25
BASE = Fraction(1, RATE * TICK)
WIDTH, HEIGHT = 320, 96
SOUND_RATE = 48_000


def picture(number: int, heavy: bool = False) -> av.VideoFrame:
    """Shows its number as :func:`tests.support.number_in` reads it. ``heavy``: under noise, which takes 15 kB or so."""
    bits = np.array([255 if number >> bit & 1 else 16 for bit in range(NUMBER_BITS)], np.uint8)
    frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
    grey = np.repeat(bits, WIDTH // NUMBER_BITS)
    for plane, row in zip(frame.planes, (grey, None, None), strict=True):
        data = np.full((plane.height, plane.line_size), 128, np.uint8)
        if row is not None:
            data[:, : plane.width] = row
            if heavy:
                top = np.random.default_rng(number).integers(16, 235, (HEIGHT // 2, plane.line_size), np.uint8)
                data[: HEIGHT // 2] = top
        plane.update(data.tobytes())
    return frame


def noise(seconds: float, codec: str = "aac", channels: int = 1, form: str = "matroska") -> bytes:
    """A file of noise."""
    buffer = io.BytesIO()
    samples = np.random.default_rng(1).normal(0, 3000, (1, int(seconds * SOUND_RATE) * channels)).astype(np.int16)
    with av.open(buffer, "w", format=form) as container:
        track = container.add_stream(codec, rate=SOUND_RATE)
        track.layout = "mono" if channels == 1 else "stereo"  # type: ignore[attr-defined]
        frame = av.AudioFrame.from_ndarray(samples, "s16", track.layout.name)  # type: ignore[attr-defined]
        frame.sample_rate, frame.pts = SOUND_RATE, 0
        for packet in [*track.encode(frame), *track.encode(None)]:  # type: ignore[attr-defined]
            container.mux(packet)
    return buffer.getvalue()


def bare(data: bytes) -> bytes:
    """An AAC packet without an ADTS header."""
    return data[7:] if data[:1] == b"\xff" and data[1] >> 4 == 0xF else data


def times_of(packets: Sequence[av.Packet]) -> dict[bytes, Fraction]:
    """Bytes of sound packets, which are all different, and when they are heard, in seconds."""
    return {bare(bytes(packet)): packet.pts * packet.time_base for packet in packets if packet.pts is not None}


def outputs(*places: str | Path, segment: float | None = None) -> list[Output]:
    found = []
    for place in map(str, places):
        scheme = place.partition("://")[0]
        kind: Any = scheme if "://" in place else Path(place).suffix[1:].replace("m3u8", "hls")
        found.append(Output(path=place, kind=kind, segment=segment if kind == "hls" else None))
    return found


class Sending:
    """One rack with ``places`` as its outputs. ``speed``: times the stream's own."""

    def __init__(
        self, *places: str | Path, mode: str = "live", speed: float = 1.0, sounds: Sequence[bytes] = (),
        segment: float | None = None, heavy: bool = False, again: bool = False,
    ) -> None:  # fmt: skip
        encoding = Encoding(encoder="x264", preset="ultrafast", crf=0)
        config = Stream(
            name=STREAM, source="x", model="echo", mode=mode, outputs=outputs(*places, segment=segment),  # type: ignore[arg-type]
            encoding=encoding,
        )  # fmt: skip
        kinds = {output.kind for output in config.outputs} - {"jsonl"}
        self._files = [av.open(io.BytesIO(data)) for data in sounds]
        tracks = [file.streams.audio[0] for file in self._files]
        self._sound = [
            (number, packet) for number, file in enumerate(self._files, 1) for packet in file.demux() if packet.size
        ]
        self._sound.sort(key=lambda one: one[1].dts * one[1].time_base)
        #: Bytes of the sound packets of the first track → its time in the stream, in seconds.
        self.sound_times = times_of([packet for number, packet in self._sound if number == 1])
        self.rack = Rack(config, EPOCH, BASE, [Sound(track, set(kinds)) for track in tracks], {}, again)
        self._encoding, self._live = encoding, mode == "live"
        self.open_encoder()
        self._heavy, self._next, self._speed, self._start = heavy, 0, speed, time.monotonic()
        self.away = 0  #: ticks for which the source was away so far
        #: Longest that the rack was busy with one picture, in seconds.
        self.longest = 0.0

    def open_encoder(self) -> None:
        """Another encoder from here on."""
        shape = Shape(WIDTH, HEIGHT, BASE, Fraction(RATE), False, None, 2, 2, 2)
        self._encoder = Encoder(shape, self._encoding, self._live)
        self._template: Any = None

    @property
    def position(self) -> int:
        """The next picture."""
        return self._next

    def play(self, frames: int) -> None:
        """So many pictures more."""
        for _ in range(frames):
            self.step()

    def begin(self) -> None:
        """The first pictures; then wait until all places have a connection."""
        self.play(5)  # an encoder keeps a few back
        wait_for(lambda: all(one["connected"] for one in self.rack.sent()), 30, "connections")
        self._start = time.monotonic() - self._next / RATE / self._speed

    def until(self, condition: Callable[[], Any], seconds: float, what: str) -> Any:
        """Play on until ``condition`` gives something true; fails after ``seconds``."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s: {self.rack.sent()}"
            self.step()
        return found

    def step(self) -> None:
        """The next picture, when it is its time, with the sound that a source sends before it."""
        index, self._next = self._next, self._next + 1
        threading.Event().wait(max(0.0, self._start + index / RATE / self._speed - time.monotonic()))
        begun = time.monotonic()
        at = index * TICK + self.away
        while self._sound and self._sound[0][1].dts * self._sound[0][1].time_base <= at * BASE + Fraction(1, 2):
            number, packet = self._sound.pop(0)
            self.rack.sound(_header(number, packet), bytes(packet))
        wanted, key = self.rack.wants(at * BASE)
        if wanted:
            packets = list(self._encoder.encode(picture(index, self._heavy), at, TICK, key))
            if key:
                self.rack.encoded(at * BASE)
            self._mux(packets)
        self.rack.line(Decision(notice(index), State.ANNOTATED), State.ANNOTATED, "")
        self.longest = max(self.longest, time.monotonic() - begun)

    def close(self, goes_on: bool = False) -> None:
        self._mux(list(self._encoder.flush()))
        self.rack.close(goes_on)

    def __enter__(self) -> Sending:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.rack.abandon()

    def _mux(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            self._template = self._template or self._encoder.template(packet)
            self.rack.picture(packet, TICK, self._template)


def _header(number: int, packet: av.Packet) -> Packet:
    base = Fraction(packet.time_base)
    return Packet(
        stream=STREAM, epoch=EPOCH, link=1, track=number, pts=packet.pts, dts=packet.dts,
        duration=packet.duration or 0, time_base=(base.numerator, base.denominator), key=True,
    )  # fmt: skip


@dataclass(slots=True)
class Seen:
    """What somebody received: numbers and times (seconds) of pictures, bytes and times of sound packets."""

    pictures: list[tuple[int, float]] = field(default_factory=list)
    sound: list[tuple[bytes, float]] = field(default_factory=list)
    #: Nothing more is waited for.
    enough: bool = False

    @property
    def numbers(self) -> list[int]:
        return [number for number, _ in self.pictures]

    def offset(self, times: Mapping[bytes, Fraction]) -> float:
        """How far sound lies from its pictures, at most, in seconds: against its ``times`` in the source, whose
        pictures begin at zero."""
        picture = self.pictures[len(self.pictures) // 2]
        zero = picture[1] - picture[0] / RATE
        known = [(time, times[data]) for data, time in self.sound if data in times]
        assert len(known) > len(self.sound) * 0.9, f"{len(known)} of {len(self.sound)} packets are known"
        return max(abs(time - zero - float(source)) for time, source in known)


def read(address: Any, options: dict[str, str] | None = None, into: Seen | None = None, frames: int = 0) -> Seen:
    """Read until the end, or until so many pictures were seen. ``address``: or something that can be read."""
    seen = Seen() if into is None else into
    source = str(address) if isinstance(address, str | Path) else address
    with av.open(source, options=options or {}, timeout=(60, 60)) as container:
        packets = container.demux()
        while not seen.enough:
            try:
                packet = next(packets)
            except (StopIteration, av.FFmpegError):  # it was broken off
                break
            if packet.stream.type == "audio" and packet.size and packet.pts is not None:
                seen.sound.append((bare(bytes(packet)), float(packet.pts * packet.time_base)))
            elif packet.stream.type == "video":
                for frame in packet.decode():
                    if frame.pts is not None:
                        number = number_in(frame.to_ndarray(format="gray"))  # type: ignore[union-attr]
                        seen.pictures.append((number, float(frame.pts * frame.time_base)))
            if frames and len(seen.pictures) >= frames:
                seen.enough = True
    return seen
