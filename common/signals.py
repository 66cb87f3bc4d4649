"""The terminal's signals, and signals in words."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

#: What a terminal sends to all of its processes: Ctrl-C, and that it is gone. What is to become of our children then is
#: our business.
TERMINAL = (signal.SIGINT, signal.SIGHUP)


@contextlib.contextmanager
def not_of_the_terminal() -> Iterator[None]:
    """A process that is started within never gets :data:`TERMINAL`: blocked here, they stay blocked in it, from its
    first instruction on (a session of its own would come too late for one that is sent while it is made). One that
    comes for us meanwhile is delivered afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def name_of(number: int) -> str:
    """``SIGKILL`` for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
