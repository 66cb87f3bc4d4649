"""What a stream's producer remembers, so that it can go back to the sink's last durable frame. Pure: no decoder here.

Packets are kept from a keyframe well before that frame on, with the pictures that came out of them: decoded again by a
fresh decoder, each picture is known by its packet and gets the index and the times that it had before.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import av

from producer.timeline import Stamp

#: Keyframes before the last one at or before the wanted picture. One is for the leading pictures of an open GOP, which
#: refer to the GOP before; the second for intra-refresh streams, whose pictures are whole only after a period.
BACK = 2
#: Video packets before the last one whose picture has come, among which a picture may still be waiting for its turn to
#: be shown: the most that H.264 and H.265 allow (ITU-T H.264 A.3.1, H.265 A.4.2).
REORDERED = 16
#: Most packets and bytes that are kept. Beyond, the oldest go: a file can be read again, a live source has a gap.
MAX_PACKETS, MAX_BYTES = 65536, 192 * 2**20


@dataclass(frozen=True, slots=True)
class Known:
    """A picture that was decoded before."""

    index: int
    stamp: Stamp
    wanted: bool
    #: Not to be shown to the model.
    damaged: bool = False


@dataclass(slots=True)
class Kept:
    """One demuxed packet that arrived ``at``. ``time``: its repaired time (sound), in its own time base; ``link``: its
    number in the present epoch."""

    number: int
    track: int
    packet: av.Packet
    time: int | None = None
    at: float = 0.0
    link: int | None = None
    pictures: list[Known] = field(default_factory=list)

    @property
    def starts(self) -> bool:
        """Whether a decoder can start here."""
        return self.track == 0 and self.packet.is_keyframe and self.packet.size > 0


class Replay:
    """The last packets of a source, numbered from 0 in the order of the demuxer."""

    def __init__(self, max_packets: int = MAX_PACKETS, max_bytes: int = MAX_BYTES) -> None:
        self._max_packets, self._max_bytes = max_packets, max_bytes
        self._kept: deque[Kept] = deque()
        self._keys: deque[int] = deque()  # numbers of the kept packets where a decoder can start
        self._bytes = 0
        self._next = 0
        self._first = 0  # number of the first packet since the source was opened
        self._floor = 0  # index of the first picture that may still be asked for
        self._begins = 0, 0  # from this number on there was all that pictures from this index on need

    @property
    def bytes(self) -> int:
        return self._bytes

    def begin(self, index: int) -> None:
        """The source was opened again: picture ``index`` is its first. What was kept needs another decoder."""
        self._kept.clear()
        self._keys.clear()
        self._bytes = 0
        self._first, self._begins = self._next, (self._next, index)

    def put(self, track: int, packet: av.Packet, time: int | None = None, at: float = 0.0) -> Kept:
        """Keep the next packet of the source."""
        kept = Kept(self._next, track, packet, time, at)
        self._next += 1
        self._kept.append(kept)
        self._bytes += packet.size
        if kept.starts:
            self._keys.append(kept.number)
            self._free()  # here only: nothing can be gained before the next keyframe
        while len(self._kept) > self._max_packets or self._bytes > self._max_bytes:
            self._drop()
        return kept

    def get(self, number: int | None) -> Kept | None:
        """The packet of that number, None where it is no longer kept."""
        if number is None or not self._kept or not self._kept[0].number <= number < self._next:
            return None
        return self._kept[number - self._kept[0].number]

    def find(self, pts: int | None) -> Kept | None:
        """The picture's packet with this pts."""
        if pts is None:
            return None
        return next((one for one in reversed(self._kept) if one.track == 0 and one.packet.pts == pts), None)

    def durable(self, index: int) -> None:
        """All pictures up to ``index`` will never be asked for again."""
        self._floor = max(self._floor, index + 1)

    def since(self, index: int) -> list[Kept] | None:
        """The packets that bring picture ``index`` and all after it, None where they are no longer kept."""
        start = self._start(index)
        return None if start is None else [kept for kept in self._kept if kept.number >= start]

    def rest(self) -> list[Kept]:
        """All packets from the first keyframe that is kept: the most that a gap leaves."""
        return [kept for kept in self._kept if self._keys and kept.number >= self._keys[0]]

    def _start(self, index: int) -> int | None:
        """Number of the packet to start from for picture ``index``."""
        # In decoding order a picture may come before some that are shown earlier: the first packet counts.
        have = (kept.number for kept in self._kept if any(known.index >= index for known in kept.pictures))
        wanted = next(have, None)
        if wanted is None:
            wanted = self._first_waiting()
            if wanted is None:
                return None
        keys = [number for number in self._keys if number <= wanted]
        if len(keys) > BACK:
            return keys[-1 - BACK]
        start, reach = self._begins
        return start if index >= reach and self._kept and self._kept[0].number <= start else None

    def _first_waiting(self) -> int | None:
        """Number of the first packet whose picture may be inside the decoder, which lags behind with its threads. None:
        it may be gone."""
        before, number = -1, self._next
        for kept in reversed(self._kept):
            if kept.track:
                continue
            if kept.pictures or before >= 0:
                before += 1
            if not kept.pictures:
                number = kept.number
            if before == REORDERED:
                break
        known = before >= 0 or (bool(self._kept) and self._kept[0].number == self._first)
        return number if known else None

    def _free(self) -> None:
        if len(self._keys) <= BACK + 1:
            return
        start = self._start(self._floor)
        if start is not None:
            self._begins = start, self._floor
            while self._kept[0].number < start:
                self._drop()

    def _drop(self) -> None:
        gone = self._kept.popleft()
        self._bytes -= gone.packet.size
        if self._keys and self._keys[0] == gone.number:
            self._keys.popleft()

    def check(self) -> None:
        assert self._bytes == sum(kept.packet.size for kept in self._kept)
        assert list(self._keys) == [kept.number for kept in self._kept if kept.starts]
        numbers = [kept.number for kept in self._kept]
        assert numbers == list(range(self._next - len(numbers), self._next))
        assert all(number >= self._first for number in numbers)
        assert len(self._kept) <= self._max_packets
        assert self._bytes <= self._max_bytes
