"""What the render thread does, without the thread: packets and decisions in, files out.

Owns the decoder, the encoder, the sound and the outputs of one stream. An output that fails is closed and named; the
others go on (DESIGN §7).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from common import media
from common.config import Stream
from common.errors import OutputError
from common.messages import Hello, Notice, Packet
from sink.compose import Composer, even_size, is_full, matrix_tag
from sink.encode import Encoder, shape_of
from sink.ledger import State
from sink.outputs.container import ContainerOutput
from sink.outputs.jsonl import JsonLinesOutput
from sink.pairing import Pairing, Verdict
from sink.reorder import Decision
from sink.sound import Sound, SoundGate

Output = ContainerOutput | JsonLinesOutput

log = logging.getLogger(__name__)


class Studio:
    """One stream and epoch. ``tracks`` are those of ``hello``, opened."""

    def __init__(self, config: Stream, hello: Hello, epoch: int, tracks: Sequence[media.Track]) -> None:
        self._config, self._hello = config, hello
        self._base = Fraction(*hello.video.time_base)
        kinds = {output.kind for output in config.outputs if output.kind != "jsonl"}
        self._sounds = [
            Sound(track, info, set(kinds))
            for track, info in zip(tracks, hello.tracks, strict=True)
            if kinds and isinstance(track, AudioStream)
        ]
        self._files = [
            ContainerOutput(Path(output.path), output.kind, self._sounds)
            for output in config.outputs
            if output.kind != "jsonl"
        ]
        self._lines = [
            JsonLinesOutput(Path(output.path), config.name, epoch, self._base)
            for output in config.outputs
            if output.kind == "jsonl"
        ]
        assert isinstance(tracks[0], VideoStream)
        self._decoder = media.prepare_decoder(tracks[0], hello.threads)
        _restore_colours(tracks[0], hello)
        self._packets: deque[tuple[Packet, bytes]] = deque()  # bounded by Renderer.full
        self.held_bytes = 0
        self._pictures: deque[av.VideoFrame] = deque()  # what one packet gives, no packet is decoded while it holds any
        self._pairing = Pairing()
        self._gate = SoundGate()
        self._encoder: Encoder | None = None
        self._composer: Composer | None = None
        self._template: VideoStream | None = None
        self._encoded: deque[tuple[int, int]] = deque()  # (index, pts) that are not yet durable
        self._durations: deque[int] = deque()  # of the pictures inside the encoder
        self.durable = -1
        self.error = ""

    @property
    def dead(self) -> bool:
        """No output is left."""
        return not self._files and not self._lines

    @property
    def wants_media(self) -> bool:
        return bool(self._files)

    def packet(self, header: Packet, payload: bytes) -> None:
        """A compressed packet of the source, in link order."""
        if not self._files:
            return
        if header.track == 0:
            self._packets.append((header, payload))
            self.held_bytes += len(payload)
        elif header.track <= len(self._sounds):
            self._gate.put(header, payload)

    def announce(self, notice: Notice) -> None:
        """A frame exists: pictures are matched against this."""
        if self._files:
            self._pairing.announce(notice.index, notice.pts, notice.packet)

    def show(self, decision: Decision) -> tuple[State, str]:
        """Draw, encode and write one frame; frames come in order. Returns where the frame ended."""
        state, reason = decision.state, decision.reason
        if self._files and state is not State.LOST:
            picture = self._find(decision.notice)
            if picture is None:
                state, reason = State.FAILED, "no_picture"
            else:
                self._write(picture, decision)
        self._pairing.settled(decision.notice.pts, decision.notice.packet)
        for lines in list(self._lines):
            self._guard(lines, lines.write, decision, state, reason)
        if not self._files:
            self.durable = decision.index
        return state, reason

    def close(self) -> None:
        """Flush the encoder, write the rest of the sound, close the files."""
        if self._encoder is not None:
            try:
                for packet in self._encoder.flush():
                    self._mux_video(packet)
            except OutputError as error:
                self._encoder_failed(error)
        self._release_sound(None)
        for number, sound in enumerate(self._sounds):
            self._mux_encoded(number, sound, None)
        for output in list(self._files):
            self._guard(output, output.close)
        for lines in list(self._lines):
            self._guard(lines, lines.close)
        if not self.error and self._encoded:
            self.durable = self._encoded[-1][0]

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

    def _write(self, picture: av.VideoFrame, decision: Decision) -> None:
        notice = decision.notice
        try:
            if self._encoder is None or self._composer is None:
                self._open_encoder(picture, notice.turn)
                assert self._encoder is not None
                assert self._composer is not None
            frame = self._composer(picture, notice.turn, decision.detections, decision.tags, decision.stale)
            self._durations.append(notice.duration)
            self._encoded.append((decision.index, notice.out))
            packets = list(self._encoder.encode(frame, notice.out, notice.duration))
            self._composer.restore()  # the encoder has its own copy by now
            for packet in packets:
                self._mux_video(packet)
        except OutputError as error:
            self._encoder_failed(error)

    def _encoder_failed(self, error: OutputError) -> None:
        """Without an encoder no file output can go on."""
        for output in list(self._files):
            self._failed(output, error)

    def _open_encoder(self, picture: av.VideoFrame, turn: int) -> None:
        size, full = even_size(picture, turn), is_full(picture)
        shape = shape_of(
            self._hello.video, size, full, matrix_tag(picture, self._hello.video.matrix), turn in (90, 270)
        )
        self._encoder = Encoder(shape, self._config.encoding, self._hello.mode == "live")
        self._composer = Composer(*size, full, idle_decoder=self._hello.threads == 1)
        log.info("encoding %dx%d with %s", *size, self._encoder.name, extra={"stream": self._config.name})

    def _mux_video(self, packet: av.Packet) -> None:
        assert self._encoder is not None
        if self._template is None:
            self._template = self._encoder.template(packet)
        duration = self._durations.popleft() if self._durations else 0
        for output in list(self._files):
            self._guard(output, output.video, packet, duration, self._template)
        times = [output.time for output in self._files if output.time is not None]
        if times:
            self._release_sound(min(times))
        self._update_durable()

    def _update_durable(self) -> None:
        reached = [output.durable for output in self._files]
        if not reached or any(pts is None for pts in reached):
            return
        low = min(pts for pts in reached if pts is not None)
        while len(self._encoded) > 1 and self._encoded[0][1] <= low:
            self.durable = self._encoded.popleft()[0]

    def _release_sound(self, time: Fraction | None) -> None:
        for header, payload in self._gate.release(time):
            number = header.track - 1
            sound, packet = self._sounds[number], media.to_packet(header, payload)
            for output in list(self._files):
                if sound.copied(output.kind):
                    self._guard(output, output.sound, number, packet)
            self._mux_encoded(number, sound, packet)

    def _mux_encoded(self, number: int, sound: Sound, packet: av.Packet | None) -> None:
        for coded in sound.encoded(packet):
            for output in list(self._files):
                if not sound.copied(output.kind):
                    self._guard(output, output.sound, number, coded)

    def _guard(self, output: Output, action: Callable[..., None], *arguments: object) -> None:
        try:
            action(*arguments)
        except OutputError as error:
            self._failed(output, error)

    def _failed(self, output: Output, error: OutputError) -> None:
        self.error = self.error or str(error)
        if isinstance(output, ContainerOutput):
            output.discard()
            self._files = [one for one in self._files if one is not output]
        else:
            self._lines = [one for one in self._lines if one is not output]
        # Of the last one, whoever started us says so: it ends the stream.
        others = {"fatal": True} if self.dead else {}
        text = f"{error}" if self.dead else f"{error}; the other outputs go on"
        log.error("%s", text, extra={"stream": self._config.name, "output": str(output.path), **others})


def _restore_colours(track: VideoStream, hello: Hello) -> None:
    """What the container said of colours does not cross in the carrier; the decoder hands it on to its frames."""
    context, info = track.codec_context, hello.video
    if info.color_range:
        context.color_range = info.color_range
    if info.matrix != 2:
        context.colorspace = info.matrix
    if info.primaries != 2:
        context.color_primaries = info.primaries
    if info.transfer != 2:
        context.color_trc = info.transfer
