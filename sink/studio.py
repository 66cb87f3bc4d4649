"""What the render thread does, without the thread: packets and decisions in, files out.

Owns the decoder, the encoder and the outputs of one stream and epoch.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from common import media
from common.codec import resolve_matrix
from common.config import Stream
from common.errors import OutputError, PeerError
from common.log import Seldom
from common.messages import Filler, Hello, Notice, Packet
from common.picture import FULL
from sink.compose import SQUARE, Composer, even_size, is_full, matrix_tag, true_matrix
from sink.encode import Encoder, Shape, shape_of
from sink.handover import Handover
from sink.ledger import State
from sink.outputs.place import Mark
from sink.outputs.rack import Rack
from sink.outputs.survey import survey
from sink.placeholder import Placeholder
from sink.preview import Preview
from sink.reel import Changed, Reel
from sink.reorder import Decision
from sink.sound import Sound

log = logging.getLogger(__name__)


class Studio:
    """One stream and epoch. ``tracks`` are those of ``hello``, opened.

    ``marks``: where outputs stand that an earlier epoch has begun. Then :meth:`open` must be called before anything
    else; it reads their last parts through. ``again``: an earlier epoch has shown something. Raises PeerError where a
    sound track cannot be opened.
    """

    def __init__(
        self,
        config: Stream,
        hello: Hello,
        epoch: int,
        tracks: Sequence[media.Track],
        marks: Sequence[Mark] = (),
        again: bool = False,
        preview: Preview | None = None,
    ) -> None:
        self._config, self._hello, self._preview = config, hello, preview
        self._base = Fraction(*hello.video.time_base)
        self._kinds = {output.kind for output in config.outputs if output.kind != "jsonl"}
        try:
            sounds = self._sounds(tracks)
        except (av.FFmpegError, ValueError) as error:
            raise PeerError("tracks", f"a sound track cannot be opened: {error}"[:300]) from None
        self._composer: Composer | None = None
        self._marks, self._begun = marks, False
        self._make_rack = partial(Rack, config, epoch, self._base, again=again)
        self._rack = self._make_rack(sounds, {})
        self._heard = _signature(tracks)  # the sound that the outputs were begun with
        self._handover = Handover()  # with on_change = "part"
        self._fresh: Changed | None = None  # likewise: its first picture is awaited
        assert isinstance(tracks[0], VideoStream)
        self._info, self._threads = hello.video, hello.threads
        self._reel = Reel(tracks[0], hello.threads, hello.video)
        self._encoder: Encoder | None = None
        self._shape: Shape | None = None
        self._placeholder: Placeholder | None = None
        self._matrix = 0  # of the pictures that are encoded
        self._since, self._away = "", 0.0  # of the source's absence
        self._template: VideoStream | None = None
        self._shown: deque[tuple[int, Fraction]] = deque()  # (index, seconds) of pictures that are not yet durable
        self._durations: deque[int] = deque()  # of the pictures inside the encoder
        self._seldom = Seldom(log)
        self.durable = self._last = -1

    def open(self) -> None:
        """Find out where the outputs go on."""
        if self._marks:
            self._rack = self._make_rack(self._rack.sounds, survey(self._marks))

    def _sounds(self, tracks: Sequence[media.Track]) -> list[Sound]:
        kinds: set[str] = set(self._kinds)
        return [Sound(track, kinds) for track in tracks if kinds and isinstance(track, AudioStream)]

    @property
    def dead(self) -> bool:
        """No output is left."""
        return self._rack.dead

    @property
    def error(self) -> str:
        """The first output that failed, "" if none did."""
        return self._rack.error

    @property
    def held_bytes(self) -> int:
        """What waits here, in bytes."""
        return self._reel.held_bytes + self._handover.bytes

    @property
    def wants_media(self) -> bool:
        return self._rack.has_files

    def packet(self, header: Packet, payload: bytes) -> None:
        """A compressed packet of the source, in link order."""
        if not self._rack.has_files:
            return
        if header.track == 0:
            self._reel.put(header, payload)
        elif self._handover.waiting:
            self._handover.put(header, payload)
        else:
            self._rack.sound(header, payload)

    def announce(self, notice: Notice) -> None:
        """A frame exists: pictures are matched against this."""
        if not self._begun and notice.index and not notice.out:  # later frames of a producer are later than zero
            self._rack.begin_anew()
        self._begun = True
        if self._rack.has_files and notice.fate != "gap":
            self._reel.announce(notice)

    def change(self, changed: Changed) -> None:
        """In link order: what follows is of other tracks."""
        if not self._rack.has_files or not changed.tracks:
            return
        self._reel.change(changed, self._last)
        if self._config.on_change == "part":
            self._handover.change(changed.first)
        else:
            self._rack.change(_audio(changed.tracks))

    def fill(self, filler: Filler, away: bool) -> None:
        """Show a placeholder: the source gives no picture. ``away``: nor anything else."""
        if not self._rack.has_files:
            return
        try:
            if self._encoder is None or self._shape is None:
                info = self._info
                size = info.width + info.width % 2, info.height + info.height % 2
                self._open_encoder(size, info.color_range == FULL, info.matrix, resolve_matrix(info.matrix, size[1]), 0)
            assert self._shape is not None
            if self._placeholder is None:
                self._placeholder = self._make_placeholder(self._shape)
        except OutputError as error:
            self._rack.fail(error)
            return
        if filler.away < self._away or not self._since:
            self._since = time.strftime("%H:%M:%S", time.localtime(time.time() - filler.away))
        self._away = filler.away
        frame = self._placeholder.frame(self._config.name, filler.text, self._since)
        if away:
            self._rack.away()
        self._encode(frame, filler.out, filler.duration)

    def show(self, decision: Decision) -> tuple[State, str]:
        """Draw, encode and write one frame; frames come in order. Returns where the frame ended."""
        state, reason = decision.state, decision.reason
        if self._rack.has_files and state is not State.LOST:
            picture = self._find(decision.notice)
            if picture is None:
                state, reason = State.FAILED, "no_picture"
            elif not self._write(picture, decision):
                state, reason = State.FAILED, "bad_picture"
        return self._told(decision, state, reason)

    def skip(self, decision: Decision, reason: str) -> tuple[State, str]:
        """Decode one frame, since others refer to it, and leave it out. Returns where it ended."""
        if self._rack.has_files and decision.state is not State.LOST:
            self._find(decision.notice)
        return self._told(decision, State.LOST, reason)

    def _told(self, decision: Decision, state: State, reason: str) -> tuple[State, str]:
        self._reel.settled(decision.notice)
        self._rack.line(decision, state, reason)
        self._last = decision.index
        if not self._rack.has_files:
            self.durable = decision.index
        return state, reason

    def troubles(self) -> dict[str, str]:
        """What is wrong with outputs that may recover: address → a line for a person. For any thread."""
        return self._rack.troubles()

    def sent(self) -> list[dict[str, Any]]:
        """How it stands with each network output. For any thread."""
        return self._rack.sent()

    def marks(self) -> list[Mark]:
        """Where each output stands, for going on after ``durable``."""
        return self._rack.marks(self.durable)

    def close(self, goes_on: bool = False) -> None:
        """Flush the encoder, write the rest of the sound, close the files. ``goes_on``: another epoch follows, or other
        parts."""
        if self._encoder is not None:
            try:
                for packet in self._encoder.flush():
                    self._mux(packet)
            except OutputError as error:
                self._rack.fail(error)
        self._rack.close(goes_on)
        # Frames without a picture have lines too, and an output that has failed is not gone on with.
        self.durable = self._last

    def abandon(self) -> None:
        """Leave every output as it is."""
        self._rack.abandon()

    def _find(self, notice: Notice) -> av.VideoFrame | None:
        picture = self._reel.find(notice)
        opening, self._reel.opening = self._reel.opening, None
        if opening is not None:  # pictures of another opening of the source begin
            self._info, self._threads = opening.video, opening.threads
            self._describe_source()
            self._fresh = opening if self._config.on_change == "part" else None
        return picture

    def _write(self, picture: av.VideoFrame, decision: Decision) -> bool:
        """False: the picture is of a kind that cannot be shown."""
        notice = decision.notice
        time = notice.out * self._base
        if self._fresh is not None:
            self._turn_to(self._fresh, even_size(picture, notice.turn))
        self._shown.append((decision.index, time))
        if not self._rack.wants(time)[0]:  # all files have it from an earlier epoch
            self._update_durable()
            return True
        try:
            if self._encoder is None or self._composer is None:
                size, full, told = even_size(picture, notice.turn), is_full(picture), self._info.matrix
                tag, matrix = matrix_tag(picture, told), true_matrix(picture, told)
                self._open_encoder(size, full, tag, matrix, notice.turn)
                assert self._encoder is not None
                assert self._composer is not None
            frame = self._composer(picture, notice.turn, decision.detections, decision.tags, decision.stale)
        except OutputError as error:
            self._rack.fail(error)
            return True
        except (av.FFmpegError, ValueError, MemoryError) as error:  # of the conversions: bytes can make any picture
            self._seldom.warn("bad_picture", f"a picture cannot be shown: {error}", stream=self._config.name)
            return False
        return self._encode(frame, notice.out, notice.duration)

    def _turn_to(self, changed: Changed, size: tuple[int, int]) -> None:
        """The source is back, with pictures of this size: new parts begin where they, or its sound, are others."""
        self._fresh = None
        shape = self._shape
        same = _signature(changed.tracks) == self._heard and (shape is None or (shape.width, shape.height) == size)
        if same:
            self._rack.change(_audio(changed.tracks))
        else:
            self._begin_parts(changed)
        for header, payload in self._handover.turn(changed.first):
            self._rack.sound(header, payload)

    def _begin_parts(self, changed: Changed) -> None:
        try:
            sounds = self._sounds(changed.tracks)
        except (av.FFmpegError, ValueError) as error:
            self._seldom.warn("sound", f"sound that cannot be opened is left out: {error}", stream=self._config.name)
            sounds = []
        log.info("the source has changed: new parts begin", extra={"stream": self._config.name})
        self.close(goes_on=True)
        self._rack = self._make_rack(sounds, survey(self._rack.marks(self._last)), again=True)
        self._heard = _signature(changed.tracks)
        self._encoder = self._composer = self._shape = self._template = self._placeholder = None
        self._durations.clear()

    def _encode(self, frame: av.VideoFrame, out: int, duration: int) -> bool:
        """False: the picture is of a kind that cannot be shown."""
        assert self._encoder is not None
        time = out * self._base
        try:
            self._durations.append(duration)
            if self._preview is not None and self._shape is not None:
                self._preview.offer(frame, self._matrix, self._shape.sar or SQUARE)
            key = self._rack.wants(time)[1]
            packets = list(self._encoder.encode(frame, out, duration, key))
            if key:  # who asks from here on gets the next one
                self._rack.encoded(time)
        except OutputError as error:
            self._rack.fail(error)
            return True
        except (ValueError, MemoryError) as error:
            self._seldom.warn("bad_picture", f"a picture cannot be encoded: {error}", stream=self._config.name)
            return False
        finally:
            if self._composer is not None:
                self._composer.restore()  # the encoder has its own copy by now
        for packet in packets:
            self._mux(packet)
        return True

    def _open_encoder(self, size: tuple[int, int], full: bool, tag: int, matrix: int, turn: int) -> None:
        """``tag``: the matrix as the outputs are told of it, ``matrix``: as it is."""
        self._matrix = matrix
        self._shape = shape = shape_of(self._info, size, full, tag, turn in (90, 270))
        self._encoder = Encoder(shape, self._config.encoding, self._hello.mode == "live")
        self._composer = Composer(*size, full, matrix=matrix, sar=shape.sar or SQUARE)
        self._describe_source()
        log.info("encoding %dx%d with %s", *size, self._encoder.name, extra={"stream": self._config.name})

    def _describe_source(self) -> None:
        """Tell the composer of the pictures that come."""
        if self._composer is not None:
            sar = Fraction(*self._info.sar) if self._info.sar else SQUARE
            self._composer.told, self._composer.sar = self._info.matrix, sar if sar > 0 else SQUARE
            self._composer.idle_decoder = self._threads == 1

    def _make_placeholder(self, shape: Shape) -> Placeholder:
        image = self._config.placeholder_image
        try:
            return Placeholder(shape.width, shape.height, shape.full_range, Path(image) if image is not None else None)
        except OutputError as error:
            log.warning("%s: a plain one is shown", error, extra={"stream": self._config.name})
            return Placeholder(shape.width, shape.height, shape.full_range, None)

    def _mux(self, packet: av.Packet) -> None:
        assert self._encoder is not None
        if self._template is None:
            self._template = self._encoder.template(packet)
        duration = self._durations.popleft() if self._durations else 0
        self._rack.picture(packet, duration, self._template)
        self._update_durable()

    def _update_durable(self) -> None:
        reached = self._rack.durable
        # The last one stays: what comes after it is asked for by its index.
        while reached is not None and len(self._shown) > 1 and self._shown[0][1] <= reached:
            self.durable = self._shown.popleft()[0]


def _audio(tracks: Sequence[media.Track]) -> list[AudioStream]:
    return [track for track in tracks if isinstance(track, AudioStream)]


def _signature(tracks: Sequence[media.Track]) -> list[tuple[str, int, int]]:
    """What tells sound tracks apart for an output."""
    contexts = [track.codec_context for track in _audio(tracks)]
    return [(context.name, context.sample_rate, context.channels) for context in contexts]
