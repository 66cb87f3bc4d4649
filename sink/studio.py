"""What the render thread does, without the thread: packets and decisions in, files out.

Owns the decoder, the encoder and the outputs of one stream and epoch.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from fractions import Fraction
from functools import partial

import av
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from common import media
from common.config import Stream
from common.errors import OutputError, PeerError
from common.log import Seldom
from common.messages import Hello, Notice, Packet
from sink.compose import Composer, even_size, is_full, matrix_tag
from sink.encode import Encoder, shape_of
from sink.ledger import State
from sink.outputs.place import Mark
from sink.outputs.rack import Rack
from sink.outputs.survey import survey
from sink.pairing import Pairing, Verdict
from sink.reorder import Decision
from sink.sound import Sound

log = logging.getLogger(__name__)


class Studio:
    """One stream and epoch. ``tracks`` are those of ``hello``, opened.

    ``marks``: where outputs stand that an earlier epoch has begun. Then :meth:`open` must be called before anything
    else; it reads their last parts through. Raises PeerError where a sound track cannot be opened.
    """

    def __init__(
        self,
        config: Stream,
        hello: Hello,
        epoch: int,
        tracks: Sequence[media.Track],
        marks: Sequence[Mark] = (),
    ) -> None:
        self._config, self._hello = config, hello
        self._base = Fraction(*hello.video.time_base)
        kinds = {output.kind for output in config.outputs if output.kind != "jsonl"}
        try:
            sounds = [Sound(track, set(kinds)) for track in tracks if kinds and isinstance(track, AudioStream)]
        except (av.FFmpegError, ValueError) as error:
            raise PeerError("tracks", f"a sound track cannot be opened: {error}"[:300]) from None
        self._marks = marks
        self._make_rack = partial(Rack, config, epoch, self._base, sounds)
        self._rack = self._make_rack({})
        assert isinstance(tracks[0], VideoStream)
        self._decoder = media.prepare_decoder(tracks[0], hello.threads)
        _restore_colours(tracks[0], hello)
        self._packets: deque[tuple[Packet, bytes]] = deque()  # bounded by Renderer.full
        self.held_bytes = 0
        self._pictures: deque[av.VideoFrame] = deque()  # what one packet gives, no packet is decoded while it holds any
        self._pairing = Pairing()
        self._encoder: Encoder | None = None
        self._composer: Composer | None = None
        self._template: VideoStream | None = None
        self._shown: deque[tuple[int, Fraction]] = deque()  # (index, seconds) of pictures that are not yet durable
        self._durations: deque[int] = deque()  # of the pictures inside the encoder
        self._seldom = Seldom(log)
        self.durable = self._last = -1

    def open(self) -> None:
        """Find out where the outputs go on."""
        if self._marks:
            self._rack = self._make_rack(survey(self._marks))

    @property
    def dead(self) -> bool:
        """No output is left."""
        return self._rack.dead

    @property
    def error(self) -> str:
        """The first output that failed, "" if none did."""
        return self._rack.error

    @property
    def wants_media(self) -> bool:
        return self._rack.has_files

    def packet(self, header: Packet, payload: bytes) -> None:
        """A compressed packet of the source, in link order."""
        if not self._rack.has_files:
            return
        if header.track == 0:
            self._packets.append((header, payload))
            self.held_bytes += len(payload)
        else:
            self._rack.sound(header, payload)

    def announce(self, notice: Notice) -> None:
        """A frame exists: pictures are matched against this."""
        if self._rack.has_files and notice.fate != "gap":
            self._pairing.announce(notice.index, notice.pts, notice.packet)

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
        self._pairing.settled(decision.notice.pts, decision.notice.packet)
        self._rack.line(decision, state, reason)
        self._last = decision.index
        if not self._rack.has_files:
            self.durable = decision.index
        return state, reason

    def marks(self) -> list[Mark]:
        """Where each output stands, for going on after ``durable``."""
        return self._rack.marks(self.durable)

    def close(self) -> None:
        """Flush the encoder, write the rest of the sound, close the files."""
        if self._encoder is not None:
            try:
                for packet in self._encoder.flush():
                    self._mux(packet)
            except OutputError as error:
                self._rack.fail(error)
        self._rack.close()
        # Frames without a picture have lines too, and an output that has failed is not gone on with.
        self.durable = self._last

    def abandon(self) -> None:
        """Leave every output as it is."""
        self._rack.abandon()

    def _find(self, notice: Notice) -> av.VideoFrame | None:
        while True:
            while self._pictures:
                picture = self._pictures[0]
                opaque = picture.opaque
                packet: int | None = opaque[0] if opaque else None  # type: ignore[index]
                verdict = self._pairing.judge(notice.index, notice.pts, picture.pts, packet)
                if verdict is Verdict.MISSING:
                    return None
                self._pictures.popleft()
                if verdict is Verdict.MATCH:
                    return picture
            if not self._packets:
                return None
            header, payload = self._packets.popleft()
            self.held_bytes -= len(payload)
            try:
                self._pictures.extend(self._decoder.decode(media.to_packet(header, payload) if payload else None))
            except av.FFmpegError:  # the producer's decoder said the same and announced nothing
                continue

    def _write(self, picture: av.VideoFrame, decision: Decision) -> bool:
        """False: the picture is of a kind that cannot be shown."""
        notice = decision.notice
        time = notice.out * self._base
        self._shown.append((decision.index, time))
        wanted, begins = self._rack.wants(time)
        if not wanted:  # all files have it from an earlier epoch
            self._update_durable()
            return True
        try:
            if self._encoder is None or self._composer is None:
                self._open_encoder(picture, notice.turn)
                assert self._encoder is not None
                assert self._composer is not None
            frame = self._composer(picture, notice.turn, decision.detections, decision.tags, decision.stale)
            self._durations.append(notice.duration)
            packets = list(self._encoder.encode(frame, notice.out, notice.duration, begins))
            self._composer.restore()  # the encoder has its own copy by now
            self._rack.encoded(time)
        except OutputError as error:
            self._rack.fail(error)
            return True
        except (av.FFmpegError, ValueError, MemoryError) as error:  # of the conversions: bytes can make any picture
            self._seldom.warn("bad_picture", f"a picture cannot be shown: {error}", stream=self._config.name)
            return False
        for packet in packets:
            self._mux(packet)
        return True

    def _open_encoder(self, picture: av.VideoFrame, turn: int) -> None:
        size, full = even_size(picture, turn), is_full(picture)
        shape = shape_of(
            self._hello.video, size, full, matrix_tag(picture, self._hello.video.matrix), turn in (90, 270)
        )
        self._encoder = Encoder(shape, self._config.encoding, self._hello.mode == "live")
        self._composer = Composer(*size, full, idle_decoder=self._hello.threads == 1)
        log.info("encoding %dx%d with %s", *size, self._encoder.name, extra={"stream": self._config.name})

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


def _restore_colours(track: VideoStream, hello: Hello) -> None:
    """What the container said of colours does not cross in the carrier; the decoder hands it on to its frames."""
    context, info = track.codec_context, hello.video
    if info.color_range in (1, 2):
        context.color_range = info.color_range
    if info.matrix != 2:
        context.colorspace = info.matrix
    if info.primaries != 2:
        context.color_primaries = info.primaries
    if info.transfer != 2:
        context.color_trc = info.transfer
