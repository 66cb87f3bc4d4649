"""The window: which announced frames are not resolved, which sent frames are not answered. Pure: time is an argument.

The window is the throttle of the whole chain. Its span counts every announced frame; a smaller limit counts those that
are with the model. Frames are sent again by knowledge (the broker does not hold it *and* the sink has not received
it), and only as a backstop by time. In live mode a frame that is too late is over, but it still keeps a worker busy: it
counts as with the model until the broker says that it no longer holds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from common.messages import Ack, Frame, News
from common.wire import in_ranges
from producer.pace import Pace

#: First wait of the backstop, in seconds; it doubles with every resend of the same frame, up to the maximum.
BACKSTOP_S = 10.0
BACKSTOP_MAX_S = 120.0


@dataclass(frozen=True, slots=True)
class Sent:
    """A frame that was sent and is not answered."""

    header: Frame
    payload: bytes
    at: float
    #: News numbers (of this incarnation) heard since sending that did not hold the frame.
    missing: int = 0
    sends: int = 1


class Window:
    """``span``/``span_bytes`` limit announced frames that are not resolved, ``pace`` those with the model."""

    def __init__(self, span: int, span_bytes: int, pace: Pace) -> None:
        self._span, self._span_bytes, self._pace = span, span_bytes, pace
        self._announced: dict[int, int] = {}  # index → bytes that it holds, in index order
        self._bytes = 0
        self._sent: dict[int, Sent] = {}
        self._overdue: dict[int, float] = {}  # late and perhaps still with the model → since when
        self._late = 0  # what the sink has counted
        self._incarnation: str | None = None
        self._ack_count = 0
        self._ack_seen = 0
        self.resolved = -1
        self.durable = -1
        self.resent = 0

    @property
    def room(self) -> bool:
        """Whether another frame may be announced."""
        return len(self._announced) < self._span and self._bytes < self._span_bytes

    @property
    def room_to_send(self) -> bool:
        """Whether another frame may go to the model."""
        return self.with_model < self._pace.limit

    @property
    def unresolved(self) -> int:
        return len(self._announced)

    @property
    def unanswered(self) -> int:
        return len(self._sent)

    @property
    def with_model(self) -> int:
        """Frames that were sent and keep a worker busy, as far as is known."""
        return len(self._sent) + len(self._overdue)

    @property
    def limit(self) -> int:
        """Most frames that may be with the model now."""
        return self._pace.limit

    def announce(self, index: int, size: int = 0) -> None:
        """Frame ``index`` was announced; ``size`` bytes are kept for it."""
        assert index not in self._announced, f"frame {index} announced twice"
        self._announced[index] = size
        self._bytes += size

    def sent(self, header: Frame, payload: bytes, now: float) -> None:
        """The announced frame went to the broker; its payload is kept until somebody has answered for it."""
        self._sent[header.index] = Sent(header, payload, now)
        self._pace.sent(self.with_model)

    def ack(self, ack: Ack, now: float) -> None:
        """The sink's word: what it has received, resolved and made durable."""
        self._ack_count += 1
        self.resolved = max(self.resolved, ack.resolved)
        self.durable = max(self.durable, ack.durable)
        for index in [i for i in self._announced if i <= ack.resolved]:
            self._bytes -= self._announced.pop(index)
        answered = [i for i in self._sent if i <= ack.resolved or in_ranges(ack.received, i)]
        # The sink says how many of them were late; a deadline passes for the oldest ones first.
        late = max(0, ack.late - self._late)
        self._late = ack.late
        for place, index in enumerate(answered):
            sent = self._sent.pop(index)
            self._pace.answered(sent.at, now, place < late)
            if place < late:
                self._overdue[index] = now

    def news(self, news: News, stream: str, epoch: int, now: float) -> list[tuple[Frame, bytes]]:
        """The broker's word: the frames to send again, oldest first."""
        held = _held(news.held, stream, epoch)
        self._pace.workers(news.workers, now)
        self._overdue = {index: since for index, since in self._overdue.items() if in_ranges(held, index)}
        if self._incarnation is not None and news.incarnation != self._incarnation:
            # Another broker: what the old one held is gone, what reached the new one already is not.
            again = [index for index in self._sent if not in_ranges(held, index)]
        else:
            again = []
            # Knowledge needs both ends: an Ack must have come since the last News, or the sink's view is stale.
            fresh = self._ack_count > self._ack_seen
            for index, sent in self._sent.items():
                if in_ranges(held, index):
                    if sent.missing:
                        self._sent[index] = replace(sent, missing=0)
                elif fresh and now > sent.at:
                    self._sent[index] = replace(sent, missing=sent.missing + 1)
                    if sent.missing + 1 > 2:
                        again.append(index)
        self._incarnation = news.incarnation
        self._ack_seen = self._ack_count
        return self._again(again, now)

    def tick(self, now: float) -> list[tuple[Frame, bytes]]:
        """The backstop: frames about which nobody has said anything for very long."""
        self._overdue = {index: since for index, since in self._overdue.items() if now - since < BACKSTOP_S}
        return self._again(
            [
                index
                for index, sent in self._sent.items()
                if now - sent.at >= min(BACKSTOP_S * 2 ** (sent.sends - 1), BACKSTOP_MAX_S)
            ],
            now,
        )

    def _again(self, indexes: Sequence[int], now: float) -> list[tuple[Frame, bytes]]:
        for index in indexes:
            sent = self._sent[index]
            self._sent[index] = replace(sent, at=now, missing=0, sends=sent.sends + 1)
        self.resent += len(indexes)
        return [(self._sent[index].header, self._sent[index].payload) for index in indexes]

    def waits(self, header: Frame) -> bool:
        """Whether nobody has answered for the frame yet."""
        sent = self._sent.get(header.index)
        return sent is not None and sent.header == header

    def check(self) -> None:
        assert self._bytes == sum(self._announced.values())
        assert all(index in self._announced for index in self._sent), "a sent frame was never announced"
        assert all(index > self.resolved for index in self._announced), "a resolved frame is still counted"
        assert list(self._announced) == sorted(self._announced)
        assert not self._sent.keys() & self._overdue.keys()
        self._pace.check()


def _held(held: Mapping[str, tuple[int, list[tuple[int, int]]]], stream: str, epoch: int) -> list[tuple[int, int]]:
    theirs = held.get(stream)
    return theirs[1] if theirs and theirs[0] == epoch else []
