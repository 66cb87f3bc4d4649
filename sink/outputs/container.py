"""One container file: MP4, MKV or TS. Playable while it is written, and after a crash up to the last half second.

Opened with the first encoded packet, so that a run that never gets that far leaves no file behind. FFmpeg's errors
become OutputError here.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.stream import VideoStream

from common.errors import OutputError
from common.log import Seldom
from common.media import padded
from sink.outputs.editlist import lengthen
from sink.outputs.partfile import PartFile, write_error
from sink.outputs.place import WHOLE, Mark, Part, Position, part_path
from sink.sender.parameters import parameter_sets
from sink.sound import Sound

#: Longest wait of one track for another, in microseconds; a silent track would hold everything back for 10 s.
INTERLEAVE_US = "500000"
#: Length of a fragment or cluster; what lies further back is on disk, in seconds.
FRAGMENT_S = 0.5
#: What the muxer may hold back, in seconds: one fragment that is open, one that waits for the other track, and the
#: longest wait itself.
UNWRITTEN_S = 2 * Fraction(FRAGMENT_S) + Fraction(1, 2)
#: A track without a packet for so long at the start, in seconds, is taken for mute.
SILENCE_S = 5
#: Pictures that are not on disk however far they lie back: the last one written waits for its successor in the muxer's
#: queue, the one before it in the open fragment.
UNWRITTEN = 2
#: Muxer options. MP4: written in fragments, turned into an ordinary file when it is closed; the edit list keeps a
#: start that is not zero; FFmpeg's default movie time scale of 1 ms would round that. With delay_moov (added where the
#: sound allows it) the first fragment is one like the others; without, its edit lists have to be given a length.
OPTIONS = {
    "mp4": {
        "movflags": "hybrid_fragmented",
        "frag_duration": "500000",
        "use_editlist": "1",
        "movie_timescale": "90000",
        "flush_packets": "1",
    },
    "mkv": {"cluster_time_limit": "500", "flush_packets": "1"},
    "ts": {"mpegts_copyts": "1", "flush_packets": "1"},
}
FORMATS = {"mp4": "mp4", "mkv": "matroska", "ts": "mpegts"}
#: How far a time may move by being written and read again, in seconds: MKV counts milliseconds, TS 1/90000.
SLACK = {"mp4": Fraction(1, 50_000), "mkv": Fraction(6, 10_000), "ts": Fraction(1, 50_000)}
#: A packet that says nothing (ISO/IEC 13818-1 2.4.1), and the size in bytes from which FFmpeg takes a file for a
#: transport stream.
NULL_PACKET = b"\x47\x1f\xff\x10" + b"\xff" * 184
LEAST_TS = 12 * len(NULL_PACKET)
#: Containers without negative times: sound that starts before zero (the priming of an encoder) is moved to zero.
NO_NEGATIVE = ("mkv", "ts")

log = logging.getLogger(__name__)


class ContainerOutput:
    """``sounds`` are the tracks beside the picture; each knows whether it is copied or encoded for this container.

    Where ``position`` names earlier parts, this one begins after their last picture. ``segment``: the file to write
    instead of the next part; its first picture is at zero.
    """

    def __init__(
        self,
        path: Path,
        kind: str,
        sounds: Sequence[Sound],
        position: Position | None = None,
        segment: Path | None = None,
    ) -> None:
        self.name, self.kind = path, kind  #: the path that was asked for
        self._position = position = position or Position()
        self._segment = segment is not None
        self.path = segment or part_path(path, len(position.parts) + 1)  #: the file that is written
        self._sounds = sounds
        self._file: PartFile | None = None
        self._container: OutputContainer | None = None
        self._video: VideoStream | None = None
        self._audio: list[AudioStream] = []
        self._last_dts: dict[int, int] = {}  # sound track → in the muxer's own units
        self._last_picture = -1  # the same of the picture, whose times are never negative
        self._seldom = Seldom(log)
        self._held: av.Packet | None = None
        self._held_duration = 0
        self._first = 0  # pts of the first picture
        self._filled = False
        self._written: deque[int] = deque(maxlen=UNWRITTEN + 1)  # pts of the last pictures
        self._base = Fraction(1)
        self._durable: int | None = None  # pts of the last picture that is on disk, in the video's time base
        #: The keyframe that this file begins with is in the encoder.
        self.asked = False
        #: Time of the stream at the zero of this file, in seconds.
        self.origin = Fraction(0)
        #: Time of the last picture handed to the muxer, in seconds of the stream.
        self.time: Fraction | None = None

    def wants(self, time: Fraction) -> bool:
        """Whether the picture at ``time`` (seconds of the stream) is not in an earlier part."""
        after = self._position.after
        return after is None or time > after + SLACK[self.kind]

    def begin_anew(self) -> None:
        """Times begin at zero again: none of the pictures that come is in an earlier part."""
        self._position = replace(self._position, after=None, sounds=())

    @property
    def durable(self) -> Fraction | None:
        """All pictures up to this time (seconds of the stream) are on disk; None: none is."""
        return self._position.after if self._durable is None else self._durable * self._base + self.origin

    def mark(self, error: str = "") -> Mark:
        """What there is to go on with after a sudden end."""
        parts = list(self._position.parts)
        if self._file is None:
            return Mark(path=str(self.name), parts=parts, size=WHOLE, error=error)
        parts.append(Part(str(self.path), f"{self.origin.numerator}/{self.origin.denominator}"))
        return Mark(path=str(self.name), parts=parts, size=self._file.size, error=error)

    def video(self, packet: av.Packet, duration: int, template: VideoStream | None = None) -> None:
        """One encoded picture. ``template`` with the first. Raises OutputError.

        The packet is held back until the next one comes, which tells how long it lasts: MP4 stores durations, not
        times, and a wrong one would move its neighbour.
        """
        if self._container is None:
            assert template is not None
            self._base = Fraction(packet.time_base)
            if self._segment or (self._position.parts and self.kind == "mp4"):
                # Else players would show nothing for as long as the parts before last.
                self.origin = int(packet.dts or 0) * self._base
            self._open(template, self._base, parameter_sets(bytes(packet)))
            self._first = int(packet.dts or 0) - round(self.origin / self._base)
        held, self._held = self._held, packet
        if held is not None:
            self._write_video(held, int(packet.dts or 0) - int(held.dts or 0))
        self._held_duration = duration

    def sound(self, number: int, packet: av.Packet) -> None:
        """One packet of sound track ``number``, for this container's form of it. Raises OutputError."""
        if self._container is None:
            return
        base = Fraction(packet.time_base)
        dts = packet.dts if packet.dts is not None else packet.pts
        if dts is not None:
            if self._is_earlier(number, dts * base):
                return
            dts -= round(self.origin / base)
        # In the muxer's own units, which may be coarser than the packet's: times that differ must differ there.
        own = Fraction(self._audio[number].time_base or base)
        floor, length = self._last_dts.get(number), round((packet.duration or 0) * base / own)
        at = round(dts * base / own) if dts is not None else (0 if floor is None else floor + max(1, length))
        if self.kind in NO_NEGATIVE:
            at = max(at, 0)
        if floor is not None and at <= floor:
            at = floor + 1
        self._last_dts[number] = at
        copy = _copy(packet, self._audio[number], at, own, length)
        try:
            self._container.mux(copy)
        except av.InvalidDataError:  # the packet's bytes, not the file: some muxers look into them (ADTS into MP4)
            self._seldom.warn("sound", f"{self.path}: damaged sound is left out", output=str(self.path))
        except (av.FFmpegError, OSError) as error:
            raise self._error(error) from None

    def _is_earlier(self, number: int, time: Fraction) -> bool:
        """Whether sound at ``time`` is in an earlier part."""
        sounds = self._position.sounds
        last = sounds[number] if number < len(sounds) else None
        return last is not None and time <= last + SLACK[self.kind]

    def close(self) -> None:
        """Write what is held and the trailer. Raises OutputError."""
        if self._container is None:
            return
        held, self._held = self._held, None
        if held is not None:
            self._write_video(held, self._held_duration)
        container, self._container = self._container, None
        try:
            container.close()
            if self.kind == "ts" and self._file is not None and 0 < self._file.size < LEAST_TS:
                self._file.write(NULL_PACKET * ((LEAST_TS - self._file.size) // len(NULL_PACKET)))
            self._close_file()
        except (av.FFmpegError, OSError) as error:
            raise self._error(error) from None

    def discard(self) -> None:
        """Leave the file as it is, without a trailer (it failed)."""
        if self._file is not None:
            self._file.freeze()
        container, self._container = self._container, None
        if container is not None:
            with contextlib.suppress(av.FFmpegError, OSError):
                container.close()
        self._close_file()

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def opened(self) -> bool:
        return self._video is not None

    def _open(self, template: VideoStream, time_base: Fraction, parameters: bytes) -> None:
        options = {"max_interleave_delta": INTERLEAVE_US, **OPTIONS[self.kind]}
        sounds = [sound.template(self.kind) for sound in self._sounds]
        if self.kind == "mp4" and not any(map(_is_adts, sounds)):
            options["movflags"] += "+delay_moov"
        try:
            mend = lengthen if self.kind == "mp4" and "delay_moov" not in options["movflags"] else None
            self._file = PartFile(self.path, mend)
            container = av.open(self._file, "w", format=FORMATS[self.kind], options=options)
        except (av.FFmpegError, OSError) as error:
            raise self._error(error) from None
        try:
            self._video = container.add_stream_from_template(template)
            if parameters:  # the template's are those of another encoder
                self._video.codec_context.extradata = parameters
            self._video.time_base = time_base
            # Not copied with the template; Matroska writes it down, and players believe it.
            self._video.codec_context.framerate = template.codec_context.framerate or Fraction(0)
            self._audio = [container.add_stream_from_template(sound) for sound in sounds]
            container.start_encoding()
        except (av.FFmpegError, OSError, ValueError) as error:
            with contextlib.suppress(av.FFmpegError, OSError):
                container.close()
            raise self._error(error) from None
        self._container = container

    def _write_video(self, packet: av.Packet, duration: int) -> None:
        assert self._video is not None
        base = self._base
        at = int(packet.dts or 0) - round(self.origin / base)
        # As with sound: pictures closer than the muxer counts follow each other there too.
        own = Fraction(self._video.time_base or base)
        self._last_picture = max(round(at * base / own), self._last_picture + 1)
        self._mux(_copy(packet, self._video, self._last_picture, own, round(duration * base / own)))
        self.time = at * base + self.origin
        self._written.append(at)
        if self.kind == "mp4" and len(self._last_dts) < len(self._sounds):
            self._break_silence(at, base)
        elif len(self._written) > UNWRITTEN:
            self._durable = min(self._written[0], at - round(UNWRITTEN_S / base))

    def _break_silence(self, at: int, base: Fraction) -> None:
        """MP4's muxer writes nothing before it has seen a packet of each track: give a mute one a packet of silence."""
        if self._filled or (at - self._first) * base < SILENCE_S:
            return
        self._filled = True
        for number, sound in enumerate(self._sounds):
            if number not in self._last_dts and (packet := sound.silence(self.kind)) is not None:
                start = self._first * base + self.origin
                packet.pts = packet.dts = int(start / Fraction(packet.time_base))
                self.sound(number, packet)

    def _mux(self, packet: av.Packet) -> None:
        assert self._container is not None
        try:
            self._container.mux(packet)
        except (av.FFmpegError, OSError) as error:
            raise self._error(error) from None

    def _error(self, error: Exception) -> OutputError:
        return write_error(self.path, (self._file.trouble if self._file is not None else None) or error)


def _is_adts(track: AudioStream) -> bool:
    """AAC as transport streams carry it: MP4's muxer converts it, but not together with delay_moov."""
    return track.codec_context.name == "aac" and not track.codec_context.extradata


def _copy(packet: av.Packet, stream: VideoStream | AudioStream, at: int, base: Fraction, duration: int) -> av.Packet:
    """A packet of its own for one muxer, which changes what it is given."""
    copy = padded(packet)
    copy.pts = copy.dts = at
    copy.time_base, copy.duration = base, duration
    copy.is_keyframe = packet.is_keyframe
    copy.stream = stream
    return copy
