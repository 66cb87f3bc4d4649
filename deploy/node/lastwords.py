"""Why a part ended, in its own words: the end of its log."""

from __future__ import annotations

import json
from pathlib import Path

from common.log import mask

#: So many bytes of a log's end are looked at.
TAIL = 32 * 1024
#: Longest line that is told, in characters.
MAX_TOLD = 500
_BAD = ("error", "critical")


def last_words(log: Path) -> str:
    """The last error that it logged, else the last line that was no log record (the end of an interpreter's traceback,
    or what a library printed), else ""."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - TAIL))
            lines = file.read(TAIL).decode(errors="replace").splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            if line.strip():
                return mask(line.strip())[:MAX_TOLD]
        elif record.get("fatal") or record.get("level") in _BAD:
            return str(record.get("message", ""))[:MAX_TOLD]
    return ""
