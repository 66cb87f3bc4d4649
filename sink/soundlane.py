"""One form of a sound track that outputs have declared. Whatever the source sends later, this is what they get.

Packets of the same form are copied on; AAC changes its framing where it has to. All others are encoded into the form.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import av

from common.media import padded
from sink.recode import Recoder, can_make
from sink.silence import Silence, SilentPackets
from sink.soundform import Form, adts_header, is_adts, read_adts

log = logging.getLogger(__name__)


class Lane:
    """``adts``: declared as AAC in ADTS framing, whose first packet says the rest. ``live``: holes are filled."""

    def __init__(self, form: Form, adts: bool = False) -> None:
        self.form = form
        self.live = False
        self._adts, self._learnt = adts, not adts
        self._silence = Silence()
        self._silent: SilentPackets | None = None
        self._never_silent = False
        self._recoder: Recoder | None = None
        self._can_make: bool | None = None
        self.errors = 0  #: frames that could not be encoded

    @property
    def filled(self) -> int:
        """Packets of silence so far."""
        return self._silence.filled

    @property
    def left_out(self) -> int:
        """Packets of sound that came for a time which was filled already."""
        return self._silence.left_out

    @property
    def end(self) -> Fraction | None:
        """Up to where the track has been given anything, in seconds."""
        return self._silence.end

    def copies(self, form: Form | None, framed: bool) -> bool:
        """Whether such a packet goes on as it is; ``framed``: it has an ADTS header; None: which cannot be read."""
        if form is None:  # damage is no reason to begin anew
            return self._recoder is None and self.form.codec == "aac"
        if not self._learnt:
            self._learnt = True
            self.form = form if framed else self.form
        return self.form.takes(form)

    def copy(self, packet: av.Packet, framed: bool) -> Iterator[av.Packet]:
        """A packet of the source, for which :meth:`copies` is true."""
        if self._recoder is not None:
            yield from self.close()
        if framed != self._adts and self.form.codec == "aac":
            data = _bare(memoryview(packet)) if framed else self._with_header(memoryview(packet))
            if data is None:
                self.errors += 1
                return
            packet = _like(packet, data)
        yield from self._give(packet)

    def encode(self, frame: av.AudioFrame) -> Iterator[av.Packet]:
        """A decoded frame of the source, which is taken over."""
        if not self.makes:
            return
        if self._recoder is None:
            self._silence.close()
            self._recoder = Recoder(self.form)
        yield from self._guarded(self._recoder.encode(frame))

    def close(self) -> Iterator[av.Packet]:
        """The rest of what was encoded. What comes next may be of another making."""
        recoder, self._recoder = self._recoder, None
        if recoder is not None:
            yield from self._guarded(recoder.flush())
        self._silence.close()

    def fill(self, picture: Fraction, gone: bool) -> Iterator[av.Packet]:
        """Silence, now that the picture has come to this time (seconds) and the sound up to it was given.
        ``gone``: the source has no such sound, or is away."""
        if self._silence.is_behind(picture, gone) and self._can_be_silent():
            yield from self.close()  # what is still in the encoder comes first
            yield from self._silences(self._silence.behind(picture, gone))

    def silent_packet(self) -> av.Packet | None:
        """One packet of silence at zero; None: it cannot be made."""
        return self._framed(self._silent.at(Fraction(0))) if self._can_be_silent() and self._silent else None

    @property
    def encoding(self) -> bool:
        """Whether sound is in the encoder."""
        return self._recoder is not None

    @property
    def makes(self) -> bool:
        """Whether there is an encoder for this form."""
        if self._can_make is None:
            self._learnt, self._can_make = True, can_make(self.form)
        return self._can_make

    def _give(self, packet: av.Packet) -> Iterator[av.Packet]:
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None:
            yield packet
            return
        base = Fraction(packet.time_base)
        start, length = stamp * base, (packet.duration or 0) * base
        if self.live and self._silence.is_hole(start) and self._can_be_silent():
            yield from self._silences(self._silence.before(start))
        if self._silence.sound(start, length):
            yield packet

    def check(self) -> None:
        self._silence.check()

    def _can_be_silent(self) -> bool:
        if self._silent is None and not self._never_silent:
            try:
                self._silent = SilentPackets(self.form)
            except (av.FFmpegError, ValueError) as error:
                log.info("no silence for %s: %s", self.form.codec, error)
                self._never_silent = True
                return False
            self._learnt, self._silence.length = True, self._silent.length
        return self._silent is not None

    def _silences(self, starts: Iterator[Fraction]) -> Iterator[av.Packet]:
        assert self._silent is not None
        for start in starts:
            yield self._framed(self._silent.at(start))

    def _guarded(self, packets: Iterator[av.Packet]) -> Iterator[av.Packet]:
        try:
            for packet in packets:
                self._silence.close()  # an encoder that begins anew begins before its sound
                yield from self._give(self._framed(packet))
        except (av.FFmpegError, ValueError, OverflowError) as error:
            self.errors += 1
            if self.errors == 1:
                log.warning("sound that cannot be encoded as %s is left out: %s", self.form.codec, error)

    def _framed(self, packet: av.Packet) -> av.Packet:
        data = self._with_header(memoryview(packet)) if self._adts else None
        return packet if data is None else _like(packet, data)

    def _with_header(self, data: memoryview) -> bytes | None:
        header = adts_header(self.form, data.nbytes)
        return None if header is None else header + bytes(data)


def packet_form(packet: av.Packet, track: Form) -> tuple[Form | None, bool]:
    """The form of one packet of a track, and whether it has an ADTS header; the form is None where it is damaged."""
    if track.codec != "aac" or not is_adts(data := memoryview(packet)):
        return track, False
    read = read_adts(data)
    return (None if read is None else replace(read[0], doubled=track.rate == 2 * read[0].rate)), True


def _bare(data: memoryview) -> bytes | None:
    read = read_adts(data)
    return None if read is None else bytes(data[read[1] :])


def _like(packet: av.Packet, data: bytes) -> av.Packet:
    copy = padded(data)
    copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration or 0
    copy.time_base, copy.is_keyframe = packet.time_base, packet.is_keyframe
    return copy
