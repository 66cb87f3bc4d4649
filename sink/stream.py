"""One stream in the sink: joins the cores (link, order, ledger) with the render thread. No sockets here.

A session of a producer has one epoch. What comes with another epoch is counted and dropped. A stream ends in one of
three ways: closed (its ledger is final), retired (another session goes on with it), or held up by a full disk.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from common import messages as m
from common.config import Stream
from common.errors import PeerError
from common.log import Seldom
from common.media import Track, unpack
from sink.checkpoint import Checkpoint, LedgerFile
from sink.inlet import Arrival, Inlet
from sink.ledger import Books, Ledger, State
from sink.overload import Overload
from sink.preview import Preview
from sink.reel import Changed
from sink.render import Finished, Marked, Outcome, Renderer
from sink.reorder import Decision, Reorder
from sink.stages import Stages
from sink.studio import Studio
from sink.tally import Tally
from sink.times import OutputTimes

#: Frames that may be announced and not decided, whatever the window: a live producer's exceeds it now and then.
MAX_ANNOUNCED = 65536
#: A message that makes no sense is asked for so many times more.
MAX_REFUSALS = 5
#: Placeholders that may wait for frames before them to be decided; beyond, the oldest are left out and counted.
MAX_FILLERS = 256

#: Why a live stream is given up with which another session goes on.
SUPERSEDED = "superseded"

Numbered = m.Packet | m.Notice | m.Change | m.Filler | m.End

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A placeholder that comes before frame ``index``. ``changes``: how often the source had changed by then."""

    index: int
    filler: m.Filler
    changes: int


class SinkStream:
    """The life of one epoch, from Hello to its end. Raises PeerError where the Hello's tracks do not open.

    ``checkpoint``: what it begins with; ``books.frames`` in it is the index of the first frame that it wants.
    """

    def __init__(
        self,
        config: Stream,
        hello: m.Hello,
        payload: bytes,
        checkpoint: Checkpoint,
        notify: Callable[[], None],
        tally: Tally | None = None,
        preview: Preview | None = None,
    ) -> None:
        self.config, self.hello, self.epoch = config, hello, checkpoint.epoch
        _check_kinds(hello.tracks)
        self.resume = checkpoint.books.frames
        self.checkpoint = checkpoint
        self._inlet = Inlet()
        base = Fraction(*hello.video.time_base)
        self._times = OutputTimes(base)
        self._reorder = Reorder(hello.mode, hello.latency, config.carry, base, self.resume)
        self.ledger = Ledger(checkpoint.books)
        self._tally = tally or Tally()
        self._stages = Stages(self._tally)
        tracks, again = unpack(hello.tracks, payload), self.resume > 0
        studio = Studio(config, hello, self.epoch, tracks, checkpoint.marks, again, preview)
        self.wants_media = studio.wants_media
        self._tracks = len(hello.tracks)
        self._end: m.End | None = None
        self._resolved = self._durable = self.resume - 1
        self._file = LedgerFile(config)
        self._save()
        overload = Overload(hello.latency if hello.mode == "live" else None)
        self._renderer = Renderer(studio, notify, overload, config.name)
        self._ended = self._retired = False
        self._progressed = False
        self._most = max(MAX_ANNOUNCED, 4 * config.window)
        self._refusals = 0  # of the message that is expected next
        self._held_up = False  # messages were not accepted, and are to be asked for when there is room again
        self._fillers: deque[_Waiting] = deque()
        self._changes = 0
        self._back = False  # the source has changed and gave no picture since
        self.counts: Counter[str] = Counter()
        self._failures = Seldom(log)
        self.closed: m.Closed | None = None
        #: What ended the render thread, None where it has not crashed.
        self.crashed: BaseException | None = None
        #: Nothing more comes of it; ``checkpoint`` is what another epoch begins with.
        self.over = False
        #: Why it cannot go on before there is space on a disk, "" where it can.
        self.full = ""

    @property
    def resolved(self) -> int:
        return self._resolved

    def on_link(self, message: Numbered, payload: bytes, now: float) -> None:
        """A numbered message of the producer. Raises PeerError where it makes no sense; it is asked for again."""
        if self._ended:  # given up: what comes now could no longer be shown or counted
            self.counts["after_end"] += 1
            return
        if self._renderer.full or self._reorder.waiting > self._most:  # not accepted: to be sent again when we can
            self._held_up = True
            self.counts["held_up"] += 1
            return
        if self._inlet.classify(message.link) is Arrival.NEW:
            try:
                self._check(message)
                tracks = self._new_tracks(message, payload) if isinstance(message, m.Change) else []
            except PeerError:
                self._refuse()
                raise
        if self._inlet.arrived(message.link) is Arrival.NEW:
            self._refusals = 0
            if isinstance(message, m.Change):
                self._change(message, tracks, len(payload))
            else:
                self._take(message, payload, now)

    def _new_tracks(self, change: m.Change, payload: bytes) -> list[Track]:
        """The tracks of a source that was opened again. Raises PeerError."""
        _check_kinds(change.tracks)
        if change.video.time_base != self.hello.video.time_base:
            raise PeerError("time_base", "the time base of the output changed")
        return unpack(change.tracks, payload) if self.wants_media else []

    def _change(self, change: m.Change, tracks: list[Track], size: int) -> None:
        self._tracks = len(change.tracks)
        self._changes += 1
        self._back = True
        self._reorder.change()
        self._renderer.change(Changed(self._reorder.announced, change.video, tracks, change.threads, size))

    def _check(self, message: Numbered) -> None:
        """Raises PeerError where the next message in order makes no sense."""
        expected = self._reorder.announced
        if isinstance(message, m.Packet):
            if message.track >= self._tracks:
                raise PeerError("track", f"packet of track {message.track} of {self._tracks}")
        elif isinstance(message, m.Filler):
            self._times.filler(message.out)
        elif isinstance(message, m.Notice):
            if message.index != expected:
                raise PeerError("index", f"notice of frame {message.index}, expected {expected}")
            if message.count > 1 and message.fate != "gap":
                raise PeerError("count", f"a notice of {message.count} frames that are {message.fate}")
            self._times.take(message)  # the last of the checks: it remembers
        elif isinstance(message, m.End) and message.last != expected - 1:
            raise PeerError("index", f"the end after frame {message.last}, announced were those before {expected}")

    def _refuse(self) -> None:
        """Damaged on its way, it comes again whole. If it does not, what follows builds on it."""
        self._refusals += 1
        self._inlet.gap = True
        if self._refusals > MAX_REFUSALS:
            self.give_up("refused")

    def _take(self, message: m.Packet | m.Notice | m.Filler | m.End, payload: bytes, now: float) -> None:
        """The next message in order."""
        if isinstance(message, m.Packet):
            self._renderer.packet(message, bytes(payload))
        elif isinstance(message, m.Notice):
            self._back = False
            self.ledger.announce(message.index, message.count)
            self._reorder.notice(message, now)
            self._stages.noticed(message, now)
            self._renderer.announce(message)
        elif isinstance(message, m.Filler):
            if len(self._fillers) == MAX_FILLERS:
                self._fillers.popleft()
                self.counts["fillers_left_out"] += 1
            self._fillers.append(_Waiting(self._reorder.announced, message, -1 if self._back else self._changes))
        else:
            self._end = message

    def on_answer(self, answer: m.Result | m.GaveUp | m.Expired, now: float) -> None:
        """A worker's result or the broker's word."""
        if answer.epoch != self.epoch:
            self.counts["other_epoch"] += 1
            return
        if isinstance(answer, m.GaveUp):
            why = f"{answer.reason}: {answer.detail}" if answer.detail else answer.reason
            frame: dict[str, Any] = {"stream": self.config.name, "epoch": self.epoch, "index": answer.index}
            self._failures.warn(answer.reason, f"frame {answer.index} failed: {why}", **frame)
        elif isinstance(answer, m.Result):
            self._stages.answered(answer, now)
        self._reorder.answer(answer, now)
        self._progressed = True  # the producer paces itself by the time that answers take

    def advance(self, now: float) -> None:
        """Take the decisions that can be taken, fetch what the render thread has done."""
        if not self._ended:
            self._send(self._reorder.decide(now), now)
            self._fill(self._reorder.next)
            if self._end is not None and self._reorder.next > self._end.last:
                self._finish_rendering()
        for outcome in self._renderer.outcomes():
            if isinstance(outcome, Outcome):
                self._settle(outcome, now)
            elif isinstance(outcome, Marked):
                self._mark(outcome)
            else:
                self._finish(outcome)
        if self._renderer.dead and not self._ended:
            self.give_up("no_output")

    def give_up(self, reason: str) -> None:
        """Nothing more is waited for: what is not decided is lost, the outputs are closed."""
        if not self._ended:
            self._send(self._reorder.give_up(reason), None)
            self._finish_rendering(goes_on=reason == SUPERSEDED)

    def retire(self, successor: bool = False) -> None:
        """Another session goes on with this stream. Lossless: at the first frame that is not decided; live: after it,
        since nobody will bring it again. ``successor``: so does another sink, and the producer is not told that it is
        over."""
        self._retired = self._retired or successor
        if self.hello.mode == "live":
            self.give_up(SUPERSEDED)
        elif not self._ended:
            self._retired = True
            self._finish_rendering(goes_on=True)

    def next_deadline(self) -> float | None:
        return None if self._ended else self._reorder.next_deadline()

    def ack(self, now: float) -> m.Ack | None:
        """The acknowledgement to send now, if one is due."""
        if self._held_up and not self._renderer.full and self._reorder.waiting <= self._most:
            self._inlet.gap, self._held_up = True, False
        if not self._inlet.ack_due(now, self._progressed):
            return None
        self._inlet.acked(now)
        self._progressed = False
        return m.Ack(
            stream=self.config.name,
            epoch=self.epoch,
            link=self._inlet.link,
            gap=self._inlet.gap,
            received=self._reorder.received(self._resolved),
            resolved=self._resolved,
            durable=self._durable,
            late=self._reorder.late,
        )

    def progress(self) -> dict[str, Any]:
        """For the status line."""
        return {
            "stream": self.config.name,
            "frames": self.ledger.announced,
            "resolved": self._resolved + 1,
            "durable": self._durable + 1,
            "states": self.ledger.states,
            "ages": self._reorder.ages(),
            "stages": self._stages.summary(),
            "outputs": self.sent(),
        }

    def sent(self) -> list[dict[str, Any]]:
        """How it stands with each network output."""
        return self._renderer.sent()

    def report(self) -> dict[str, Any]:
        """This stream's entry in the ledger file, and for the status line how old the results were."""
        return self.ledger.report(self.config.name, self._repairs, self.checkpoint.parts) | {
            "ages": self._reorder.ages(),
            "stages": self._stages.summary(),
            "outputs": self._renderer.sent(),
        }

    @property
    def failed(self) -> str:
        """The first output that has failed for good, "" if none has."""
        return self._renderer.error

    def troubles(self) -> dict[str, str]:
        """What is wrong with outputs that may recover: address → a line for a person."""
        return {} if self.over else self._renderer.troubles()

    def stuck(self, now: float) -> float:
        """For how many seconds the render thread has been at one frame."""
        return self._renderer.stuck(now)

    @property
    def _repairs(self) -> dict[str, int]:
        return dict(self._end.repairs) if self._end is not None else {}

    def _send(self, decisions: list[Decision], now: float | None) -> None:
        for decision in decisions:
            if now is not None:
                self._stages.decided(decision.index, now)
            self._fill(decision.index)
            self._renderer.decide(decision)

    def _fill(self, index: int) -> None:
        """Show the placeholders that come before frame ``index``."""
        while self._fillers and self._fillers[0].index <= index:
            one = self._fillers.popleft()
            # It waited for frames to be decided, and the sound of a source that is back may be on its way by now.
            self._renderer.fill(one.filler, away=one.changes == self._changes)

    def _finish_rendering(self, goes_on: bool = False) -> None:
        self._ended = True
        self._renderer.end(goes_on)

    def _settle(self, outcome: Outcome, now: float) -> None:
        self._stages.written(outcome.index, now)
        self.ledger.settle(outcome.index, outcome.state, outcome.reason)
        self._tally.settle(outcome.state, outcome.reason, now)
        if outcome.seconds:
            self._tally.spent("render", outcome.seconds, now)
        self._resolved = outcome.index
        self._progressed = True

    def _mark(self, marked: Marked) -> None:
        books = self.ledger.durable(marked.durable)
        if books != self.checkpoint.books or marked.marks != self.checkpoint.marks:
            self.checkpoint = self._next_checkpoint(books, marked)
            self._save()

    def _next_checkpoint(self, books: Books, marked: Marked, finished: bool = False) -> Checkpoint:
        return Checkpoint(
            run=self.checkpoint.run,
            epoch=self.epoch,
            books=books,
            marks=marked.marks,
            finished=finished,
            error=self._renderer.error,
        )

    def _save(self, stages: dict[str, Any] | None = None) -> str:
        """Write the checkpoint; only what is written is durable. Returns what went wrong."""
        error = self._file.save(self.checkpoint, self._repairs, stages)
        if not error:
            self._durable = self.checkpoint.books.frames - 1
        return error

    def _finish(self, finished: Finished) -> None:
        self._ended = self.over = True
        if finished.crash is not None:
            self.crashed = finished.crash
            return
        if finished.full:
            self.full = finished.full
            return
        books = self.ledger.durable(self._resolved)
        natural = self._end is not None and not self._end.reason and not self._retired
        last = Marked(self._resolved, self.checkpoint.marks)
        self.checkpoint = self._next_checkpoint(books, last, natural)
        error = self._save(self._stages.summary()) if self.ledger.announced else self._file.drop()
        if self._retired:
            return
        error = finished.error or error
        self.check()
        self.closed = m.Closed(stream=self.config.name, epoch=self.epoch, states=self.ledger.states, error=error[:2000])

    def check(self) -> None:
        self._inlet.check()
        self._times.check()
        self._reorder.check()
        self.ledger.check()
        self._stages.check()
        assert len(self._fillers) <= MAX_FILLERS
        assert State.PENDING not in self.ledger.states or not self._ended or self.closed is None


def _check_kinds(tracks: Sequence[m.TrackInfo]) -> None:
    """Raises PeerError."""
    if tracks[0].kind != "video" or any(track.kind != "audio" for track in tracks[1:]):
        raise PeerError("tracks", "the first track must be the picture, the others sound")
