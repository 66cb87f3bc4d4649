"""A stream of numbered grey pictures and a real sound track, played into a rack: for tests of outputs and parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from common import messages as m
from common.config import Encoding, Stream
from common.media import unpack
from sink.encode import Encoder, Shape
from sink.ledger import State
from sink.outputs.partfile import PartFile
from sink.outputs.place import Mark, Position
from sink.outputs.rack import Rack
from sink.outputs.survey import survey
from sink.reorder import Decision
from sink.sound import Sound
from tests.builders import EPOCH, TICK, notice
from tests.feeds import Recorded, settings

BASE = Fraction(1, 25 * TICK)
#: How far a time may move by being written and read again, in seconds.
SLACK = Fraction(1, 1000)
#: The darkest picture, and how much brighter each is than the one before: 8-bit samples, coded without loss.
DARK, STEP = 20, 2


def grey(number: int) -> av.VideoFrame:
    """The picture of frame ``number``, up to 107: one shade of grey."""
    frame = av.VideoFrame(96, 64, "yuv420p")
    for plane, sample in zip(frame.planes, (DARK + STEP * number, 128, 128), strict=True):
        memoryview(plane)[:] = bytes([sample]) * plane.buffer_size
    return frame


def shown(path: Path) -> list[tuple[int, Fraction]]:
    """Frames in a file and their times, up to where it breaks off."""
    found = []
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                number = (int(frame.to_ndarray()[0, 0]) - DARK) // STEP
                found.append((number, Fraction(frame.pts or 0) * Fraction(frame.time_base or 1)))
    except av.FFmpegError:
        pass
    return found


class Disk:
    """So many bytes may still be written to container files."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.room = room
        write = PartFile.write

        def limited(file: PartFile, data: bytes) -> int:
            if len(data) > self.room:
                write(file, data[: self.room])
                self.room = 0
                file._trouble = OSError(28, "No space left on device")
                raise file._trouble
            self.room -= len(data)
            return write(file, data)

        monkeypatch.setattr(PartFile, "write", limited)


class Player:
    """One epoch of a sink: the rack with its encoder, fed with frames in order."""

    def __init__(
        self,
        outputs: list[Path],
        recorded: Recorded | None = None,
        positions: Mapping[str, Position] | None = None,
        epoch: int = EPOCH,
        config: Stream | None = None,
        **fields: Any,
    ) -> None:
        kinds = {path.suffix[1:] for path in outputs} - {"jsonl"}
        sounds = []
        self._sound: list[tuple[m.Packet, bytes]] = []
        if recorded is not None:
            sounds = [Sound(track, kinds) for track in unpack(recorded.hello.tracks, recorded.blobs)[1:]]  # type: ignore[arg-type]
            packets = [(one, payload) for one, payload in recorded.messages if isinstance(one, m.Packet)]
            self._sound = [one for one in packets if one[0].track]
        config = config or settings(*outputs, **fields)
        self.rack = Rack(config, epoch, BASE, sounds, positions or {})
        shape = Shape(96, 64, BASE, Fraction(25), False, None, 2, 2, 2)
        self._encoder = Encoder(shape, Encoding(encoder="x264", preset="ultrafast", crf=0), False)
        self._template: Any = None

    def play(self, first: int, end: int) -> Iterator[int]:
        """Frames from ``first`` up to ``end``, with all the sound up to each; yields after each."""
        for index in range(first, end):
            while self._sound and self._time(self._sound[0][0]) <= index * TICK * BASE:
                self.rack.sound(*self._sound.pop(0))
            wanted, begins = self.rack.wants(index * TICK * BASE)
            if wanted:
                packets = list(self._encoder.encode(grey(index), index * TICK, TICK, begins))
                if begins:
                    self.rack.encoded(index * TICK * BASE)
                self._mux(packets)
            decision = Decision(notice(index), State.ANNOTATED)
            self.rack.line(decision, State.ANNOTATED, "")
            yield index

    def close(self) -> None:
        for one in self._sound:
            self.rack.sound(*one)
        self._mux(self._encoder.flush())
        self.rack.close()

    @property
    def durable(self) -> int:
        """The last frame that is on disk in every file, −1 for none."""
        reached = self.rack.durable
        return -1 if reached is None or reached < 0 else int((reached + SLACK) / (TICK * BASE))

    def die(self) -> tuple[int, list[Mark]]:
        """End suddenly. Returns what there is to go on with."""
        durable = self.durable
        marks = self.rack.marks(durable)
        self.rack.abandon()
        return durable, marks

    def _mux(self, packets: Iterable[av.Packet]) -> None:
        for packet in packets:
            self._template = self._template or self._encoder.template(packet)
            self.rack.picture(packet, TICK, self._template)

    @staticmethod
    def _time(header: m.Packet) -> Fraction:
        return (header.pts or 0) * Fraction(*header.time_base)


def go_on(
    outputs: list[Path], recorded: Recorded | None, durable: int, marks: list[Mark], end: int, **fields: Any
) -> Player:
    """The next epoch, up to ``end``: all frames after the last durable one are told again, and all the sound."""
    player = Player(outputs, recorded, survey(marks), EPOCH + 1, **fields)
    for _ in player.play(durable + 1, end):
        pass
    return player


def parts(path: Path) -> list[Path]:
    """The files of one output, in order."""
    more = sorted(path.parent.glob(f"{path.stem}.part*{path.suffix}"), key=lambda one: int(one.stem.split("part")[-1]))
    return [path, *more]
