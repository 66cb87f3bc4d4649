"""All outputs of one stream. An output that fails is closed and named; the others go on (DESIGN §7).

Only a full disk is different in lossless mode, where nothing may be lost: there it ends all outputs, to be gone on with
when there is space (decision 0014). Network outputs never fail for good, and never hold up the others; nothing that is
sent counts as durable.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from common.config import Stream
from common.errors import OutputError
from common.messages import Packet
from sink.ledger import State
from sink.outputs.container import ContainerOutput
from sink.outputs.jsonl import JsonLinesOutput
from sink.outputs.network import SENT, NetworkOutput
from sink.outputs.partfile import DiskFull
from sink.outputs.place import Mark, Position, is_segmented, mark_name
from sink.outputs.segments import SegmentedOutput
from sink.reorder import Decision
from sink.sound import Sound
from sink.sounddesk import SoundDesk

FileOutput = ContainerOutput | SegmentedOutput
Output = FileOutput | JsonLinesOutput | NetworkOutput

#: Sound comes so much ahead of its picture, in seconds, where something is sent: a muxer holds back each picture until
#: it has sound that is later.
LEAD_S = Fraction(1, 5)

log = logging.getLogger(__name__)


class Rack:
    """``positions`` tell where outputs go on that were begun by an earlier epoch; ``again``: there was one, or other
    parts."""

    def __init__(
        self,
        config: Stream,
        epoch: int,
        base: Fraction,
        sounds: Sequence[Sound],
        positions: Mapping[str, Position],
        again: bool = False,
    ) -> None:
        self._config = config
        self.sounds = sounds  #: as they were given
        self._desk = SoundDesk(sounds, config.mode == "live")
        kinds: set[str] = {output.kind for output in config.outputs if output.kind != "jsonl"}
        self._forms = {(number, kind): sound.form(kind) for number, sound in enumerate(sounds) for kind in kinds}
        self._files: list[FileOutput] = []
        self._lines: list[JsonLinesOutput] = []
        self._sent: list[NetworkOutput] = []
        self._encoded: Fraction | None = None  # time of the last picture that came out of the encoder, in seconds
        self._gone: list[Mark] = []  # outputs that have failed
        self.error = ""  #: the first failure
        for output in config.outputs:
            path, name = Path(output.path), mark_name(output)
            position = positions.get(name, Position())
            if position.error:
                self.error = self.error or position.error
                self._gone.append(
                    Mark(
                        path=name,
                        parts=list(position.parts),
                        segments=is_segmented(output),
                        before=position.before,
                        error=position.error,
                    )
                )
            elif output.kind in SENT:
                self._sent.append(NetworkOutput(output, sounds, config.mode == "live", config.name, again))
            elif output.kind == "jsonl":
                self._lines.append(JsonLinesOutput(path, config.name, epoch, base, position))
            elif is_segmented(output):
                self._files.append(SegmentedOutput(path, output.kind, sounds, position, output.segment))
            else:
                self._files.append(ContainerOutput(path, output.kind, sounds, position))

    @property
    def dead(self) -> bool:
        """No output is left."""
        return not self._files and not self._lines and not self._sent

    @property
    def has_files(self) -> bool:
        """Whether pictures are wanted at all."""
        return bool(self._files or self._sent)

    @property
    def durable(self) -> Fraction | None:
        """All pictures up to this time (seconds) are on disk in every file, or where there is none, handed on to be
        sent; None: there is none."""
        if not self._files:
            return self._encoded
        reached = [output.durable for output in self._files]
        return min((time for time in reached if time is not None), default=None) if None not in reached else None

    def begin_anew(self) -> None:
        """Another producer of a live source counts time from zero again. Before the first picture."""
        for output in self._files:
            output.begin_anew()

    def wants(self, time: Fraction) -> tuple[bool, bool]:
        """Whether any output wants the picture at ``time`` (seconds), and whether one begins with it."""
        wanting = [output for output in (*self._files, *self._sent) if output.wants(time)]
        return bool(wanting), any(not output.asked for output in wanting)

    def encoded(self, time: Fraction) -> None:
        """The encoder has the picture at ``time``, as the keyframe that :meth:`wants` has asked for. Packets come
        later."""
        for output in (*self._files, *self._sent):
            output.asked = output.asked or output.wants(time)

    def picture(self, packet: av.Packet, duration: int, template: VideoStream) -> None:
        """One encoded picture, for each output that wants it; then the sound up to it."""
        time = int(packet.pts or 0) * Fraction(packet.time_base)
        for output in list(self._files):
            # A file begins with a keyframe, which was asked for with the first picture that it wants.
            if output.wants(time) and (output.opened or packet.is_keyframe):
                self._guard(output, output.video, packet, duration, template)
        for sent in list(self._sent):
            self._guard(sent, sent.video, packet, duration, template)
        self._encoded = time
        times = [output.time for output in self._files] or [time]
        if None not in times:
            self._write_sound(min(time for time in times if time is not None) + (LEAD_S if self._sent else 0))

    def sound(self, header: Packet, payload: bytes) -> None:
        """A packet of sound; it waits for the pictures of its time."""
        self._desk.put(header, payload)

    def change(self, tracks: Sequence[AudioStream]) -> None:
        """The sound that follows is of these tracks."""
        self._desk.change(tracks)

    def away(self) -> None:
        """The source is away: there is no sound until the next change."""
        self._desk.away()

    def line(self, decision: Decision, state: State, reason: str) -> None:
        """What became of one frame."""
        for lines in list(self._lines):
            self._guard(lines, lines.write, decision, state, reason)

    def fail(self, error: OutputError) -> None:
        """No output of pictures can go on."""
        for output in [*self._files, *self._sent]:
            self._failed(output, error)

    def close(self, goes_on: bool = False) -> None:
        """Write the rest of the sound, close everything. ``goes_on``: another one takes over in the same run."""
        self._write_sound(None)
        for sent in self._sent:
            sent.end(goes_on)
        for output in list(self._files):
            self._guard(output, output.close)
        for lines in list(self._lines):
            self._guard(lines, lines.close)
        for sent in self._sent:
            sent.close()
            self.error = self.error or sent.failure

    def abandon(self) -> None:
        """Leave every file as it is: as after a sudden end."""
        for output in (*self._files, *self._sent):
            output.discard()
        for lines in self._lines:
            lines.discard()

    def marks(self, durable: int) -> list[Mark]:
        """Where each output stands; lines count up to frame ``durable``."""
        files = [output.mark() for output in self._files]
        return [*files, *(lines.mark(durable) for lines in self._lines), *self._gone]

    def troubles(self) -> dict[str, str]:
        """What is wrong with outputs that may recover: address → a line for a person. For any thread."""
        return {output.path: text for output in self._sent if (text := output.trouble())}

    def sent(self) -> list[dict[str, Any]]:
        """How it stands with each network output: counts for status lines and metrics. For any thread."""
        return [output.sent() for output in self._sent]

    def check(self) -> None:
        self._desk.check()
        for output in self._sent:
            output.check()

    def _write_sound(self, time: Fraction | None) -> None:
        for number, form, packet in self._desk.release(time):
            for output in [*self._files, *self._sent]:
                if self._forms[number, output.kind] == form:
                    self._guard(output, output.sound, number, packet)

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
        if isinstance(output, FileOutput):
            self._gone.append(output.mark(str(error)))
            self._files = [one for one in self._files if one is not output]
        elif isinstance(output, NetworkOutput):
            self._sent = [one for one in self._sent if one is not output]
        else:
            self._gone.append(output.mark(-1, str(error)))
            self._lines = [one for one in self._lines if one is not output]
        # Of the last one, whoever started us says so: it ends the stream.
        others = {"fatal": True} if self.dead else {}
        text = f"{error}" if self.dead else f"{error}; the other outputs go on"
        log.error("%s", text, extra={"stream": self._config.name, "output": str(output.path), **others})
