"""The streams of a run, as what their parts say of them shows them, and how each ends. Pure: time is an argument.

A stream runs from its :class:`StreamLife`'s beginning to ``ended``, and is known until it is dropped. Its end has come
when its producer has ended for good and the sink has said its last word on it, or takes too long to say it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from common.config import Stream
from common.errors import Exit

#: Frames a second are averaged over this long, in seconds.
RATE_S = 3.0
#: A stream that has come no further for so long, in seconds, stands still.
STALLED_S = 1.0
#: The sink and the producer hear of a stream's end at the same time. So long, in seconds, the sink's word is waited for
#: once the producer has ended.
WORD_S = 2.0
#: Most streams that have ended and are remembered.
MAX_ENDED = 64

PLAYABLE = "what was written before stays playable"


def part_of(stream: str) -> str:
    """The name of its producer among the parts."""
    return f"producer:{stream}"


def stream_in(part: str) -> str | None:
    """The stream whose producer ``part`` is; None for other parts."""
    kind, _, name = part.partition(":")
    return name if kind == "producer" else None


@dataclass(frozen=True, slots=True)
class Ended:
    """How a stream came to its end. ``why``: one line, "" where there is nothing to say."""

    code: Exit
    why: str
    at: float


class StreamLife:
    """One stream. What is public is what was heard last."""

    def __init__(self, config: Stream, now: float) -> None:
        self.config = config
        self.began = now
        self.known = False  #: the source was open
        self.total: int | None = None  #: frames that it promises
        self.source: dict[str, Any] = {}  #: its state, reason, and since when
        self.in_flight = 0
        self.waits_for = ""
        self.frames = self.resolved = self.epoch = 0
        self.states: dict[str, int] = {}
        self.reached = 0  #: frames that need not be done again, whatever dies
        self.result: dict[str, Any] | None = None  #: the ledger's entry that the sink closed with
        self.leaving = False  #: it was told to come to its end
        self.removed = False  #: by the user's wish: how it ended is not the run's business
        self.dropped = False  #: it has ended, and is to be forgotten: the configuration names it no more
        self.down = False  #: its producer has died and is started again
        self.ended: Ended | None = None
        self._exit: tuple[int, str, float] | None = None
        self._marks: deque[tuple[float, int]] = deque([(now, 0)], maxlen=1024)

    @property
    def name(self) -> str:
        return self.config.name

    def hear(self, by_sink: bool, record: dict[str, Any], now: float) -> None:
        """A status line of the producer or the sink."""
        event = record.get("event")
        if event == "closed":
            self.result = record
            self._seen(record["frames"], now)
            self.frames, self.states = record["frames"], record["states"]
            if self.removed and self.ended is not None and self._exit is not None:  # it had been killed
                self.ended = Ended(*self._verdict(*self._exit[:2]), self.ended.at)
        elif by_sink and event == "progress":
            self._seen(record["resolved"], now)
            self.frames, self.states = record["frames"], record["states"]
            self.epoch = max(self.epoch, record.get("epoch", 0))
            # Live frames are not done again.
            self.reached = max(self.reached, record["resolved" if self.config.mode == "live" else "durable"])
        elif event == "source":
            self.known, self.total = True, record["frames"]
        elif event in ("opening", "progress"):
            self.source = record.get("source") or {}
            self.in_flight, self.waits_for = record.get("in_flight", 0), record.get("waits_for", "")

    def _seen(self, resolved: int, now: float) -> None:
        if resolved < self._marks[-1][1]:  # a part goes on from its last durable frame
            self._marks.clear()
        if not self._marks or resolved != self._marks[-1][1]:
            self._marks.append((now, resolved))
        while len(self._marks) > 2 and now - self._marks[0][0] > RATE_S:
            self._marks.popleft()
        self.resolved = resolved

    def rate(self, now: float) -> float:
        """Frames a second, lately."""
        while len(self._marks) > 2 and now - self._marks[0][0] > RATE_S:
            self._marks.popleft()
        (then, count), (last, _) = self._marks[0], self._marks[-1]
        until = last if last > then and now - last < STALLED_S else now
        return (self.resolved - count) / (until - then) if until > then and self.ended is None else 0.0

    @property
    def share(self) -> float | None:
        """Of the frames that are decided, those that show their own results, 0…1; None where there are none."""
        decided = sum(count for state, count in self.states.items() if state != "pending")
        return self.states.get("annotated", 0) / decided if decided else None

    @property
    def state(self) -> str:
        """``starting``, ``running``, ``away`` (the source is), ``leaving`` or ``ended``."""
        if self.ended is not None:
            return "ended"
        if self.leaving or self._exit is not None:
            return "leaving"
        if self.down or self.source.get("state") == "opening":
            return "starting"
        if self.source.get("state") == "away":
            return "away"
        return "running" if self.resolved else "starting"

    @property
    def why(self) -> str:
        """What is to be said of the state."""
        if self.ended is not None:
            return self.ended.why
        return str(self.source.get("why", "")) if self.state in ("away", "starting") else ""

    def since(self, now: float) -> float:
        """For how many seconds the source is away, or the stream is over; 0.0 else."""
        if self.ended is not None:
            return now - self.ended.at
        since = self.source.get("since", 0.0)
        return float(since) if self.state == "away" and isinstance(since, int | float) else 0.0

    def exited(self, code: int, why: str, now: float) -> None:
        """Its producer has ended for good. ``code``: negative for a signal."""
        self.down, self._exit = False, (code, why, now)

    def settle(self, now: float, sink: bool) -> bool:
        """Whether its end has come just now. ``sink``: it runs, and may have a word to say."""
        if self._exit is None or self.ended is not None:
            return False
        code, why, at = self._exit
        if self.result is None and code == Exit.OK and sink and now < at + WORD_S:
            return False
        self.ended = Ended(*self._verdict(code, why), now)
        return True

    def _verdict(self, code: int, why: str) -> tuple[Exit, str]:
        error = (self.result or {}).get("error")
        if error:
            return Exit.OUTPUT, error
        if code not in (Exit.OK, Exit.INCOMPLETE) and not self.leaving:
            known = code in set(Exit)
            return Exit(code) if known else Exit.LINK, why
        if self.leaving and not self.frames and self.result is None:
            return Exit.OK, ""  # it had not begun
        if self.result is None or (code != Exit.OK and not self.leaving):
            return Exit.INCOMPLETE, incomplete(self.result)
        states = self.result["states"]
        bad = states.get("failed") or states.get("lost")
        return (Exit.INCOMPLETE, incomplete(self.result)) if bad else (Exit.OK, "")

    def check(self) -> None:
        assert self.ended is None or self._exit is not None
        assert not (self.down and self._exit is not None)


class Streams:
    """All of them, in the order in which they came."""

    def __init__(self, streams: Iterable[Stream], now: float) -> None:
        self._lives = {stream.name: StreamLife(stream, now) for stream in streams}
        self._code = Exit.OK  # of streams that are no longer known
        self._dropped = 0  # what ``reached`` counts of them
        #: There has been another stream than the first one.
        self.several = len(self._lives) > 1

    def __iter__(self) -> Iterator[StreamLife]:
        return iter(list(self._lives.values()))

    def __len__(self) -> int:
        return len(self._lives)

    def get(self, name: str | None) -> StreamLife | None:
        return self._lives.get(name) if name is not None else None

    @property
    def configs(self) -> list[Stream]:
        return [life.config for life in self._lives.values()]

    @property
    def code(self) -> Exit:
        """The highest exit code of those that have ended, without those that were removed."""
        ended = (life.ended.code for life in self._lives.values() if life.ended is not None and not life.removed)
        return max((self._code, *ended))

    @property
    def over(self) -> bool:
        """Whether all have ended."""
        return all(life.ended is not None for life in self._lives.values())

    @property
    def reached(self) -> int:
        """Frames of all streams that need not be done again; it rises as long as one stream works."""
        return self._dropped + sum(life.reached for life in self._lives.values())

    def add(self, stream: Stream, now: float) -> None:
        assert stream.name not in self._lives
        self._lives[stream.name] = StreamLife(stream, now)
        self.several = True

    def drop(self, name: str) -> None:
        """Nothing of it is known any more."""
        life = self._lives.pop(name)
        self._dropped += life.reached
        if life.ended is not None and not life.removed:
            self._code = max(self._code, life.ended.code)

    def hear(self, child: str, record: dict[str, Any], now: float) -> None:
        """A status line of any part."""
        by_sink = child == "sink"
        life = self.get(record.get("stream") if by_sink else stream_in(child))
        if life is not None:
            life.hear(by_sink, record, now)

    def settle(self, now: float, sink: bool) -> list[StreamLife]:
        """Those that have come to their end."""
        return [life for life in self._lives.values() if life.settle(now, sink)]

    def stale(self) -> list[str]:
        """Of those that have ended, the oldest ones beyond MAX_ENDED."""
        ended = [name for name, life in self._lives.items() if life.ended is not None]
        return ended[: max(0, len(ended) - MAX_ENDED)]

    def check(self) -> None:
        for name, life in self._lives.items():
            assert life.name == name
            life.check()


def incomplete(result: dict[str, Any] | None) -> str:
    """One line for a stream that came to its end with gaps. ``result``: the ledger's entry."""
    if result is None:
        return f"stopped before the outputs were closed: {PLAYABLE}"
    states = result["states"]
    bad = {state: states[state] for state in ("failed", "lost") if states.get(state)}
    counts = " and ".join(f"{count} {state}" for state, count in bad.items()) or "some lost"
    reasons = ", ".join(f"{reason} {count}" for reason, count in result["reasons"].items())
    return f"{counts} of {result['frames']} frames" + (f" ({reasons})" if reasons else "")
