"""All sound of one stream: what the source sends comes out as what the outputs have declared, in time with the picture.

Packets wait in the gate; when the source was opened again, those of its former tracks are still treated as such.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from fractions import Fraction

import av
from av.audio.stream import AudioStream

from common import media
from common.messages import Packet
from sink.sound import FormName, Sound
from sink.soundgate import SoundGate

#: Most openings of the source that wait for the sound before them to be written.
MAX_CHANGES = 32


class SoundDesk:
    """``sounds``: the declared tracks, in order. ``live``: a track that gives nothing is filled with silence."""

    def __init__(self, sounds: Sequence[Sound], live: bool) -> None:
        self._sounds, self._live = sounds, live
        for sound in sounds if live else ():
            sound.fill_holes()
        self._gate = SoundGate()
        self._generation = 0
        self._changes: deque[tuple[int, Sequence[AudioStream]]] = deque()
        self._away = False

    def put(self, header: Packet, payload: bytes) -> None:
        """A packet of sound (track 1 and up), in link order; it waits for the pictures of its time."""
        if 0 < header.track <= len(self._sounds):
            self._gate.put(header, payload, self._generation)

    def change(self, tracks: Sequence[AudioStream]) -> None:
        """In link order: the packets that follow are of these tracks. One that is missing falls silent; there is no
        output for any that is added."""
        held = self._gate.generations
        if self._changes and (held is None or held[1] < self._generation):
            self._changes.pop()  # no sound came in between
        elif len(self._changes) == MAX_CHANGES:
            del self._changes[0]  # what sound there is of it will be taken for damaged
        self._generation += 1
        self._changes.append((self._generation, tracks))

    def away(self) -> None:
        """The source is away: the next picture is a placeholder."""
        self._away = True

    def release(self, time: Fraction | None) -> Iterator[tuple[int, FormName, av.Packet]]:
        """What is to be written now that the picture has come to ``time`` (seconds; None: the end): number of the
        track, form, packet. Each goes to the outputs that take this form of the track."""
        for header, payload, generation in self._gate.release(time):
            yield from self._turn_to(generation)
            number = header.track - 1
            for form, packet in self._sounds[number].take(media.to_packet(header, payload)):
                yield number, form, packet
        held, away = self._gate.generations, self._away
        self._away = False
        yield from self._turn_to(self._generation if held is None else held[0])
        for number, sound in enumerate(self._sounds):
            if time is None:
                yield from ((number, form, packet) for form, packet in sound.take(None))
            elif self._live:
                yield from ((number, form, packet) for form, packet in sound.fill(time, away))
                if sound.end is not None:
                    self._gate.reached(number + 1, sound.end)

    def _turn_to(self, generation: int) -> Iterator[tuple[int, FormName, av.Packet]]:
        """All sound before this generation was given."""
        while self._changes and self._changes[0][0] <= generation:
            tracks = self._changes.popleft()[1]
            for number, sound in enumerate(self._sounds):
                sound.change(tracks[number] if number < len(tracks) else None)
                yield from ((number, form, packet) for form, packet in sound.rest())

    @property
    def counts(self) -> dict[str, int]:
        """Packets by what happened to them: ``silence`` was added, ``late``, ``damaged`` and ``dropped`` were left out,
        ``forced`` went on ahead of their picture."""
        counts = {"forced": self._gate.forced, "dropped": self._gate.dropped}
        for sound in self._sounds:
            for what, count in sound.counts.items():
                counts[what] = counts.get(what, 0) + count
        return counts

    def check(self) -> None:
        self._gate.check()
        for sound in self._sounds:
            sound.check()
        assert len(self._changes) <= MAX_CHANGES
        assert all(generation <= self._generation for generation, _ in self._changes)
