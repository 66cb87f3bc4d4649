"""The pictures of one stream and epoch: compressed packets in, decoded ones out, each to the frame it belongs to."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import av
from av.video.stream import VideoStream

from common import media
from common.messages import Notice, Packet, VideoInfo
from sink.pairing import Pairing, Verdict

#: What an opened track takes in memory, roughly, in bytes.
TRACK_COST = 2**18


@dataclass(frozen=True, slots=True)
class Changed:
    """The source was opened again: packets that follow, and frames from ``first`` on, are of these tracks."""

    first: int
    video: VideoInfo
    tracks: Sequence[media.Track]
    threads: int
    #: Of its carriers, in bytes.
    size: int = 0

    @property
    def cost(self) -> int:
        """Roughly what it holds in memory while it waits, in bytes."""
        return self.size + TRACK_COST * len(self.tracks)


class Reel:
    """Packets wait here until their picture's turn comes. How many may, the renderer sees to, by :attr:`held_bytes`."""

    def __init__(self, track: VideoStream, threads: int, info: VideoInfo) -> None:
        self._decoder = prepare(track, threads, info)
        #: Set by :meth:`find` where the pictures of another opening of the source begin.
        self.opening: Changed | None = None
        self._packets: deque[tuple[Packet, bytes] | Changed] = deque()  # a Changed where the other tracks begin
        self._pictures: deque[av.VideoFrame] = deque()  # what one packet gives, no packet is decoded while it holds any
        # One for each opening of the source that still has frames to be shown, with its first frame.
        self._pairings: deque[tuple[int, Pairing]] = deque([(0, Pairing())])
        self.held_bytes = 0

    def put(self, header: Packet, payload: bytes) -> None:
        """A packet of the picture, in link order."""
        self._packets.append((header, payload))
        self.held_bytes += len(payload)

    def announce(self, notice: Notice) -> None:
        """A frame exists: pictures are matched against this."""
        self._pairings[-1][1].announce(notice.index, notice.pts, notice.packet)

    def change(self, changed: Changed, shown: int) -> None:
        """What follows is of other tracks. ``shown``: the last frame that was decided."""
        if shown + 1 >= changed.first:  # all before is shown, and what is left of it is of no use
            self._packets.clear()
            self._pictures.clear()
            self._pairings = deque([(0, Pairing())])
            self.held_bytes = 0
        self._packets.append(changed)
        self.held_bytes += changed.cost
        self._pairings.append((changed.first, Pairing()))

    def settled(self, notice: Notice) -> None:
        """This frame was decided: nothing older is looked for."""
        first = next(pairing for first, pairing in reversed(self._pairings) if first <= notice.index)
        first.settled(notice.pts, notice.packet)

    def find(self, notice: Notice) -> av.VideoFrame | None:
        """The picture of this frame; frames are asked for in order. None: it did not come."""
        while True:
            while self._pictures:
                picture = self._pictures[0]
                opaque = picture.opaque
                packet: int | None = opaque[0] if opaque else None  # type: ignore[index]
                verdict = self._pairings[0][1].judge(notice.index, notice.pts, picture.pts, packet)
                if verdict is Verdict.MISSING:
                    return None
                self._pictures.popleft()
                if verdict is Verdict.MATCH:
                    return picture
            if not self._packets:
                return None
            first = self._packets[0]
            if isinstance(first, Changed):
                if notice.index < first.first:
                    return None  # what is left of its own packets did not bring it
                self._turn_to(first)
                continue
            header, payload = first
            self._packets.popleft()
            self.held_bytes -= len(payload)
            try:
                self._pictures.extend(self._decoder.decode(media.to_packet(header, payload) if payload else None))
            except av.FFmpegError:  # the producer's decoder said the same and announced nothing
                continue

    def _turn_to(self, changed: Changed) -> None:
        self._packets.popleft()
        self.held_bytes -= changed.cost
        self._pairings.popleft()
        assert isinstance(changed.tracks[0], VideoStream)
        self._decoder = prepare(changed.tracks[0], changed.threads, changed.video)
        self.opening = changed


def prepare(track: VideoStream, threads: int, info: VideoInfo) -> av.VideoCodecContext:
    """The track's decoder. What the container said of colours does not cross in the carrier; the decoder hands it on to
    its frames."""
    decoder = media.prepare_decoder(track, threads)
    context = track.codec_context
    if info.color_range in (1, 2):
        context.color_range = info.color_range
    if info.matrix != 2:
        context.colorspace = info.matrix
    if info.primaries != 2:
        context.color_primaries = info.primaries
    if info.transfer != 2:
        context.color_trc = info.transfer
    return decoder
