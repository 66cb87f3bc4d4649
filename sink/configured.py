"""The streams that the configuration names now: its file is read again when it has changed. Only ``[[streams]]`` count;
what else has changed takes effect with the next start.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import msgspec

from common.config import Fleet, Stream, load
from common.errors import UsageError

#: The file is looked at so often, in seconds, and at once where somebody names a stream that is not known, but not more
#: often than ``LEAST_S``.
LOOK_S, LEAST_S = 0.5, 0.1

log = logging.getLogger(__name__)


class Configured:
    """``fleet`` as it was read at the start from ``path``; None: from no file, it never changes."""

    def __init__(self, fleet: Fleet, path: Path | None = None) -> None:
        self.fleet = fleet
        self._path = path
        # It may have changed since it was read, so the first look reads it again.
        self._state: tuple[int, ...] = ()
        self._looked = float("-inf")

    @property
    def names(self) -> set[str]:
        return {stream.name for stream in self.fleet.streams}

    def find(self, name: str, now: float) -> Stream | None:
        """The stream of that name; None where the file does not name it even now."""
        if name not in self.names:
            self.look(now, LEAST_S)
        return next((stream for stream in self.fleet.streams if stream.name == name), None)

    def look(self, now: float, every: float = LOOK_S) -> None:
        """Read the file again, if it is time to and it has changed. A broken one changes nothing and is named."""
        if self._path is None or now < self._looked + every:
            return
        self._looked = now
        try:
            found = os.stat(self._path)
            state = (found.st_mtime_ns, found.st_size, found.st_ino)
            if state == self._state:
                return
            self._state = state
            fleet = load(self._path)
        except OSError:  # it is being replaced, or is gone: as long as we live, we go by what we have
            return
        except UsageError as error:
            log.warning("the configuration has changed and cannot be read, the old one counts: %s", error)
            return
        self.fleet = msgspec.structs.replace(self.fleet, streams=fleet.streams)
