"""One address that the annotated stream is sent to, or an HLS folder: the face that the rack knows.

What is sent is never durable: nothing is gone back for. How it is sent: sink/outputs/sent_courier.py.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from fractions import Fraction
from random import Random
from typing import Any, get_args

import av
from av.video.stream import VideoStream

from common.config import Output, SentKind
from common.log import mask
from common.media import Track, UncarriedCodec, pack
from sink.outputs.sent_courier import Courier
from sink.outputs.sent_outbox import Outbox
from sink.outputs.sent_queue import Unit
from sink.sender.framing import Opening, Piece, TrackHead, encode
from sink.sender.parameters import parameter_sets
from sink.sound import Sound

#: Kinds that are sent.
SENT: tuple[SentKind, ...] = get_args(SentKind)
#: Kinds that take one track of sound.
ONE_SOUND = ("rtmp", "rtsp")
#: Length of an HLS segment, in seconds.
SEGMENT_S = 2.0

log = logging.getLogger(__name__)


class NetworkOutput:
    """``sounds`` are the tracks beside the picture; each knows whether it is copied or encoded for this kind.

    Nothing is started before the first picture comes. ``again``: there was one before it in the same run, whose HLS
    playlist it goes on with.
    """

    def __init__(self, output: Output, sounds: Sequence[Sound], live: bool, stream: str, again: bool = False) -> None:
        assert output.kind in SENT
        self.kind = output.kind
        self.path = mask(output.path)  #: the address as it may be shown
        self._output, self._stream = output, stream
        self._sounds = sounds
        self._tracks: dict[int, int] = {}  # number of a sound → of the track that it is sent as
        self._segment = output.segment or SEGMENT_S
        self._opened: tuple[Opening, bytes]  # with the template
        self._newest: Fraction | None = None  # time of the last packet of any track
        self._template: VideoStream | None = None
        self._outbox = Outbox(self.path, live, Random(), again)
        self._courier = Courier(self._outbox, self.path, stream)
        #: Time of the last picture, in seconds of the stream.
        self.time: Fraction | None = None

    def wants(self, time: Fraction) -> bool:
        """Every picture: whether it can be sent is found out later, and the encoder goes on for the others anyway."""
        return True

    @property
    def asked(self) -> bool:
        """No keyframe is needed to begin with, or one is in the encoder."""
        return not self._outbox.wants_key

    @asked.setter
    def asked(self, value: bool) -> None:
        if value and self._outbox.wants_key:
            self._outbox.key_asked()

    def video(self, packet: av.Packet, duration: int, template: VideoStream) -> None:
        """One encoded picture. A new ``template`` is another picture: the connection begins anew with it."""
        if template is not self._template:
            if not packet.is_keyframe:
                return
            self._template = template
            self._opened = self._opening(template, packet)
            self._outbox.open(*self._opened)
            self._courier.start()
        base = Fraction(packet.time_base)
        self.time = int(packet.dts or 0) * base
        self._put(0, packet, int(packet.dts or 0), base, duration)

    def sound(self, number: int, packet: av.Packet) -> None:
        """One packet of sound track ``number``, for this kind's form of it."""
        stamp = packet.dts if packet.dts is not None else packet.pts
        if stamp is not None and number in self._tracks:
            self._put(self._tracks[number], packet, stamp, Fraction(packet.time_base), packet.duration or 0)

    def end(self, goes_on: bool = False) -> None:
        """Nothing more comes of this one; of another one, where it ``goes_on``. Does not wait."""
        self._courier.end(goes_on=goes_on)

    def close(self) -> None:
        """After :meth:`end`: wait until what is queued is sent and leave is taken, as far as that is done within the
        grace."""
        self._courier.join()

    def discard(self) -> None:
        """Leave at once."""
        self._courier.end(0.0)
        self._courier.join()

    @property
    def failure(self) -> str:
        """Why nothing could be sent at all, "" where something was."""
        return self._outbox.failure

    def trouble(self) -> str:
        """What is wrong, for a person; "" while all is well."""
        return self._outbox.trouble(time.monotonic())

    def sent(self) -> dict[str, Any]:
        """For status lines and metrics."""
        return {"output": self.path, "kind": self.kind, **self._outbox.counts(), "trouble": self.trouble()}

    def check(self) -> None:
        self._outbox.check()

    def _look_for_gap(self, time: Fraction) -> None:
        """HLS: a segment over an outage would be as long as that, and players look for news no more often than the
        longest segment lasts. The playlist goes on with a discontinuity instead."""
        newest, self._newest = self._newest, time if self._newest is None else max(time, self._newest)
        if self.kind == "hls" and newest is not None and time - newest > self._segment:
            self._outbox.open(*self._opened)
            self._courier.ring()

    def _put(self, track: int, packet: av.Packet, stamp: int, base: Fraction, duration: int) -> None:
        key = packet.is_keyframe or track > 0
        piece = Piece(track, stamp, (base.numerator, base.denominator), duration, key)
        if self._courier.crash is not None:
            raise self._courier.crash
        time_ = stamp * base
        self._look_for_gap(time_)
        self._outbox.put(Unit(track, time_, key, encode(piece, memoryview(packet))), time.monotonic())
        self._courier.ring()

    def _opening(self, template: VideoStream, first: av.Packet) -> tuple[Opening, bytes]:
        carrier, blob = pack(template)
        # The template was made by an encoder of its own, with its own defaults.
        heads, blobs = [TrackHead(carrier, len(blob), parameter_sets(bytes(first)))], [blob]
        self._tracks = {}
        for number, sound in enumerate(self._sounds):
            if self._tracks and self.kind in ONE_SOUND:
                self._leave_out(number, f"{self.kind} takes one track of sound")
                continue
            track: Track = sound.template(self.kind)
            try:
                carrier, blob = pack(track)
            except UncarriedCodec as error:
                self._leave_out(number, str(error))
                continue
            self._tracks[number] = len(heads)
            heads.append(TrackHead(carrier, len(blob)))
            blobs.append(blob)
        address = os.path.abspath(self._output.path) if self.kind == "hls" else self._output.path
        opening = Opening(self.kind, address, heads, self._segment)
        return opening, b"".join(blobs)

    def _leave_out(self, number: int, why: str) -> None:
        log.warning("sound track %d is not sent to %s: %s", number + 1, self.path, why, extra={"stream": self._stream})
