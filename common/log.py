"""Structured logs: one JSON object a line on standard error. Passwords in addresses are masked here, last of all.

Each line has ``time`` (seconds since 1970, UTC), ``level``, ``part``, ``name`` (the part's on its node, where it has
one), ``node`` (the host), ``pid`` and ``message``, and what it is about: :data:`FIELDS`. Writing never holds a part up:
a line that a full disk or a reader that hangs does not take is dropped and counted.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import socket
import time
from collections import Counter
from collections.abc import Mapping
from contextvars import ContextVar

from common.masking import mask as mask
from common.status import NAME_ENV

#: Fields that a record may carry in ``extra``.
FIELDS = ("stream", "epoch", "index", "worker", "peer", "kind", "count", "fatal", "exit", "output")
#: Seconds between two lines of the same kind in :class:`Seldom`.
SELDOM_S = 60.0
#: Most kinds that one :class:`Seldom` tells apart: some are named by peers. What is beyond is of the kind "other".
MAX_KINDS = 64
#: A pipe that can be written to takes so many bytes at once without making us wait.
PIECE = select.PIPE_BUF
#: So long a line waits, in seconds, for a reader that is slow; after one that was too slow none waits. At the end of
#: the process the last one waits longer.
PATIENCE_S, LAST_S = 0.05, 0.5

#: What this thread is about, beyond what each record says.
_ABOUT: ContextVar[Mapping[str, object]] = ContextVar("about")


def about(**fields: object) -> None:
    """From now on each line of this thread has these :data:`FIELDS`, where it does not say otherwise."""
    _ABOUT.set({**_ABOUT.get({}), **fields})


class JsonLines(logging.Formatter):
    """One JSON object a record. ``always``: :data:`FIELDS` of all of them, where they do not say otherwise."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self.always: dict[str, object] = {}
        self._who: dict[str, object] = {"part": part}
        if name := os.environ.get(NAME_ENV):
            self._who["name"] = name
        self._who |= {"node": socket.gethostname(), "pid": os.getpid()}

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            **self._who,
            "message": mask(record.getMessage()),
        }
        known = {**self.always, **_ABOUT.get({})}
        for name in FIELDS:
            if (value := getattr(record, name, known.get(name))) is not None:
                line[name] = mask(value) if isinstance(value, str) else value
        if record.exc_info:
            line["trace"] = mask(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str)


class Lines(logging.Handler):
    """Writes to file descriptor ``fd``, and neither waits nor fails. ``lines`` counts by level, ``lost`` what could not
    be written."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._rest = b""  # of a line that was begun
        self._slow = False  # the last line was not taken in time
        self.lines: Counter[str] = Counter()
        self.lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record).encode(errors="backslashreplace") + b"\n"
        except Exception:  # noqa: BLE001  arguments that do not fit the text: our bug, and no reason to crash
            self.lost += 1
            return
        self.lines[record.levelname.lower()] += 1
        if not self._end_begun(0.0 if self._slow else PATIENCE_S):
            self.lost += 1
            return
        left = self._write(line, 0.0 if self._slow else PATIENCE_S)
        if len(left) < len(line):
            self._rest = left
        else:
            self.lost += 1

    def _end_begun(self, patience: float) -> bool:
        """Write the rest of a line, so that there are whole ones, whatever was lost between them. False: it waits."""
        if self._rest:
            self._rest = self._write(self._rest, patience)
        return not self._rest

    def _write(self, data: bytes, patience: float) -> bytes:
        """What was not taken."""
        end = time.monotonic() + patience
        try:
            while data and self._ready(max(0.0, end - time.monotonic())):
                data = data[os.write(self._fd, data[:PIECE]) :]
        except OSError:  # the disk is full, or nobody reads any more
            pass
        self._slow = bool(data)
        return data

    def _ready(self, patience: float) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(patience * 1000))

    def flush(self) -> None:
        with self.lock or contextlib.nullcontext():
            self._end_begun(LAST_S)


def setup(part: str, level: str = "info") -> None:
    """Send all logging of this process to standard error as JSON lines."""
    handler = Lines(2)
    handler.setFormatter(JsonLines(part))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("libav").setLevel(logging.ERROR)


def always(**fields: object) -> None:
    """From now on each line of this process has these :data:`FIELDS`, where it does not say otherwise."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, JsonLines):
            handler.formatter.always.update(fields)


def written() -> tuple[Mapping[str, int], int]:
    """Lines logged so far, by level, and those that could not be written."""
    ours = [one for one in logging.getLogger().handlers if isinstance(one, Lines)]
    return (dict(ours[0].lines), ours[0].lost) if ours else ({}, 0)


class Seldom:
    """Counts events by kind and lets one a minute of each kind through to the log."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self.counts: dict[str, int] = {}
        self._said: dict[str, float] = {}

    def warn(self, kind: str, text: str, level: int = logging.WARNING, **extra: object) -> None:
        now = time.monotonic()
        if kind not in self.counts and len(self.counts) >= MAX_KINDS:
            for old in [one for one, at in self._said.items() if now - at >= SELDOM_S]:
                self._said.pop(old)
                self.counts.pop(old, None)
        if kind not in self.counts and len(self.counts) >= MAX_KINDS:
            kind = "other"
        self.counts[kind] = count = self.counts.get(kind, 0) + 1
        if now - self._said.get(kind, -SELDOM_S) >= SELDOM_S:
            self._said[kind] = now
            self._log.log(level, "%s", text, extra={"kind": kind, "count": count, **extra})
