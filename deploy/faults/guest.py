"""A producer without a decoder: it speaks the real protocol over real sockets, and may die at any moment.

Hundreds of them cost what one real producer costs. Like a real one, a guest sends again what was not taken.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from common import messages as m
from common.codec import Planes, encode_jpeg
from common.config import Fleet
from common.errors import PeerError
from common.media import pack
from common.transport import Hub, drain
from common.wire import Reader, encode, in_ranges

#: Seconds between two Hellos, and between two attempts to have the rest answered.
HELLO_S, AGAIN_S = 0.3, 1.0
#: Every so many frames one goes to the model.
EVERY = 2
BURST = 32


class Stage(Enum):
    """How far a guest has come."""

    GREETING = 0
    SENDING = 1
    ENDING = 2
    CLOSED = 3


@dataclass(frozen=True, slots=True)
class Visit:
    """What all guests say: a Hello's tracks and carriers from a real clip, and a picture for the model."""

    tracks: list[m.TrackInfo]
    carriers: bytes
    video: m.VideoInfo
    picture: bytes
    size: tuple[int, int]

    @classmethod
    def of(cls, clip: Path) -> Visit:
        """Raises av.FFmpegError."""
        with av.open(str(clip)) as container:
            track = container.streams.video[0]
            carrier, blob = pack(track)
            base = Fraction(track.time_base or 1)
            width, height = track.width, track.height
            info = m.TrackInfo(
                kind="video",
                codec=track.codec_context.name,
                carrier=carrier,
                size=len(blob),
                time_base=(base.numerator, base.denominator),
            )
        video = m.VideoInfo(width=width, height=height, time_base=info.time_base)
        grey = np.full((48, 64), 128, np.uint8)
        jpeg = encode_jpeg(Planes(grey, grey[::2, ::2].copy(), grey[::2, ::2].copy()))
        return cls([info], blob, video, jpeg, (64, 48))


class Guest:
    """One visit of ``frames`` frames as ``stream``. Call :meth:`step` often until ``over``.

    ``dies``: the stage in which its sockets are gone without a word; None: it stays to the end.
    """

    def __init__(self, fleet: Fleet, stream: str, visit: Visit, frames: int, dies: Stage | None = None) -> None:
        self._config, self._visit, self._frames, self._dies = fleet.stream(stream), visit, frames, dies
        self._sink = fleet.sink.name
        self._hub = Hub(fleet.security.insecure)
        self._push = self._hub.connect("push", fleet.broker.frames)
        self._news = self._hub.connect("sub", fleet.broker.news)
        self._news.subscribe()
        self._media = self._hub.connect("dealer", fleet.sink.media)
        self._read: Reader[m.ToProducer] = Reader(m.ToProducer)
        self._session = secrets.token_hex(8)
        self._epoch = 0
        self._next = 0.0
        self._acked = m.Ack(stream=stream, epoch=0, link=0)
        self.stage = Stage.GREETING
        self.over = False
        self.closed: m.Closed | None = None

    def step(self, now: float) -> None:
        """Hear what there is, say what is due."""
        if self.over:
            return
        before = self.stage
        self._hear()
        if self.stage is Stage.CLOSED or (self.stage is not before and before is self._dies):
            self.leave(linger=self.stage is Stage.CLOSED)
            return
        if now < self._next and self.stage is before:
            return
        self._next = now + AGAIN_S
        if self.stage is Stage.GREETING:
            self._next = now + HELLO_S
            self._media.send(encode(self._hello()), self._visit.carriers)
        else:
            self._say()
            if self.stage is self._dies:
                self.leave()

    def leave(self, linger: bool = False) -> None:
        """The sockets are closed; without ``linger``, with what is under way."""
        if not self.over:
            self.over = True
            self._hub.close(linger)

    def _hear(self) -> None:
        drain(self._news, BURST)
        for parts in drain(self._media, BURST):
            try:
                message, _ = self._read.decode(parts)
            except PeerError:
                continue
            if isinstance(message, m.Welcome) and message.session == self._session:
                self._epoch = message.epoch
                self.stage = max(self.stage, Stage.SENDING, key=lambda stage: stage.value)
            elif isinstance(message, m.Ack) and message.epoch == self._epoch:
                self._acked = message
                if message.resolved == self._frames - 1 and self.stage is Stage.SENDING:
                    self.stage = Stage.ENDING
            elif isinstance(message, m.Closed) and message.epoch == self._epoch:
                self.closed, self.stage = message, Stage.CLOSED

    def _say(self) -> None:
        """All that is not acknowledged or answered, once more."""
        name, model, epoch = self._config.name, self._config.model, self._epoch
        for index in range(0, self._frames, EVERY):
            if index > self._acked.resolved and not in_ranges(self._acked.received, index):
                frame = m.Frame(
                    stream=name, epoch=epoch, index=index, model=model, sink=self._sink,
                    source=(self._visit.video.width, self._visit.video.height), size=self._visit.size,
                )  # fmt: skip
                self._push.send(encode(frame), self._visit.picture)
        for index in range(self._acked.link, self._frames):
            notice = m.Notice(
                stream=name, epoch=epoch, link=index + 1, index=index, pts=index, out=index, duration=1,
                fate="not_sampled" if index % EVERY else "sent",
            )  # fmt: skip
            self._media.send(encode(notice))
        if self.stage is Stage.ENDING:
            self._media.send(encode(m.End(stream=name, epoch=epoch, link=self._frames + 1, last=self._frames - 1)))

    def _hello(self) -> m.Hello:
        return m.Hello(
            stream=self._config.name, session=self._session, mode=self._config.mode, latency=self._config.latency,
            model=self._config.model, video=self._visit.video, tracks=self._visit.tracks,
        )  # fmt: skip
