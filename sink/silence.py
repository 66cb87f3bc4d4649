"""A declared sound track that gives nothing is filled with silence, so that no muxer and no player waits for it.

:class:`Silence` decides (pure: times in, times out), :class:`SilentPackets` makes the packets.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
from av.audio.resampler import AudioResampler

from common.media import padded
from sink.recode import open_encoder, packet_samples
from sink.soundform import Form

#: How far a track may lie behind the picture before it is filled, in seconds: one that merely lags, and one that is
#: known to give nothing.
LAG_S, GONE_S = Fraction(1), Fraction(1, 5)
#: Sound that came too late for that moves the margin: so far behind it, and at most so far, in seconds.
SPARE_S, MAX_LAG_S = Fraction(1, 4), Fraction(5)
#: A hole within sound is filled from this length on, in seconds: a lost packet or two leave a smaller one. After
#: silence, any hole is.
HOLE_S = Fraction(1, 5)
#: Most silence at one time, in seconds. Of a longer hole, the beginning stays empty.
MAX_FILL_S = 20
#: What sound may begin before the end of what was filled, in seconds: times are rounded.
SLACK_S = Fraction(1, 500)
#: Frames after which the encoders of ENCODERS have forgotten their beginning.
SETTLED = 8


class Silence:
    """What one declared track has been given, and what it lacks."""

    def __init__(self) -> None:
        #: One packet of silence, in seconds; None: none can be made, or not yet.
        self.length: Fraction | None = None
        self._end: Fraction | None = None  # of all that was given
        self._barrier: Fraction | None = None  # what begins before it would overlap
        self._start: Fraction | None = None  # of the last sound
        self._picture: Fraction | None = None  # time of the last picture of a source that is there
        self._lag = LAG_S
        self.filled = 0  #: packets of silence
        self.left_out = 0  #: packets of sound that came for a time which was filled already

    @property
    def end(self) -> Fraction | None:
        """Up to where the track has been given anything, in seconds."""
        return self._end

    def sound(self, start: Fraction, length: Fraction) -> bool:
        """Whether real sound at ``start`` is to be written. ``length`` 0: unknown."""
        if self._barrier is not None and start < self._barrier - SLACK_S:
            self.left_out += 1
            if self._picture is not None:
                self._lag = min(MAX_LAG_S, max(self._lag, self._picture - start + SPARE_S))
            return False
        if length <= 0 and self._start is not None:  # as long as the one before
            length = start - self._start if start - self._start <= LAG_S else Fraction(0)
        self._start, end = start, start + max(Fraction(0), length)
        self._end = end if self._end is None else max(self._end, end)
        return True

    def close(self) -> None:
        """What comes next is of another making: it may not overlap what was given."""
        self._barrier = self._end

    def is_hole(self, start: Fraction) -> bool:
        """Whether silence is due before real sound that begins at ``start``: nothing else comes for that time."""
        if self._end is None:
            return False
        return start - self._end > (0 if self._end == self._barrier else HOLE_S)

    def is_behind(self, picture: Fraction, gone: bool) -> bool:
        """Whether silence is due, now that the picture has come to this time. ``gone``: the track is known to give
        nothing."""
        self._picture = None if gone else picture
        if self._end is None:
            self._end = picture
        return self._end < self._until(picture, gone)

    def before(self, start: Fraction) -> Iterator[Fraction]:
        """Where packets of silence begin in such a hole."""
        return self._fill(start)

    def behind(self, picture: Fraction, gone: bool) -> Iterator[Fraction]:
        """Where they begin behind the picture."""
        return self._fill(self._until(picture, gone))

    def _fill(self, until: Fraction) -> Iterator[Fraction]:
        """As many as fit before ``until``."""
        if self.length is None or self._end is None:
            return
        at = max(self._end, until - MAX_FILL_S)
        while at + self.length <= until:
            start, at = at, at + self.length
            self._end = self._barrier = at
            self.filled += 1
            yield start

    def _until(self, picture: Fraction, gone: bool) -> Fraction:
        return picture - (GONE_S if gone else self._lag)

    def check(self) -> None:
        assert LAG_S <= self._lag <= MAX_LAG_S
        assert self._barrier is None or (self._end is not None and self._barrier <= self._end)
        assert self.length is None or self.length > 0


class SilentPackets:
    """Packets of silence of one form. Raises ValueError or FFmpegError: it cannot be encoded."""

    def __init__(self, form: Form) -> None:
        codec = open_encoder(form)
        self._base, self._samples = Fraction(1, form.rate), packet_samples(codec)
        self.length = self._samples * self._base  #: of one, in seconds
        resampler = AudioResampler(codec.format, form.layout, form.rate)
        made: list[bytes] = []
        for number in range(SETTLED):
            # One channel: PyAV 18.1 ends the process when the planes of 8 are asked for.
            frame = av.AudioFrame("s16", "mono", self._samples)
            frame.planes[0].update(bytes(frame.planes[0].buffer_size))
            frame.sample_rate, frame.pts, frame.time_base = form.rate, number * self._samples, self._base
            made += [bytes(packet) for one in resampler.resample(frame) for packet in codec.encode(one)]
        if not made:
            raise ValueError(f"FFmpeg's {codec.name} encoder gives nothing")
        self.payload = made[-1]

    def at(self, start: Fraction) -> av.Packet:
        """One packet that begins at ``start`` (seconds)."""
        packet = padded(self.payload)
        packet.pts = packet.dts = round(start / self._base)
        packet.time_base, packet.duration = self._base, self._samples
        packet.is_keyframe = True
        return packet
