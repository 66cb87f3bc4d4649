"""What ``headrace streams`` asks of a running fleet: streams are listed, added and removed, the others go on.

Nothing here waits. A stream that is removed is told to come to its end; when it has, and the sink has forgotten it, it
is forgotten here and who asked gets the answer.
"""

from __future__ import annotations

import contextlib
import os
from typing import Protocol

from common import config
from common.errors import LinkError, ModelError, OutputError, UsageError
from common.log import mask
from deploy.ailing import Ailing
from deploy.children import Said
from deploy.control import Add, Answer, List, Look, OutputRow, Pause, Peer, Remove, Request, Row, Server
from deploy.places import Places
from deploy.streams import StreamLife, Streams, part_of

#: Most streams of one fleet, those that have ended included.
MAX_STREAMS = 256
#: The sink looks at the configuration several times a second. So long, in seconds, its word that it has forgotten a
#: stream is waited for.
FORGET_S = 5.0
#: Where the configuration cannot be written, the next try is so many seconds later.
WRITE_S = 1.0


class Fleet(Protocol):
    """The run, as far as it is managed from outside."""

    @property
    def streams(self) -> Streams: ...
    @property
    def ailing(self) -> Ailing: ...
    @property
    def stopping(self) -> bool: ...
    @property
    def has_sink(self) -> bool: ...
    def note(self, text: str) -> None: ...
    def write(self) -> None: ...
    def start(self, name: str) -> None: ...
    def drain(self, life: StreamLife) -> None: ...
    def kill(self, *names: str) -> None: ...
    def forget(self, life: StreamLife) -> None: ...


class _Leaving:
    """A stream that is being removed: who is to be told, when it is killed, when the sink is not waited for."""

    def __init__(self, kill_at: float) -> None:
        self.kill_at = kill_at
        self.forget_at: float | None = None
        self.forgotten = False
        self.waiting: list[Peer] = []


class Manager:
    """``run`` is the fleet, ``known`` its configuration at the start, ``name`` what it is called."""

    def __init__(self, run: Fleet, known: config.Fleet, name: str, server: Server) -> None:
        self._run, self._known, self._name, self._server = run, known, name, server
        self._models = [known.workers.model]
        self._leaving: dict[str, _Leaving] = {}
        self._unwritten, self._write_at = "", 0.0  # why the configuration could not be written, and when to try again

    def serve(self, now: float) -> None:
        """Answer what was asked."""
        for peer, request in self._server.poll(now):
            answer = self._do(peer, request, now)
            if answer is not None:
                self._server.answer(peer, answer)

    def hear(self, said: Said) -> None:
        """A status line of a part."""
        if said.child == "broker" and isinstance(models := said.record.get("models"), list):
            self._models = [self._known.workers.model, *(model for model in models if isinstance(model, str))]
        if said.child == "sink" and said.record.get("event") == "forgotten":
            leaving = self._leaving.get(said.record.get("stream", ""))
            if leaving is not None:
                leaving.forgotten = True

    def tidy(self, now: float) -> None:
        """Go on with what is being removed, and forget the oldest of too many streams that have ended."""
        for name in self._run.streams.stale():
            self._leaving.setdefault(name, _Leaving(now))
        for name, leaving in list(self._leaving.items()):
            life = self._run.streams.get(name)
            assert life is not None
            if life.ended is None:
                if now > leaving.kill_at:
                    self._run.kill(part_of(name))
            elif leaving.forget_at is None:
                life.dropped = True
                if self._write(now):
                    leaving.forget_at = now + FORGET_S
                else:
                    self._put_off(life, leaving)
            elif leaving.forgotten or not self._run.has_sink or now > leaving.forget_at:
                self._gone(life)

    def close(self) -> None:
        """The fleet ends."""
        last = self._run.streams.over and not self._run.stopping
        for name, leaving in list(self._leaving.items()):
            life = self._run.streams.get(name)
            if life is not None and life.ended is not None:
                self._tell(life, "; it was the last one, the fleet ends" if last else "; the fleet ends")
            else:
                text = f"the fleet ends, and {name} with it"
                self._answer(leaving, Answer(error=text, exit_code=LinkError.exit_code))
        self._server.close()

    def _write(self, now: float) -> bool:
        """Whether the configuration is written. Where it cannot be, that is said once, and tried again."""
        if self._unwritten and now < self._write_at:
            return False
        before, self._unwritten = self._unwritten, ""
        try:
            self._run.write()
        except OSError as error:
            self._unwritten, self._write_at = error.strerror or str(error), now + WRITE_S
            if self._unwritten != before:
                self._run.note(f"the fleet's configuration cannot be written: {self._unwritten}; it is tried again")
        return not self._unwritten

    def _put_off(self, life: StreamLife, leaving: _Leaving) -> None:
        """It has ended, but the sink cannot be told to forget it."""
        text = (
            f"{life.name} has ended, but is not forgotten yet, since the fleet's configuration cannot be written: "
            f"{self._unwritten}"
        )
        self._answer(leaving, Answer(error=text, exit_code=OutputError.exit_code))

    def _do(self, peer: Peer, request: Request, now: float) -> Answer | None:
        if isinstance(request, List):
            rows = [_row(life, self._run.ailing, now) for life in self._run.streams]
            return Answer(fleet=self._name, pid=os.getpid(), streams=rows)
        if isinstance(request, Look):
            return _refusal("this fleet was started by headrace run: see headrace streams list")
        if isinstance(request, Pause):
            return _refusal("this fleet was started by headrace run: streams rest only where headrace up runs them")
        if self._run.stopping or self._run.streams.over:
            return Answer(error="the fleet is ending", exit_code=LinkError.exit_code)
        return self._add(request, now) if isinstance(request, Add) else self._remove(peer, request, now)

    def _add(self, request: Add, now: float) -> Answer:
        streams, new = self._run.streams, request.streams
        if len(streams) + len(new) > MAX_STREAMS:
            return _refusal(f"a fleet has at most {MAX_STREAMS} streams, this one has {len(streams)}: remove some")
        places = Places(streams.configs)
        for stream in new:
            if problem := places.add(stream):
                life = streams.get(stream.name)
                ended = life is not None and life.ended is not None
                hint = f"; it has ended: headrace streams remove {stream.name}" if ended else ""
                return _refusal(problem + hint)
            if stream.model not in self._models:
                served = ", ".join(dict.fromkeys(self._models))
                text = f"no worker of this fleet serves {stream.model!r}, but {served}"
                return Answer(error=text, exit_code=ModelError.exit_code)
        for stream in new:
            streams.add(stream, now)
        try:
            self._run.write()
            for stream in new:
                self._run.start(part_of(stream.name))
        except OSError as error:
            self._undo(new)
            names = ", ".join(stream.name for stream in new)
            text = f"{names} cannot be added now: {error.strerror or error}"
            return Answer(error=text, exit_code=LinkError.exit_code)
        return Answer(done=f"added {', '.join(stream.name for stream in new)}")

    def _undo(self, new: list[config.Stream]) -> None:
        """As if they had never been added."""
        self._run.kill(*(part_of(stream.name) for stream in new))
        for stream in new:
            if (life := self._run.streams.get(stream.name)) is not None:
                self._run.forget(life)
        with contextlib.suppress(OSError):  # it is written again before it matters
            self._run.write()

    def _remove(self, peer: Peer, request: Remove, now: float) -> Answer | None:
        life = self._run.streams.get(request.stream)
        if life is None:
            names = ", ".join(one.name for one in self._run.streams)
            return _refusal(f"there is no stream {request.stream!r}: there are {names}")
        leaving = self._leaving.setdefault(life.name, _Leaving(now + request.wait))
        leaving.kill_at = min(leaving.kill_at, now + request.wait)
        leaving.waiting.append(peer)
        life.removed = True
        if life.ended is None and not life.leaving:
            self._run.drain(life)
        return None

    def _gone(self, life: StreamLife) -> None:
        """Neither the sink nor we know it any more."""
        self._tell(life, "")
        self._run.forget(life)

    def _tell(self, life: StreamLife, more: str) -> None:
        assert life.ended is not None
        why = f"; {life.ended.why}" if life.ended.why else ""
        text = f"removed {life.name}, {life.frames} frames{why}{more}"
        self._answer(self._leaving.pop(life.name), Answer(done=text))

    def _answer(self, leaving: _Leaving, answer: Answer) -> None:
        for peer in leaving.waiting:
            self._server.answer(peer, answer)
        leaving.waiting.clear()


def _refusal(text: str) -> Answer:
    return Answer(error=text, exit_code=UsageError.exit_code)


def _row(life: StreamLife, ailing: Ailing, now: float) -> Row:
    stream = life.config
    return Row(
        name=stream.name,
        source=mask(stream.source),
        model=stream.model,
        mode=stream.mode,
        state=life.state,
        why=mask(life.why),
        since=round(life.since(now), 1),
        frames=life.resolved,
        states=life.states,
        annotated=None if life.share is None else round(life.share, 4),
        fps=round(life.rate(now), 2),
        outputs=[OutputRow(mask(output.path), output.kind) for output in stream.outputs],
        troubles=ailing.words_of(stream.name, part_of(stream.name), now),
    )
