"""Sound beside the picture, one track of it: copied where the container takes it, else AAC.

The lists say what is copied: some pairs fail in the muxer, and some abort the process (DESIGN §6). A source that comes
back with other sound goes on in the forms that the outputs have declared.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Literal

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.stream import AudioStream

from common.media import padded
from sink.recode import open_encoder
from sink.soundform import AAC_RATES, Form, form_of, form_of_context
from sink.soundlane import Lane, packet_form

_TS = frozenset({"aac", "mp3", "mp3float", "mp2", "mp2float", "ac3", "eac3", "opus", "libopus", "dca"})
#: Decoder names whose packets a container takes as they are.
COPIED: dict[str, frozenset[str]] = {
    "mp4": frozenset({"aac", "mp3", "mp3float", "ac3", "eac3", "flac", "opus", "libopus", "alac"}),
    "mkv": frozenset(
        {"aac", "mp3", "mp3float", "mp2", "mp2float", "ac3", "eac3", "flac", "opus", "libopus", "vorbis", "alac", "dca"}
        | {"truehd", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le"}
    ),
    "ts": _TS,
    "srt": _TS,
    "udp": _TS,
    "hls": frozenset({"aac", "mp3", "mp3float", "ac3", "eac3"}),
    "flv": frozenset({"aac"}),
    "rtmp": frozenset({"aac"}),
    "rtsp": frozenset({"aac", "opus", "libopus"}),
}
#: Decoder name → kinds that cannot do without the codec's parameters. AAC out of a transport stream has none, nor has
#: Opus out of RTSP.
DESCRIBED = {"aac": ("flv", "rtmp", "rtsp"), "opus": ("mp4", "mkv"), "libopus": ("mp4", "mkv")}
#: Coarsest time base in which packets are decoded, in seconds.
FINE_BASE = Fraction(1, 1000)

#: FLV has a number for stereo; more channels need a new kind of tag, which older servers and players do not know.
STEREO = ("flv", "rtmp")

#: How a track goes to an output: as the packets of its first source (or ones alike), as such packets with parameters
#: that they came without, as AAC, or as AAC in stereo.
FormName = Literal["copied", "described", "aac", "stereo"]

log = logging.getLogger(__name__)


class Sound:
    """One sound track in the forms that the outputs need. Packets go in once and come out in each form.

    ``track`` is the first one, which the outputs declare. Raises FFmpegError or ValueError where AAC is needed and
    cannot be made.
    """

    def __init__(self, track: AudioStream, kinds: set[str]) -> None:
        self._track: AudioStream | None = track
        self._form: Form | None = form_of(track)  # of the source now; None: it has no such sound
        self.name = track.codec_context.name  # what it was at first, whatever it was announced as
        self._lanes: dict[FormName, Lane] = {}
        self._templates: dict[FormName, AudioStream] = {}
        self._ready: deque[tuple[FormName, av.Packet]] = deque()
        self._errors = 0  # packets that could not be decoded
        self._said: set[str | None] = set()  # codecs that the log has named
        self._has_parameters = bool(track.codec_context.extradata)
        self._described = None if self._has_parameters else _describe(track)
        self._many = track.codec_context.channels > 2
        kept = sorted(kind for kind in kinds if self.form(kind) in ("aac", "stereo"))
        for name in sorted({self.form(kind) for kind in kinds}):
            self._declare(name, track)
        if kept:
            log.info("sound %s is re-encoded to AAC for %s", self.name, ", ".join(kept))

    def _declare(self, name: FormName, track: AudioStream) -> None:
        if name == "copied":
            self._templates[name] = track
            self._lanes[name] = Lane(form_of(track), self.name == "aac" and not track.codec_context.extradata)
        else:
            codec = self._described if name == "described" else _aac(form_of(track), name == "stereo")
            assert codec is not None
            self._templates[name], self._lanes[name] = _template(codec), Lane(form_of_context(codec))

    def form(self, kind: str) -> FormName:
        """The form that an output of this kind takes."""
        if self._many and kind in STEREO:
            return "stereo"
        if self.name not in COPIED[kind]:
            return "aac"
        if kind not in DESCRIBED.get(self.name, ()) or self._has_parameters:
            return "copied"
        return "aac" if self._described is None else "described"

    def template(self, kind: str) -> AudioStream:
        """What a container of this kind makes its stream from."""
        return self._templates[self.form(kind)]

    def fill_holes(self) -> None:
        """Live: what is missing becomes silence, from now on."""
        for lane in self._lanes.values():
            lane.live = True

    def change(self, track: AudioStream | None) -> None:
        """From here on packets are of this track; None: the source has no such sound now."""
        self._close()
        self._track, self._form = track, None if track is None else form_of(track)
        self._say_what_becomes()

    def _close(self) -> None:
        """What is in the decoder and in the encoders comes out."""
        encoding = [(name, lane) for name, lane in self._lanes.items() if lane.encoding]
        for frame in self._decoded(None) if encoding else ():
            self._ready.extend((name, one) for name, lane in encoding for one in lane.encode(frame))
        for name, lane in self._lanes.items():
            self._ready.extend((name, one) for one in lane.close())

    def take(self, packet: av.Packet | None) -> Iterator[tuple[FormName, av.Packet]]:
        """The packet (None: the end) in each form that outputs take."""
        yield from self.rest()
        if packet is None:
            self._close()
            yield from self.rest()
        elif self._form is not None and packet.size:
            form, framed = packet_form(packet, self._form)
            others: list[tuple[FormName, Lane]] = []
            for name, lane in self._lanes.items():
                if lane.copies(form, framed):
                    yield from ((name, one) for one in lane.copy(packet, framed))
                elif lane.makes:
                    others.append((name, lane))
            for frame in self._decoded(packet) if others else ():
                for name, lane in others:
                    yield from ((name, one) for one in lane.encode(frame))

    def rest(self) -> Iterator[tuple[FormName, av.Packet]]:
        """What a change has left to be written."""
        while self._ready:
            yield self._ready.popleft()

    def fill(self, picture: Fraction, away: bool) -> Iterator[tuple[FormName, av.Packet]]:
        """Live: silence where it is due, now that the picture has come to this time (seconds) and the sound up to it
        was given. ``away``: the source is."""
        yield from self.rest()
        for name, lane in self._lanes.items():
            yield from ((name, one) for one in lane.fill(picture, away or self._form is None))

    @property
    def end(self) -> Fraction | None:
        """Up to where each form has been given something, in seconds; None: one has not."""
        ends = [lane.end for lane in self._lanes.values()]
        return None if None in ends else min((end for end in ends if end is not None), default=None)

    @property
    def counts(self) -> dict[str, int]:
        """Packets of silence, of sound that came for a time which was filled already, and of damaged sound."""
        lanes = self._lanes.values()
        return {
            "silence": sum(lane.filled for lane in lanes),
            "late": sum(lane.left_out for lane in lanes),
            "damaged": self._errors + sum(lane.errors for lane in lanes),
        }

    def silence(self, kind: str) -> av.Packet | None:
        """One packet of silence in this container's form of the track, None where nobody can make it."""
        return self._lanes[self.form(kind)].silent_packet()

    def check(self) -> None:
        for lane in self._lanes.values():
            lane.check()

    def _decoded(self, packet: av.Packet | None) -> list[av.AudioFrame]:
        if self._track is None:
            return []
        base = min(Fraction(self._track.time_base or FINE_BASE), FINE_BASE)
        try:
            frames = self._track.codec_context.decode(None if packet is None else _in(packet, base))
        except (av.FFmpegError, ValueError, OverflowError) as error:  # a damaged packet costs its sound
            self._errors += 1
            if self._errors == 1:
                log.warning("damaged sound is left out: %s", error)
            return []
        for frame in frames:
            frame.time_base = base
        return frames

    def _say_what_becomes(self) -> None:
        now = None if self._form is None else self._form.codec
        if now in self._said:
            return
        self._said.add(now)
        if self._form is None:
            log.info("the source has no sound for this track now: it is silent")
            return
        for lane in self._lanes.values():
            if not lane.form.takes(self._form) and not lane.makes:
                text = "the source's sound is %s now, which cannot be made into the %s that the outputs have declared"
                log.warning(f"{text}: it is left out", now, lane.form.codec)


def _in(packet: av.Packet, base: Fraction) -> av.Packet:
    """The packet with its times in ``base``, in which its decoder counts what it leaves out at the beginning."""
    own, copy = Fraction(packet.time_base), padded(packet)
    copy.pts = None if packet.pts is None else round(packet.pts * own / base)
    copy.dts = None if packet.dts is None else round(packet.dts * own / base)
    copy.duration, copy.time_base = round((packet.duration or 0) * own / base), base
    return copy


def _aac(form: Form, stereo: bool) -> AudioCodecContext:
    """What a track of another codec becomes."""
    rate = min(AAC_RATES, key=lambda one: abs(one - form.rate))
    if not stereo:
        with contextlib.suppress(av.FFmpegError, ValueError):  # more channels than AAC knows, or nobody knows where
            return open_encoder(Form("aac", rate, form.channels, form.layout.removesuffix("(side)")), alike=False)
    return open_encoder(Form("aac", rate, 2, "stereo"), alike=False)


def _describe(track: AudioStream) -> AudioCodecContext | None:
    """An encoder whose parameters fit a track that has none, as far as can be guessed."""
    form = form_of(track)
    if (form.codec == "aac" and form.rate in AAC_RATES) or (form.codec == "opus" and form.channels <= 2):
        try:
            return open_encoder(form, alike=False)
        except (av.FFmpegError, ValueError):
            return None
    return None


def _template(codec: AudioCodecContext) -> AudioStream:
    """A track with the parameters of an encoder."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="nut") as nut:
        stream = nut.add_stream(codec.name, rate=codec.sample_rate)
        assert isinstance(stream, AudioStream)
        stream.layout = codec.layout.name
        stream.codec_context.extradata = codec.extradata
        packet = av.Packet(b"\0" * 16)
        packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, 0, 0, True
        packet.time_base = Fraction(1, codec.sample_rate)
        nut.mux(packet)
    buffer.seek(0)
    return av.open(buffer, format="nut").streams.audio[0]
