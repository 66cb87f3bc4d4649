"""What happens to the bytes of a proxied link: they are late, held back, damaged, or their connection is reset.

All of this lives in one event loop. Buffers are bounded: where the far side does not take, the near side's TCP is
held up.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import socket
import struct
from collections import deque
from dataclasses import dataclass
from typing import Any

#: The two ends of a stream.
Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]

#: Most bytes read at a time. Corruption is per chunk.
CHUNK = 32 * 1024
#: Most bytes that wait in one direction of one connection (beside the kernel's buffers): 50 ms at 80 MB/s.
MAX_QUEUED = 4 * 2**20
#: Under a rate limit, a chunk is no longer than this many seconds, so that the flow is even.
LUMP_S = 0.02
#: Most bits flipped in one corrupted chunk.
FLIPS = 3


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the link does to bytes, in each direction."""

    #: Seconds that every chunk is late, and how far that varies up and down. The order of bytes is kept.
    delay: float = 0.0
    jitter: float = 0.0
    #: Bytes a second, all connections together.
    rate: float = math.inf
    #: Share of chunks in which one to ``FLIPS`` bits are flipped, 0…1.
    corrupt: float = 0.0


@dataclass(slots=True)
class Counts:
    """What has happened so far."""

    connections: int = 0  #: accepted and passed on
    open: int = 0  #: of these, still there
    refused: int = 0  #: accepted and reset at once
    unreachable: int = 0  #: accepted, but the endpoint behind could not be dialled
    cuts: int = 0  #: connections reset on demand
    corrupted: int = 0  #: chunks
    sent: int = 0  #: bytes from the dialling side to the endpoint
    returned: int = 0  #: bytes from the endpoint to the dialling side


class Medium:
    """What all connections of one link share. Lives in the loop's thread."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._free = [0.0, 0.0]  # when the rate limit lets the next byte pass, there and back
        self.conditions = Conditions()
        self.counts = Counts()
        self.passing = asyncio.Event()  # clear: a black hole
        self.passing.set()

    @property
    def chunk(self) -> int:
        """Most bytes to read at a time."""
        return max(1, int(min(CHUNK, self.conditions.rate * LUMP_S)))

    def lateness(self) -> float:
        """How late the next chunk is, in seconds."""
        delay, jitter = self.conditions.delay, self.conditions.jitter
        return max(0.0, delay + self._chance.uniform(-jitter, jitter)) if jitter else delay

    def spoil(self, data: bytes) -> bytes:
        """``data``, perhaps with flipped bits."""
        if not data or self._chance.random() >= self.conditions.corrupt:
            return data
        self.counts.corrupted += 1
        spoilt = bytearray(data)
        for bit in self._chance.sample(range(8 * len(data)), self._chance.randint(1, FLIPS)):
            spoilt[bit // 8] ^= 1 << bit % 8
        return bytes(spoilt)

    async def turn(self, size: int, back: bool) -> None:
        """Wait until so many bytes may pass."""
        now = asyncio.get_running_loop().time()
        self._free[back] = max(self._free[back], now) + size / self.conditions.rate
        if self._free[back] > now:
            await asyncio.sleep(self._free[back] - now)
        await self.passing.wait()

    def passed(self, size: int, back: bool) -> None:
        """So many bytes went on."""
        if back:
            self.counts.returned += size
        else:
            self.counts.sent += size


async def carry(medium: Medium, near: Ends, far: Ends) -> None:
    """Carry bytes there and back until both sides have said all, or one breaks: then the other one is reset too."""
    lines = (_Line(medium, near[0], far[1], False), _Line(medium, far[0], near[1], True))
    tasks = [asyncio.create_task(way) for line in lines for way in (line.read(), line.write())]
    writers = (near[1], far[1])
    try:
        done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        if not rest and not any(task.cancelled() or task.exception() for task in done):
            for writer in writers:
                writer.close()
            await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)
    finally:
        for writer in writers:  # nothing happens where they are closed already
            _linger(writer.get_extra_info("socket"))
            writer.transport.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Line:
    """One direction: what was read waits in order until it is due."""

    def __init__(self, medium: Medium, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, back: bool) -> None:
        self._medium, self._reader, self._writer, self._back = medium, reader, writer, back
        self._queue: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self._changed = asyncio.Condition()
        self._due = 0.0

    async def read(self) -> None:
        data = b"-"
        while data:
            await self._medium.passing.wait()
            data = await self._reader.read(self._medium.chunk)
            self._due = max(self._due, asyncio.get_running_loop().time() + self._medium.lateness())
            async with self._changed:
                self._queue.append((self._due, self._medium.spoil(data)))
                self._size += len(data)
                self._changed.notify_all()
                await self._changed.wait_for(lambda: self._size <= MAX_QUEUED)

    async def write(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._queue)
                due, data = self._queue[0]
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            await self._medium.turn(len(data), self._back)
            if not data:
                if self._writer.can_write_eof():
                    self._writer.write_eof()
                return
            self._writer.write(data)
            await self._writer.drain()
            self._medium.passed(len(data), self._back)
            async with self._changed:
                self._queue.popleft()
                self._size -= len(data)
                self._changed.notify_all()


def reset(sock: socket.socket) -> None:
    """Close with RST: the peer sees a broken connection, not an end. A closed one is left alone."""
    _linger(sock)
    sock.close()


def _linger(sock: Any) -> None:
    """Let the coming close be a reset (SO_LINGER 0). ``sock``: a socket, or what a transport shows of its own."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
