"""All outputs of one stream. An output that fails is closed and named; the others go on (DESIGN §7).

Only a full disk is different in lossless mode, where nothing may be lost: there it ends all outputs, to be gone on with
when there is space (decision 0014).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
from av.video.stream import VideoStream

from common import media
from common.config import Stream
from common.errors import OutputError
from common.messages import Packet
from sink.ledger import State
from sink.outputs.container import ContainerOutput
from sink.outputs.jsonl import JsonLinesOutput
from sink.outputs.partfile import DiskFull
from sink.outputs.place import Mark, Position
from sink.reorder import Decision
from sink.sound import Sound, SoundGate

Output = ContainerOutput | JsonLinesOutput

log = logging.getLogger(__name__)


class Rack:
    """``positions`` tell where outputs go on that were begun by an earlier epoch."""

    def __init__(
        self,
        config: Stream,
        epoch: int,
        base: Fraction,
        sounds: Sequence[Sound],
        positions: Mapping[str, Position],
    ) -> None:
        self._config, self._sounds = config, sounds
        self._gate = SoundGate()
        self._files: list[ContainerOutput] = []
        self._lines: list[JsonLinesOutput] = []
        self._gone: list[Mark] = []  # outputs that have failed
        self.error = ""  #: the first failure
        for output in config.outputs:
            position, path = positions.get(output.path, Position()), Path(output.path)
            if position.error:
                self.error = self.error or position.error
                self._gone.append(Mark(path=output.path, parts=list(position.parts), error=position.error))
            elif output.kind == "jsonl":
                self._lines.append(JsonLinesOutput(path, config.name, epoch, base, position))
            else:
                self._files.append(ContainerOutput(path, output.kind, sounds, position))

    @property
    def dead(self) -> bool:
        """No output is left."""
        return not self._files and not self._lines

    @property
    def has_files(self) -> bool:
        """Whether pictures are wanted at all."""
        return bool(self._files)

    @property
    def durable(self) -> Fraction | None:
        """All pictures up to this time (seconds) are on disk in every file; None: there is none."""
        reached = [output.durable for output in self._files]
        return min((time for time in reached if time is not None), default=None) if None not in reached else None

    def wants(self, time: Fraction) -> tuple[bool, bool]:
        """Whether any file wants the picture at ``time`` (seconds), and whether one begins with it."""
        wanting = [output for output in self._files if output.wants(time)]
        return bool(wanting), any(not output.asked for output in wanting)

    def encoded(self, time: Fraction) -> None:
        """The encoder has the picture at ``time``, as a keyframe if one was to begin with it. Packets come later."""
        for output in self._files:
            output.asked = output.asked or output.wants(time)

    def picture(self, packet: av.Packet, duration: int, template: VideoStream) -> None:
        """One encoded picture, for each file that wants it; then the sound up to it."""
        time = int(packet.pts or 0) * Fraction(packet.time_base)
        for output in list(self._files):
            # A file begins with a keyframe, which was asked for with the first picture that it wants.
            if output.wants(time) and (output.opened or packet.is_keyframe):
                self._guard(output, output.video, packet, duration, template)
        times = [output.time for output in self._files]
        if times and None not in times:
            self._release_sound(min(time for time in times if time is not None))

    def sound(self, header: Packet, payload: bytes) -> None:
        """A packet of sound; it waits for the pictures of its time."""
        if 0 < header.track <= len(self._sounds):
            self._gate.put(header, payload)

    def line(self, decision: Decision, state: State, reason: str) -> None:
        """What became of one frame."""
        for lines in list(self._lines):
            self._guard(lines, lines.write, decision, state, reason)

    def fail(self, error: OutputError) -> None:
        """No file output can go on."""
        for output in list(self._files):
            self._failed(output, error)

    def close(self) -> None:
        """Write the rest of the sound, close everything."""
        self._release_sound(None)
        for number, sound in enumerate(self._sounds):
            self._mux_encoded(number, sound, None)
        for output in list(self._files):
            self._guard(output, output.close)
        for lines in list(self._lines):
            self._guard(lines, lines.close)

    def abandon(self) -> None:
        """Leave every file as it is: as after a sudden end."""
        for output in self._files:
            output.discard()
        for lines in self._lines:
            lines.discard()

    def marks(self, durable: int) -> list[Mark]:
        """Where each output stands; lines count up to frame ``durable``."""
        files = [output.mark() for output in self._files]
        return [*files, *(lines.mark(durable) for lines in self._lines), *self._gone]

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
        except DiskFull as error:
            if self._config.mode == "lossless":
                raise
            self._failed(output, error)
        except OutputError as error:
            self._failed(output, error)

    def _failed(self, output: Output, error: OutputError) -> None:
        self.error = self.error or str(error)
        output.discard()
        if isinstance(output, ContainerOutput):
            self._gone.append(output.mark(str(error)))
            self._files = [one for one in self._files if one is not output]
        else:
            self._gone.append(output.mark(-1, str(error)))
            self._lines = [one for one in self._lines if one is not output]
        # Of the last one, whoever started us says so: it ends the stream.
        others = {"fatal": True} if self.dead else {}
        text = f"{error}" if self.dead else f"{error}; the other outputs go on"
        log.error("%s", text, extra={"stream": self._config.name, "output": str(output.path), **others})
