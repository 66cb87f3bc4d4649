"""Conditions that last are named: once in the log when they have lasted, once when they are over, and in every status
line meanwhile. Pure: time is an argument, in seconds, and never goes back.

A condition that keeps coming and going is one trouble: it is named once it has held for ``after`` seconds in all, and
it is over once it has been gone for ``after`` seconds in one piece. ::

    troubles.set("no_worker", bool(models), now, f"no worker serves {', '.join(models)}")   # as often as you like
    log_troubles(log, troubles.said(now))
    status.say("progress", troubles=troubles.report(now), ...)
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol, TypedDict

#: Seconds that a condition has to hold before it is named, and to be gone before it is over.
AFTER_S = 1.0
#: Most lines for one name in ``MINUTE_S`` seconds. A trouble that is named is sure of its second line ("over").
MAX_LINES, MINUTE_S = 6, 60.0
#: Most names known at a time.
MAX_NAMES = 64
#: Longest text, in characters.
MAX_TEXT = 500


class Peer(Protocol):
    """A watched :class:`common.transport.Endpoint`."""

    @property
    def address(self) -> str: ...
    @property
    def connected(self) -> bool: ...
    @property
    def was_connected(self) -> bool: ...
    @property
    def full(self) -> bool: ...
    @property
    def refusal(self) -> str: ...


class Report(TypedDict):
    """A named trouble, for the status line. ``since``: how many seconds it lasts."""

    name: str
    text: str
    since: float


@dataclass(frozen=True, slots=True)
class Said:
    """A line for the log. ``since``: how many seconds it lasts, or has lasted where it is ``over``."""

    name: str
    text: str
    level: int
    since: float
    over: bool

    @property
    def line(self) -> str:
        return f"over after {self.since:.1f} s: {self.text}" if self.over else self.text


@dataclass(slots=True)
class _Trouble:
    """One name. It has an episode while ``began`` is set."""

    text: str = ""
    level: int = logging.WARNING
    began: float | None = None
    #: Since when it holds, or is gone, without a break.
    turned: float = 0.0
    active: bool = False
    #: Seconds that it held in this episode, up to ``turned``.
    held: float = 0.0
    named: bool = False
    spoken: bool = False
    #: Episodes that were not said, since the name had its lines already.
    unsaid: int = 0
    #: When lines were said, within the last minute.
    lines: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_LINES))


class Troubles:
    """All troubles of one part."""

    def __init__(self, after: float = AFTER_S) -> None:
        self._after = after
        self._troubles: dict[str, _Trouble] = {}
        self._out: deque[Said] = deque(maxlen=MAX_NAMES * MAX_LINES)
        self._now = 0.0
        #: Conditions that were not taken in, since too many names are known.
        self.refused = 0

    def set(self, name: str, active: bool, now: float, text: str = "", level: int = logging.WARNING) -> None:
        """The condition ``name`` holds now, or does not. ``text``: one line for a person; the newest one counts.

        ``level``: of the line that names it; its end is of level info.
        """
        self._advance(now)
        trouble = self._troubles.get(name)
        if trouble is None:
            if not active:
                return
            if len(self._troubles) >= MAX_NAMES:
                self.refused += 1
                return
            trouble = self._troubles[name] = _Trouble(text=name.replace("_", " "))
        if active:
            trouble.level = level
            trouble.text = text[:MAX_TEXT] or trouble.text
        if active == trouble.active:
            return
        if active:
            trouble.began = self._now if trouble.began is None else trouble.began
        else:
            trouble.held += self._now - trouble.turned
        trouble.active, trouble.turned = active, self._now

    def said(self, now: float) -> list[Said]:
        """What is to be logged since the last call."""
        self._advance(now)
        out, self._out = list(self._out), deque(maxlen=self._out.maxlen)
        return out

    def report(self, now: float) -> list[Report]:
        """The named troubles that are not over, the oldest first."""
        self._advance(now)
        named = [(one.began, name, one) for name, one in self._troubles.items() if one.named and one.began is not None]
        named.sort(key=lambda entry: entry[:2])
        return [Report(name=name, text=one.text, since=round(self._now - began, 1)) for began, name, one in named]

    def _advance(self, now: float) -> None:
        self._now = max(self._now, now)
        for name, trouble in list(self._troubles.items()):
            self._settle(name, trouble)
            if trouble.began is None and not trouble.lines and not trouble.unsaid:
                del self._troubles[name]

    def _settle(self, name: str, trouble: _Trouble) -> None:
        now = self._now
        while trouble.lines and now - trouble.lines[0] >= MINUTE_S:
            trouble.lines.popleft()
        if trouble.began is None:
            if not trouble.lines:
                trouble.unsaid = 0
            return
        held = trouble.held + (now - trouble.turned if trouble.active else 0.0)
        trouble.named = trouble.named or held >= self._after
        over = not trouble.active and now - trouble.turned >= self._after
        if trouble.named and not trouble.spoken and not over and len(trouble.lines) <= MAX_LINES - 2:
            again = f" (and {trouble.unsaid} times more, unsaid)" if trouble.unsaid else ""
            trouble.spoken, trouble.unsaid = True, 0
            trouble.lines.append(now)
            self._out.append(Said(name, trouble.text + again, trouble.level, now - trouble.began, over=False))
        if over:
            if trouble.spoken:
                trouble.lines.append(now)
                since = trouble.turned - trouble.began
                self._out.append(Said(name, trouble.text, logging.INFO, since, over=True))
            trouble.unsaid += trouble.named and not trouble.spoken
            trouble.began, trouble.held, trouble.named, trouble.spoken = None, 0.0, False, False

    def check(self) -> None:
        """Assert that what is kept is bounded and makes sense."""
        assert len(self._troubles) <= MAX_NAMES
        for trouble in self._troubles.values():
            assert len(trouble.text) <= MAX_TEXT
            assert len(trouble.lines) <= MAX_LINES
            assert trouble.turned <= self._now
            assert trouble.held >= 0
            if trouble.began is None:
                assert (trouble.active, trouble.named, trouble.spoken, trouble.held) == (False, False, False, 0.0)
            else:
                assert trouble.began <= trouble.turned
                assert trouble.held <= trouble.turned - trouble.began + 1e-6
                assert trouble.named or not trouble.spoken


def log_troubles(log: logging.Logger, said: Iterable[Said], **extra: object) -> None:
    """Log what :meth:`Troubles.said` returned."""
    for one in said:
        log.log(one.level, "%s", one.line, extra={"kind": one.name, **extra})


def set_away(troubles: Troubles, name: str, peer: Peer, who: str, now: float) -> None:
    """Set the trouble ``name`` where ``peer``, called ``who`` in the text, is not there or takes nothing.

    One that was never there is being started, as a rule: that is no reason for a warning, only for a word.
    """
    connected = peer.connected
    silent, level = ("does not answer", logging.WARNING) if peer.was_connected else ("is not there yet", logging.INFO)
    text = f"{who} takes nothing" if connected else f"{who} at {peer.address} {silent}"
    if why := peer.refusal:
        text, level = why, logging.DEBUG  # the endpoint has logged it
    troubles.set(name, not connected or peer.full, now, text, level)
