"""What the producer writes to the sink: packets, notices and the end, numbered by the link. One epoch's worth.

Gaps in a row become one Notice with a count, as long as it was not transmitted: a sink that is away costs no memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import msgspec

from common import messages as m
from producer import limits
from producer.link import Link
from producer.replay import Kept
from producer.timeline import Stamp


@dataclass(frozen=True, slots=True)
class Shown:
    """A decoded picture: the decoder's pts, the link number of its packet, clockwise degrees to turn it by, and the
    seconds since that packet came."""

    pts: int | None
    packet: int | None
    turn: int = 0
    seconds: float = 0.0


class Letters:
    """Writes to ``link`` in the name of one stream and epoch."""

    def __init__(self, stream: str, epoch: int, base: Fraction, link: Link, resume: int) -> None:
        self._stream, self._epoch, self._base, self._link = stream, epoch, base, link
        self.index = resume - 1  #: the last index announced
        self._out: int | None = None  # of the last notice
        self._run: m.Notice | None = None  # the gap that may grow

    def packet(self, kept: Kept, now: float) -> None:
        """A packet of the source. The end of a sound track is not told, that of the picture is (the flush marker)."""
        packet = kept.packet
        if not packet.size and kept.track:
            return
        base = Fraction(packet.time_base or self._base)

        def header(number: int) -> m.Packet:
            return m.Packet(
                stream=self._stream,
                epoch=self._epoch,
                link=number,
                track=kept.track,
                pts=limits.ticks_or_none(packet.pts if kept.time is None else kept.time),
                dts=limits.ticks_or_none(packet.dts if kept.time is None else kept.time),
                duration=limits.ticks(packet.duration or 0),
                time_base=(base.numerator, base.denominator),
                key=packet.is_keyframe,
                corrupt=packet.is_corrupt,
                discard=packet.is_discard,
            )

        kept.link = self._link.put(header, bytes(packet) if packet.size else b"", now)

    def picture(self, shown: Shown, stamp: Stamp, fate: m.Fate, reason: str, now: float) -> None:
        """The next picture in order, and what was done with it."""
        angle: Literal[0, 90, 180, 270] = shown.turn  # type: ignore[assignment]
        self._run = None
        self._put(
            m.Notice(
                stream=self._stream,
                epoch=self._epoch,
                link=0,
                index=self.index + 1,
                pts=limits.ticks_or_none(shown.pts),
                packet=shown.packet,
                out=stamp.pts,
                duration=stamp.duration,
                turn=angle,
                fate=fate,
                reason=reason,
                seconds=limits.seconds(shown.seconds),
            ),
            now,
        )

    def change(self, hello: m.Hello, carriers: bytes, now: float) -> None:
        """What follows is of the tracks of ``hello``."""
        self._run = None
        self._link.put(
            lambda number: m.Change(
                stream=self._stream,
                epoch=self._epoch,
                link=number,
                video=hello.video,
                tracks=hello.tracks,
                threads=hello.threads,
            ),
            carriers,
            now,
        )

    def filler(self, stamp: Stamp, text: str, away: float, now: float) -> None:
        """The source is away; its next picture comes after ``stamp``."""
        self._run, self._out = None, stamp.pts
        self._link.put(
            lambda number: m.Filler(
                stream=self._stream,
                epoch=self._epoch,
                link=number,
                out=stamp.pts,
                duration=stamp.duration,
                text=limits.text(text),
                away=limits.seconds(away),
            ),
            b"",
            now,
        )

    def gap(self, stamp: Stamp, now: float) -> None:
        """The next picture in order cannot be had by the sink."""
        run = self._run
        if run is not None and run.count < m.MAX_RUN:
            longer = msgspec.structs.replace(run, count=run.count + 1)
            if self._link.amend(run.link, longer):
                self._run, self.index, self._out = longer, self.index + 1, stamp.pts
                return
        self._run = self._put(self._gap(self.index + 1, stamp.pts, stamp.duration, 1), now)

    def missing(self, count: int, until: Stamp, now: float) -> None:
        """The next ``count`` pictures cannot be had any more; the one at ``until`` can."""
        before = self._out
        if before is None:  # times are never negative
            before = max(-1, until.pts - (count + 1) * max(1, until.duration))
        step = max(1, (until.pts - before) // (count + 1))
        while count:
            run = min(count, m.MAX_RUN)
            self._put(self._gap(self.index + 1, before + step, step, run), now)
            before += run * step
            count -= run
        self._run = None

    def end(self, reason: str, repairs: Mapping[str, int], now: float) -> None:
        """Nothing follows."""
        self._link.put(
            lambda number: m.End(
                stream=self._stream,
                epoch=self._epoch,
                link=number,
                last=self.index,
                reason=limits.text(reason),
                repairs=dict(repairs),
            ),
            b"",
            now,
        )

    def _gap(self, index: int, out: int, duration: int, count: int) -> m.Notice:
        return m.Notice(
            stream=self._stream,
            epoch=self._epoch,
            link=0,
            index=index,
            out=out,
            duration=duration,
            fate="gap",
            reason="gap",
            count=count,
        )

    def _put(self, notice: m.Notice, now: float) -> m.Notice:
        self.index = notice.index + notice.count - 1
        self._out = notice.out
        number = self._link.put(lambda link: msgspec.structs.replace(notice, link=link), b"", now)
        return msgspec.structs.replace(notice, link=number)
