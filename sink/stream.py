"""One stream in the sink: joins the cores (link, order, ledger) with the render thread. No sockets here.

A session of a producer has one epoch. What comes with another epoch is counted and dropped.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

from common import messages as m
from common.config import Stream
from common.errors import PeerError
from common.log import Seldom
from common.media import unpack
from sink.inlet import Arrival, Inlet
from sink.ledger import Ledger, State
from sink.render import Finished, Outcome, Renderer
from sink.reorder import Decision, Reorder
from sink.studio import Studio

log = logging.getLogger(__name__)


class SinkStream:
    """The life of one epoch, from Hello to Closed. Raises PeerError where the Hello's tracks do not open."""

    def __init__(self, config: Stream, hello: m.Hello, payload: bytes, epoch: int, notify: Callable[[], None]) -> None:
        self.config, self.hello, self.epoch = config, hello, epoch
        if hello.tracks[0].kind != "video" or any(track.kind != "audio" for track in hello.tracks[1:]):
            raise PeerError("tracks", "the first track must be the picture, the others sound")
        self._inlet = Inlet()
        self._reorder = Reorder(hello.mode, hello.latency, config.carry, Fraction(*hello.video.time_base))
        self.ledger = Ledger()
        studio = Studio(config, hello, epoch, unpack(hello.tracks, payload))
        self.wants_media = studio.wants_media
        self._renderer = Renderer(studio, notify)
        self._end: m.End | None = None
        self._ended = False
        self._resolved = self._durable = -1
        self._progressed = False
        self._held_up = False  # messages were not accepted, and are to be asked for when there is room again
        self.counts: Counter[str] = Counter()
        self._failures = Seldom(log)
        self.closed: m.Closed | None = None

    @property
    def resolved(self) -> int:
        return self._resolved

    def on_link(self, message: m.Packet | m.Notice | m.End, payload: bytes, now: float) -> None:
        """A numbered message of the producer."""
        if self._ended:  # given up: what comes now could no longer be shown or counted
            self.counts["after_end"] += 1
            return
        if self._renderer.full:  # not accepted: it will be sent again when we have caught up
            self._held_up = True
            self.counts["held_up"] += 1
            return
        if self._inlet.arrived(message.link) is not Arrival.NEW:
            return
        if isinstance(message, m.Packet):
            if message.track >= len(self.hello.tracks):
                raise PeerError("track", f"packet of track {message.track}, Hello named {len(self.hello.tracks)}")
            self._renderer.packet(message, bytes(payload))
        elif isinstance(message, m.Notice):
            if message.index != self._reorder.announced:
                raise PeerError("index", f"notice of frame {message.index}, expected {self._reorder.announced}")
            self.ledger.announce(message.index)
            self._reorder.notice(message, now)
            self._renderer.announce(message)
        else:
            self._end = message

    def on_answer(self, answer: m.Result | m.GaveUp | m.Expired) -> None:
        """A worker's result or the broker's word."""
        if answer.epoch != self.epoch:
            self.counts["other_epoch"] += 1
            return
        if isinstance(answer, m.GaveUp):
            why = f"{answer.reason}: {answer.detail}" if answer.detail else answer.reason
            self._failures.warn(
                answer.reason, f"frame {answer.index} failed: {why}", stream=self.config.name, index=answer.index
            )
        self._reorder.answer(answer)
        self._progressed = True  # the producer paces itself by the time that answers take

    def advance(self, now: float) -> None:
        """Take the decisions that can be taken, fetch what the render thread has done."""
        self._send(self._reorder.decide(now))
        if self._end is not None and not self._ended and self._reorder.next > self._end.last:
            self._ended = True
            self._renderer.end()
        for outcome in self._renderer.outcomes():
            if isinstance(outcome, Finished):
                self._finish(outcome)
            else:
                self._settle(outcome)
        if self._renderer.dead and not self._ended:
            self.give_up("no_output")

    def give_up(self, reason: str) -> None:
        """Nothing more is waited for: what is not decided is lost, the outputs are closed."""
        self._send(self._reorder.give_up(reason))
        if not self._ended:
            self._ended = True
            self._renderer.end()

    def next_deadline(self) -> float | None:
        return self._reorder.next_deadline()

    def ack(self, now: float) -> m.Ack | None:
        """The acknowledgement to send now, if one is due."""
        if self._held_up and not self._renderer.full:
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
        )

    def progress(self) -> dict[str, Any]:
        """For the status line."""
        return {
            "stream": self.config.name,
            "frames": self.ledger.announced,
            "resolved": self._resolved + 1,
            "states": self.ledger.states,
        }

    def _send(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            self._renderer.decide(decision)

    def _settle(self, outcome: Outcome) -> None:
        self.ledger.settle(outcome.index, outcome.state, outcome.reason)
        self._resolved, self._durable = outcome.index, outcome.durable
        self._progressed = True

    def _finish(self, finished: Finished) -> None:
        if finished.crash is not None:
            raise finished.crash
        self._durable = self._resolved
        error = self._write_ledger()
        error = finished.error or error
        self.check()
        self.closed = m.Closed(stream=self.config.name, epoch=self.epoch, states=self.ledger.states, error=error[:2000])

    def report(self) -> dict[str, Any]:
        """This stream's entry in the ledger file."""
        repairs = dict(self._end.repairs) if self._end is not None else {}
        parts = [output.path for output in self.config.outputs if Path(output.path).exists()]
        return self.ledger.report(self.config.name, repairs, parts)

    def _write_ledger(self) -> str:
        if self.config.ledger is None or not self.ledger.announced:  # no frame, no output, no ledger
            return ""
        path = Path(self.config.ledger)
        try:
            path.write_text(json.dumps({"streams": [self.report()]}, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            return f"cannot write {path}: {error.strerror}"
        return ""

    def check(self) -> None:
        self._inlet.check()
        self._reorder.check()
        self.ledger.check()
        assert State.PENDING not in self.ledger.states or not self._ended or self.closed is None
