"""Sound of any kind becomes packets of one form, at the times of the sound that goes in.

Decoders give samples, and samples alone drift: a camera's clock is not ours, packets get lost. The resampler follows
the times instead: it stretches by up to 1 %, and where that is not enough, puts in silence or leaves samples out.
Planes are never touched: PyAV 18.1 ends the process when those of a frame with 8 channels or more are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.format import AudioFormat
from av.audio.resampler import AudioResampler
from av.codec.context import Flags

from sink.soundform import Form, form_of_context

#: Codec → the encoder of FFmpeg. PCM's have their own names; the others (Vorbis, DTS, TrueHD) have none, or one whose
#: packets another decoder does not understand.
ENCODERS = {"aac": "aac", "mp3": "libmp3lame", "mp2": "mp2", "ac3": "ac3", "eac3": "eac3", "flac": "flac",
            "opus": "libopus", "alac": "alac"}  # fmt: skip
#: Bits a second for each channel.
BITS = {"aac": 96_000, "mp3": 64_000, "mp2": 96_000, "ac3": 96_000, "eac3": 96_000, "opus": 64_000}
#: Where the rate is below this, MPEG's layers have smaller tables.
LOW_RATE, LOW_BITS = 32_000, 64_000
#: Codec that says how many bits a sample has → bytes of its setup that do (sink/soundform.py).
DEPTHS = {"flac": 2, "alac": 6}
#: Samples in a FLAC packet: at most a tenth of a second, within what FFmpeg's encoder makes.
FLAC_BLOCK, FLAC_LEAST = 4608, 16
#: Sound that departs from its times by 2 ms is stretched, by at most 1 %, and brought in line at once beyond 20 ms.
FOLLOW = {"flags": "res", "min_comp": "0.002", "min_hard_comp": "0.02"}
STRETCH = Fraction(1, 100)
#: A hole that is longer, in seconds, stays one. Sound that goes back by more is left out until it comes up again.
MAX_HOLE_S = 1
#: What a frame may be: samples a second, seconds. Bytes can claim anything, and the resampler makes it.
MIN_RATE, MAX_RATE, MAX_FRAME_S = 1000, 768_000, 10


def can_make(form: Form) -> bool:
    """Whether packets of this form can be made at all."""
    try:
        open_encoder(form)
    except (av.FFmpegError, ValueError):
        return False
    return True


def open_encoder(form: Form, alike: bool = True) -> AudioCodecContext:
    """An encoder whose packets a decoder of ``form`` understands. Raises ValueError or FFmpegError: there is none.

    ``alike`` False: one for a track that nobody has declared yet; its setup does not matter."""
    if form.rate < 1:
        raise ValueError("no samples at all")
    codec = av.CodecContext.create(_encoder(form), "w")
    assert isinstance(codec, AudioCodecContext)
    codec.sample_rate, codec.layout, codec.time_base = form.rate, form.layout, Fraction(1, form.rate)
    codec.flags |= Flags.global_header
    formats = codec.codec.audio_formats or [AudioFormat("s16")]
    codec.format = formats[0]
    if form.codec in BITS:
        low = form.rate < LOW_RATE and form.codec in ("mp2", "mp3")
        codec.bit_rate = codec.channels * (LOW_BITS // 2 if low and form.codec == "mp3" else BITS[form.codec])
    options: dict[str, Any] = {}
    if form.codec == "mp3":
        options["reservoir"] = "0"  # no packet needs the ones before it
    elif form.codec in DEPTHS:
        if len(form.setup) != DEPTHS[form.codec]:
            raise ValueError(f"{form.codec} without parameters")
        depth = form.setup[1] if form.codec == "alac" else (form.setup[0] << 4 | form.setup[1]) + 1
        codec.format = next(one for one in formats if one.name.startswith("s16" if depth == 16 else "s32"))
        options["bits_per_raw_sample"] = str(depth)
        if form.codec == "flac":
            options["frame_size"] = str(min(form.block, FLAC_BLOCK, max(FLAC_LEAST, form.rate // 10)))
    codec.options = options
    codec.open()
    if alike and not form.takes_plain(form_of_context(codec)):
        raise ValueError(f"FFmpeg's {codec.name} encoder makes {form_of_context(codec)}, not {form}")
    return codec


def _encoder(form: Form) -> str:
    if form.codec.startswith("pcm_"):
        return form.codec
    if form.codec not in ENCODERS:
        raise ValueError(f"no encoder makes {form.codec} that another decoder understands")
    return ENCODERS[form.codec]


def packet_samples(codec: AudioCodecContext) -> int:
    """Samples in one packet of an encoder; those that take any number are given 20 ms."""
    return codec.frame_size or max(1, codec.sample_rate // 50)


class Recoder:
    """Frames in, packets out. ``left_out`` counts frames that were not taken."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._codec: AudioCodecContext | None = None
        self._resampler: AudioResampler | None = None
        self._kind: tuple[str, str, int] | None = None  # of the frames that the resampler was made for
        self._next = Fraction(0)  # where the sound would go on, in seconds
        self.left_out = 0

    def encode(self, frame: av.AudioFrame) -> Iterator[av.Packet]:
        """The packets that are ready with this frame, which is taken over. Raises FFmpegError or ValueError."""
        rate = frame.sample_rate
        if not MIN_RATE <= rate <= MAX_RATE or not 0 < frame.samples <= MAX_FRAME_S * rate:
            self.left_out += 1
            return
        start = self._next if frame.pts is None else frame.pts * Fraction(frame.time_base or 1)
        kind = (frame.format.name, frame.layout.name, rate)
        if self._codec is not None:
            if start < self._next - MAX_HOLE_S:
                self.left_out += 1
                return
            if kind != self._kind or start > self._next + MAX_HOLE_S:
                yield from self.flush()
        if self._codec is None or self._resampler is None:
            self._start(kind)
        assert self._codec is not None
        assert self._resampler is not None
        frame.pts, frame.time_base = round(start * rate), Fraction(1, rate)
        self._next = start + Fraction(frame.samples, rate)
        for one in self._resampler.resample(frame):
            yield from self._codec.encode(one)

    def flush(self) -> Iterator[av.Packet]:
        """The rest. What comes afterwards begins anew, wherever it is."""
        codec, resampler = self._codec, self._resampler
        self._codec = self._resampler = None
        if codec is None or resampler is None:
            return
        for one in resampler.resample(None):
            yield from codec.encode(one)
        yield from (packet for packet in codec.encode(None) if packet.size)

    def _start(self, kind: tuple[str, str, int]) -> None:
        self._kind, self._codec = kind, open_encoder(self._form)
        follow = {**FOLLOW, "async": str(round(STRETCH * kind[2]))}
        size = packet_samples(self._codec)
        self._resampler = AudioResampler(self._codec.format, self._form.layout, self._form.rate, size, follow)
