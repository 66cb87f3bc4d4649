"""Structured logs: one JSON object a line on standard error. Passwords in addresses are masked here, last of all."""

from __future__ import annotations

import json
import logging
import sys
import time

from common.masking import mask as mask

#: Fields that a record may carry in ``extra``.
FIELDS = ("stream", "epoch", "index", "worker", "peer", "kind", "count", "fatal", "exit", "output")
#: Seconds between two lines of the same kind in :class:`Seldom`.
SELDOM_S = 60.0
#: Most kinds that one :class:`Seldom` tells apart: some are named by peers. What is beyond is of the kind "other".
MAX_KINDS = 64


class JsonLines(logging.Formatter):
    """One JSON object a record."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self._part = part

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "part": self._part,
            "message": mask(record.getMessage()),
        }
        for name in FIELDS:
            if (value := getattr(record, name, None)) is not None:
                line[name] = mask(value) if isinstance(value, str) else value
        if record.exc_info:
            line["trace"] = mask(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str)


def setup(part: str, level: str = "info") -> None:
    """Send all logging of this process to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(part))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("libav").setLevel(logging.ERROR)


class Seldom:
    """Counts events by kind and lets one a minute of each kind through to the log."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self.counts: dict[str, int] = {}
        self._said: dict[str, float] = {}

    def warn(self, kind: str, text: str, level: int = logging.WARNING, **extra: object) -> None:
        if kind not in self.counts and len(self.counts) >= MAX_KINDS:
            kind = "other"
        self.counts[kind] = count = self.counts.get(kind, 0) + 1
        now = time.monotonic()
        if now - self._said.get(kind, -SELDOM_S) >= SELDOM_S:
            self._said[kind] = now
            self._log.log(level, "%s", text, extra={"kind": kind, "count": count, **extra})
