"""The media link's receiving side: contiguous numbers, duplicates, gaps. Pure: time is an argument."""

from __future__ import annotations

from enum import Enum

#: An acknowledgement is repeated after this many seconds, and sent early after so many messages.
ACK_S = 0.1
ACK_EVERY = 32


class Arrival(Enum):
    NEW = "new"
    DUPLICATE = "duplicate"
    BEYOND = "beyond"  #: a number before it is missing; it will come again


class Inlet:
    """Accepts messages in link order only; what is beyond a gap is dropped and asked for again."""

    def __init__(self) -> None:
        self.link = 0  #: all up to this number have arrived
        self.gap = False
        self.duplicates = 0
        self._unacknowledged = 0
        self._acked_at = float("-inf")

    def classify(self, number: int) -> Arrival:
        """What a message of this number is."""
        if number == self.link + 1:
            return Arrival.NEW
        return Arrival.DUPLICATE if number <= self.link else Arrival.BEYOND

    def arrived(self, number: int) -> Arrival:
        """Take a message in; only NEW ones are to be handled."""
        arrival = self.classify(number)
        if arrival is Arrival.NEW:
            self.link = number
            self.gap = False
            self._unacknowledged += 1
        elif arrival is Arrival.DUPLICATE:
            self.duplicates += 1
        else:
            self.gap = True
        return arrival

    def ack_due(self, now: float, progressed: bool = False) -> bool:
        """Whether an acknowledgement is to be sent now. ``progressed``: frames were resolved since the last."""
        return self._unacknowledged >= ACK_EVERY or now - self._acked_at >= (ACK_S / 5 if progressed else ACK_S)

    def acked(self, now: float) -> None:
        self._acked_at = now
        self._unacknowledged = 0

    def check(self) -> None:
        assert self.link >= 0
