"""One output as a row of files, each whole by itself: it begins at zero with a keyframe, with the sound of its time.

Which segment a picture or a packet of sound belongs to is decided by its time alone. A segment is closed when all sound
of its time has come; until then the pictures of the next one wait here, so that only one file is open at a time. The
next one is announced in the mark before it is opened: after a sudden end no file lies there that the ledger does not
know.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from time import localtime
from time import time as wall_clock

import av
from av.video.stream import VideoStream

from common.log import Seldom
from sink.outputs.container import SLACK, ContainerOutput
from sink.outputs.partfile import write_error
from sink.outputs.place import MAX_PARTS, WHOLE, Mark, Part, Position, SegmentNames
from sink.sound import Sound

#: Longest wait for sound that belongs to the last segment, in seconds of the stream; a track that has been silent for
#: so long is not waited for.
LINGER_S = 10
#: Most that waits meanwhile, in bytes; beyond, the segment begins at once.
MAX_HELD_BYTES = 64 * 2**20
#: Sound before the very first picture, in seconds, that is kept: the priming of an encoder. After a sudden end: what
#: the last file did not get any more.
PRIMING_S, RESUMED_S = Fraction(1, 10), Fraction(1, 4)
#: Marks that name a segment before it is opened: the first one is then written.
ANNOUNCED = 2
#: Most keyframes that are asked for and not yet here.
MAX_ASKED = 64

log = logging.getLogger(__name__)


class SegmentedOutput:
    """Stands where a :class:`ContainerOutput` does. ``seconds``: least length of a segment; None: one for each life of
    the sink. ``clock`` gives seconds since 1970, for the names."""

    def __init__(
        self,
        path: Path,
        kind: str,
        sounds: Sequence[Sound],
        position: Position | None = None,
        seconds: float | None = None,
        clock: Callable[[], float] = wall_clock,
    ) -> None:
        self.name, self.kind = path, kind  #: the path that was asked for
        self._sounds, self._clock = sounds, clock
        self._length = None if seconds is None else Fraction(str(seconds))
        self._resumed = position = position or Position()
        self._names = SegmentNames(path)
        self._parts, self._before = list(position.parts), position.before  # those that are closed
        self._reached = position.after  # time of their last picture
        self._current: ContainerOutput | None = None
        # Of the current one, in seconds of the stream: its first picture, and when it is long enough.
        self._start = Fraction(0)
        self._end: Fraction | None = None
        #: How long before the first picture a segment's sound may begin, in seconds: only the first one's.
        self._early = RESUMED_S if position.parts else PRIMING_S
        self._next: Path | None = None
        self._told = 0  # marks that have named the next one
        self._taken = (path, 0)  # the last name made of a time, and how many are alike
        # What waits for the next segment, whose first picture is the first one here, and sound ahead of its picture.
        self._pictures: deque[tuple[Fraction, av.Packet, int]] = deque()
        self._waiting: deque[tuple[Fraction, int, av.Packet]] = deque()
        self._held = 0
        self._heard: dict[int, Fraction] = {}  # track → time of its last packet
        self._template: VideoStream | None = None
        self._first: Fraction | None = None
        #: Time of the last picture taken in, in seconds of the stream.
        self.time: Fraction | None = None
        # At the encoder, which is ahead.
        self._now = Fraction(0)
        self._next_key: Fraction | None = None
        self._asked: deque[tuple[Fraction, float]] = deque(maxlen=MAX_ASKED)  # (time, clock) of first pictures
        self._seldom = Seldom(log)
        #: Packets of sound that belong to no segment: too early for the first, or too late for one that is closed.
        self.left_out = 0

    # -- at the encoder ------------------------------------------------------------------------------------------------

    def wants(self, time: Fraction) -> bool:
        """Whether the picture at ``time`` (seconds of the stream) is in no segment of an earlier life. ``asked`` is
        then about this picture."""
        self._now = time
        after = self._resumed.after
        return after is None or time > after + SLACK[self.kind]

    def begin_anew(self) -> None:
        """Times begin at zero again: none of the pictures that come is in a segment of an earlier life."""
        self._resumed = replace(self._resumed, after=None, sounds=())
        self._reached, self._early = None, PRIMING_S

    @property
    def asked(self) -> bool:
        """Whether the picture that :meth:`wants` was last asked about need not be a keyframe."""
        return self._next_key is not None and (self._length is None or self._now < self._next_key)

    @asked.setter
    def asked(self, encoded: bool) -> None:
        if encoded and not self.asked:
            self._next_key = self._now + (self._length or 0)
            self._asked.append((self._now, self._clock()))

    # -- at the muxer --------------------------------------------------------------------------------------------------

    @property
    def opened(self) -> bool:
        return self.time is not None

    @property
    def path(self) -> Path:
        """The file that is written."""
        return self._current.path if self._current is not None else self._next or self.name

    @property
    def durable(self) -> Fraction | None:
        """All pictures up to this time (seconds of the stream) are on disk; None: none is."""
        current = self._current.durable if self._current is not None else None
        return max((one for one in (self._reached, current) if one is not None), default=None)

    def video(self, packet: av.Packet, duration: int, template: VideoStream | None = None) -> None:
        """One encoded picture, the first one a keyframe. ``template`` with the first. Raises OutputError."""
        self._template = template or self._template
        self.time = int(packet.dts or 0) * Fraction(packet.time_base)
        self._first = self.time if self._first is None else self._first
        self._pictures.append((self.time, packet, duration))
        self._held += packet.size
        self._advance()

    def sound(self, number: int, packet: av.Packet) -> None:
        """One packet of sound track ``number``, for this container's form of it. Raises OutputError."""
        if self._first is None:
            return
        stamp = packet.dts if packet.dts is not None else packet.pts
        time = stamp * Fraction(packet.time_base) if stamp is not None else self._heard.get(number, self._first)
        self._heard[number] = max(time, self._heard.get(number, time))
        # A closed segment takes no more; and what comes ahead of its picture may belong to the next.
        start = self._start if self._current is not None or not self._pictures else self._pictures[0][0]
        if time >= start - self._early:
            self._waiting.append((time, number, packet))
            self._held += packet.size
        else:
            self._leave_out()
        self._advance()

    def mark(self, error: str = "") -> Mark:
        """What there is to go on with after a sudden end. A segment is opened when it has been named in two marks."""
        parts, size = list(self._parts), WHOLE
        if self._current is not None:
            current = self._current.mark()
            parts, size = parts + current.parts, current.size
        elif self._next is not None:
            self._told += 1
            parts, size = [*parts, _part(self._next, self._pictures[0][0])], 0
        drop = max(0, len(parts) - MAX_PARTS)
        return Mark(
            path=str(self.name), parts=parts[drop:], size=size, segments=True, before=self._before + drop, error=error
        )

    def close(self) -> None:
        """Write all that waits, and the trailer. Raises OutputError."""
        self._advance(last=True)
        self._close_current()

    def discard(self) -> None:
        """Leave the file as it is, without a trailer (it failed)."""
        self._pictures.clear()
        self._waiting.clear()
        self._held, self._next = 0, None
        if self._current is not None:
            self._current.discard()

    # -- from one to the next ------------------------------------------------------------------------------------------

    def _advance(self, last: bool = False) -> None:
        """Write what can be written; afterwards a picture that waits is the first of a segment."""
        while self._pictures:
            time, packet, duration = self._pictures[0]
            if self._current is None or (packet.is_keyframe and self._end is not None and time >= self._end):
                if not self._may_begin(time, last):
                    break
                self._begin(time)
            assert self._current is not None
            self._pictures.popleft()
            self._held -= packet.size
            self._current.video(packet, duration, self._template)
            self._release(time)
        if self._current is not None and self._pictures:
            self._release(self._pictures[0][0], cut=True)
        elif self._current is not None:
            self._release(None if last else self.time)

    def _may_begin(self, cut: Fraction, last: bool) -> bool:
        """Whether the segment that begins at ``cut`` can be opened. Closes the one before, announces it."""
        assert self.time is not None
        overdue = last or self.time - cut >= LINGER_S or self._held > MAX_HELD_BYTES
        if self._current is not None:
            if not (overdue or self._has_sound_until(cut)):
                return False
            self._release(cut, cut=True)
            self._close_current()
        if self._next is None:
            self._next, self._told = self._make_name(cut), 0
        return overdue or self._told >= ANNOUNCED

    def _has_sound_until(self, cut: Fraction) -> bool:
        """Whether nothing of before ``cut`` is to be expected any more."""
        assert self.time is not None
        assert self._first is not None
        silent = self.time - LINGER_S
        heard = (self._heard.get(number, self._first) for number in range(len(self._sounds)))
        return all(time >= cut or time < silent for time in heard)

    def _begin(self, cut: Fraction) -> None:
        path, self._next = self._next, None
        assert path is not None
        if self._names.folder.is_dir():  # else the error is that of any other file
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise write_error(path, error) from None
        position = Position(after=self._reached, sounds=self._resumed.sounds if self._early else ())
        self._current = ContainerOutput(self.name, self.kind, self._sounds, position, path)
        self._start, self._end = cut, None if self._length is None else cut + self._length

    def _close_current(self) -> None:
        current = self._current
        if current is not None:
            current.close()
            self._reached, self._current, self._early = current.time, None, Fraction(0)
            self._parts += current.mark().parts
            drop = max(0, len(self._parts) - MAX_PARTS)
            self._parts, self._before = self._parts[drop:], self._before + drop

    def _make_name(self, cut: Fraction) -> Path:
        """Of the segment that begins at ``cut``; a time's name that is taken, by whomever, gets a number."""
        seconds = None
        while self._asked and self._asked[0][0] <= cut:
            seconds = self._asked.popleft()[1]
        number, at = self._before + len(self._parts) + 1, localtime(self._clock() if seconds is None else seconds)
        path = first = self._names.make(number, at)
        if self._names.by_time:
            listed = {part.path for part in self._parts}
            taken = self._taken[1] + 1 if self._taken[0] == first else 0
            while str(path := self._names.make(number, at, taken)) in listed or os.path.lexists(path):
                taken += 1
            self._taken = (first, taken)
        return path

    # -- sound ---------------------------------------------------------------------------------------------------------

    def _release(self, time: Fraction | None, cut: bool = False) -> None:
        """Write the sound that waited: up to ``time``, None for all; before ``time`` if it is a ``cut``."""
        kept: deque[tuple[Fraction, int, av.Packet]] = deque()
        while self._waiting:
            at, number, packet = self._waiting.popleft()
            if time is None or at < time or (at == time and not cut):
                self._held -= packet.size
                assert self._current is not None
                self._current.sound(number, packet)
            else:
                kept.append((at, number, packet))
        self._waiting = kept

    def _leave_out(self) -> None:
        self.left_out += 1
        if not self._early:
            text = f"{self.name}: sound that comes over {LINGER_S} s after its picture is left out"
            self._seldom.warn("late_sound", text, output=str(self.name))

    def check(self) -> None:
        waiting = [packet for _, packet, _ in self._pictures] + [packet for _, _, packet in self._waiting]
        assert self._held == sum(packet.size for packet in waiting)
        assert len(self._parts) <= MAX_PARTS
        assert self._next is None or (self._current is None and self._pictures), "announced, but not waited for"
        cut = self._pictures[0][0] if self._pictures else None
        if self._current is not None:
            assert all(at >= cut if cut is not None else at > (self.time or 0) for at, _, _ in self._waiting)


def _part(path: Path, origin: Fraction) -> Part:
    return Part(str(path), f"{origin.numerator}/{origin.denominator}")
