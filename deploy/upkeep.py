"""A run's private folder is seen to while the run goes on: what somebody has removed of it is made again.

Sockets of parts cannot be: who is connected stays so, but a part that starts would look for them in vain. So the parts
that own them are started again before the next one that would need them, and not sooner.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from pathlib import Path

from common import config
from deploy.control import Server
from deploy.folder import Home

#: The folder is looked at so often, in seconds.
MEND_S = 1.0


class Upkeep:
    """``alive``: names of the parts that run; ``note`` tells a person."""

    def __init__(
        self, home: Home, server: Server, fleet: config.Fleet, alive: Container[str], note: Callable[[str], None]
    ) -> None:
        self._home, self._server, self._alive, self._note = home, server, alive, note
        broker, sink = fleet.broker, fleet.sink
        self._sockets = {"broker": (broker.frames, broker.workers, broker.news), "sink": (sink.media, sink.results)}
        self._cut_off: set[str] = set()
        self._next, self._failed = 0.0, ""

    def mend(self) -> None:
        """Make again what is gone. Raises OSError."""
        mended = self._home.mend()
        if not (self._server.mend() or mended):
            return
        for part, addresses in self._sockets.items():
            if part in self._alive and not all(map(_is_there, addresses)):
                self._cut_off.add(part)
        self._note(f"the run's private folder {self._home.path} had been removed, and is made again")

    def look_after(self, now: float) -> None:
        """Mend, now and then; where that fails, say so once."""
        if now < self._next:
            return
        self._next, failed = now + MEND_S, ""
        try:
            self.mend()
        except OSError as error:
            failed = f"the run's private folder is gone and cannot be made again: {reason_of(error)}"
        if failed and failed != self._failed:
            self._note(f"{failed}; what runs goes on, but no part can be started again")
        self._failed = failed

    def in_the_way(self, name: str) -> list[str]:
        """Parts, named once, that must be started again before the part ``name`` can reach them."""
        parts = sorted(self._cut_off - {name})
        self._cut_off.clear()
        if parts:
            self._note(f"{' and '.join(parts)} cannot be reached any more, and must be started again")
        return parts


def _is_there(address: str) -> bool:
    """Whether the socket of an ``ipc://`` address has a file; others have none."""
    scheme, _, path = address.partition("://")
    return scheme != "ipc" or Path(path).exists()


def reason_of(error: OSError) -> str:
    """In words, for a line."""
    return f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
