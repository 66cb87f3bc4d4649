"""Sound waits for the picture of its time. Pure: no PyAV, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction

from msgspec.structs import replace

from common.messages import Packet

#: Most sound that waits for its picture; beyond, the oldest goes on ahead.
MAX_HELD_PACKETS, MAX_HELD_BYTES = 8192, 16 * 2**20
#: Most sound that is kept while no picture is written at all; beyond, the oldest is left out and counted. That is over
#: an hour of AAC.
MAX_KEPT_PACKETS, MAX_KEPT_BYTES = 2**18, 256 * 2**20
#: Longest jump within a track, and from the picture to its first packet, in seconds; longest packet. MP4 has 32 bits
#: for a duration, which is three hours at 192 kHz.
MAX_JUMP_S = 7200


class SoundGate:
    """Holds sound until the picture of its time is written, so that files are interleaved well.

    Sound whose time is far from all that surrounds it is left out: muxers fail on it, and some end the process. Each
    packet belongs to one ``generation`` of the source's tracks; they leave in the order in which they came.
    """

    def __init__(self, max_packets: int = MAX_HELD_PACKETS, max_bytes: int = MAX_HELD_BYTES) -> None:
        self._held: deque[tuple[Fraction, Packet, bytes, int]] = deque()
        self._bytes = 0
        self._max_packets, self._max_bytes = max_packets, max_bytes
        self._picture = Fraction(0)  # time of the last picture
        self._last: dict[int, Fraction] = {}  # track → time of its last packet that was let through
        self.forced = 0
        self.dropped = 0

    @property
    def generations(self) -> tuple[int, int] | None:
        """The oldest and the newest generation that is held; None: nothing is."""
        return (self._held[0][3], self._held[-1][3]) if self._held else None

    def put(self, packet: Packet, payload: bytes, generation: int = 0) -> None:
        """``generation`` never goes back."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        time = stamp * Fraction(*packet.time_base) if stamp is not None else Fraction(0)
        if not 0 <= packet.duration * Fraction(*packet.time_base) <= MAX_JUMP_S:
            packet = replace(packet, duration=0)
        self._held.append((time, packet, payload, generation))
        self._bytes += len(payload)
        while len(self._held) > MAX_KEPT_PACKETS or self._bytes > MAX_KEPT_BYTES:
            self._bytes -= len(self._held.popleft()[2])
            self.dropped += 1

    def reached(self, track: int, time: Fraction) -> None:
        """The track has been filled up to ``time`` (seconds) by others."""
        self._last[track] = max(time, self._last.get(track, time))

    def release(self, time: Fraction | None) -> Iterator[tuple[Packet, bytes, int]]:
        """What may be written now that the picture has come to ``time`` (seconds; None: everything), with its
        generation."""
        self._picture = self._picture if time is None else time
        while self._held:
            over = len(self._held) > self._max_packets or self._bytes > self._max_bytes
            if time is not None and self._held[0][0] > time and not over:
                return
            self.forced += bool(over and time is not None and self._held[0][0] > time)
            _, packet, payload, generation = self._held.popleft()
            self._bytes -= len(payload)
            if self._fits(packet):
                yield packet, payload, generation
            else:
                self.dropped += 1

    def _fits(self, packet: Packet) -> bool:
        around = self._last.get(packet.track, self._picture)
        times = [stamp * Fraction(*packet.time_base) for stamp in (packet.pts, packet.dts) if stamp is not None]
        if any(abs(time - around) > MAX_JUMP_S for time in times):
            return False
        if times:
            self._last[packet.track] = max(times)
        return True

    def check(self) -> None:
        assert self._bytes == sum(len(payload) for _, _, payload, _ in self._held) <= MAX_KEPT_BYTES
        assert len(self._held) <= MAX_KEPT_PACKETS
        generations = [generation for _, _, _, generation in self._held]
        assert generations == sorted(generations)
