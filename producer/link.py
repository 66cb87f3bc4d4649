"""The media link's sending side: numbers, memory of what is not acknowledged, sending again. Pure: time is an argument.

Every message on the link has a contiguous number. What the sink has not acknowledged is kept and, when the sink
reports a gap or falls silent, sent again from the first missing one.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from common.messages import Head

#: Most unacknowledged messages and bytes before the link calls itself full.
MAX_MESSAGES = 4096
MAX_BYTES = 64 * 2**20
#: A live stream's link is full as well when its oldest message has waited so long, in seconds: what comes later would
#: be shown too late.
MAX_BEHIND_S = 3.0
#: A gap that is reported again is only answered again after this many seconds.
GAP_S = 0.2
#: Without any progress for this many seconds, everything unacknowledged is sent again.
SILENCE_S = 3.0


@dataclass(frozen=True, slots=True)
class Numbered:
    """One message under its link number."""

    number: int
    header: Head
    payload: bytes
    at: float  # when it was put in, in seconds


class Link:
    """Put messages in, take what is to be transmitted out, feed acknowledgements back."""

    def __init__(
        self, max_messages: int = MAX_MESSAGES, max_bytes: int = MAX_BYTES, max_behind: float = math.inf
    ) -> None:
        self._max_messages, self._max_bytes, self._max_behind = max_messages, max_bytes, max_behind
        self._kept: deque[Numbered] = deque()  # acknowledged ones leave at the left
        self._cursor = 0  # position in _kept of the next one to transmit
        self._last = 0  # highest number given out
        self.transmitted = 0  #: highest number that a socket ever took
        self._bytes = 0
        self._progress = 0.0  # when an acknowledgement last moved, or sending began
        self._rewound = -GAP_S
        self.resent = 0

    def full(self, now: float) -> bool:
        """Whether what is put in now had better wait, or go another way."""
        return (
            len(self._kept) >= self._max_messages
            or self._bytes >= self._max_bytes
            or (bool(self._kept) and now - self._kept[0].at > self._max_behind)
        )

    @property
    def empty(self) -> bool:
        """Everything is acknowledged."""
        return not self._kept

    @property
    def acknowledged(self) -> int:
        """The highest number that the sink has acknowledged."""
        return self._last - len(self._kept)

    @property
    def unsent(self) -> int:
        """Messages that wait for their first (or next) transmission."""
        return len(self._kept) - self._cursor

    @property
    def unacknowledged(self) -> int:
        return len(self._kept)

    @property
    def next_number(self) -> int:
        return self._last + 1

    def put(self, make: Callable[[int], Head], payload: bytes, now: float) -> int:
        """Number and keep a message; ``make`` builds its header from the number. Never refuses: ask ``full`` first."""
        if not self._kept:
            self._progress = now
        self._last += 1
        self._kept.append(Numbered(self._last, make(self._last), payload, now))
        self._bytes += len(payload)
        return self._last

    def amend(self, number: int, header: Head) -> bool:
        """Change the last message, which has number ``number`` and no payload, where it was not transmitted yet."""
        if not self._kept or self._last != number or number <= self.transmitted:
            return False
        self._kept[-1] = replace(self._kept[-1], header=header)
        return True

    def peek(self) -> Numbered | None:
        """The next message to transmit."""
        return self._kept[self._cursor] if self._cursor < len(self._kept) else None

    def sent(self) -> None:
        """The message of the last :meth:`peek` was taken by the socket."""
        self.transmitted = max(self.transmitted, self._kept[self._cursor].number)
        self._cursor += 1

    def ack(self, number: int, gap: bool, now: float) -> None:
        """All up to ``number`` have arrived; ``gap``: a later one arrived while ``number + 1`` did not."""
        moved = False
        while self._kept and self._kept[0].number <= number:
            self._bytes -= len(self._kept.popleft().payload)
            self._cursor = max(0, self._cursor - 1)
            moved = True
        if moved:
            self._progress = now
        if gap and now - self._rewound >= GAP_S:
            self._rewind(now)

    def tick(self, now: float) -> None:
        """Send again after silence; a backstop for a lost tail, which no gap betrays."""
        if self._cursor and now - max(self._progress, self._rewound) >= SILENCE_S:
            self._rewind(now)

    def _rewind(self, now: float) -> None:
        self.resent += self._cursor
        self._cursor = 0
        self._rewound = now

    def check(self) -> None:
        assert 0 <= self._cursor <= len(self._kept)
        assert self._bytes == sum(len(kept.payload) for kept in self._kept)
        numbers = [kept.number for kept in self._kept]
        assert numbers == list(range(self._last - len(numbers) + 1, self._last + 1)), "link numbers have a hole"
