"""How every part starts and stops: signals, the parent's death, exit codes.

First SIGTERM: drain. Second SIGTERM: leave at once. SIGUSR1: leave soon, a successor goes on (to producer and sink that
is less than draining: nothing is ended). SIGHUP, by which a terminal goes away, drains too, unless it is
ignored already (nohup), and says nothing more where it comes again. Children of ``headrace run`` ignore the terminal's
SIGINT and SIGHUP (their parent tells them what to do) and drain when their parent is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from common.errors import Exit, HeadraceError
from common.transport import Waker

#: Set by a parent for its children: its pid, or ``supervisor`` for whoever it is.
PARENT_ENV = "HEADRACE_PARENT"
SUPERVISOR = "supervisor"
#: Set for the parts of a node: ``USR1`` where they are to leave their work to a successor when the parent dies.
LEAVE_ENV = "HEADRACE_LEAVE"
#: Set by a parent for its children: the private folder that the last orphan removes.
FOLDER_ENV = "HEADRACE_RUN_FOLDER"
#: Marks a folder as one that we made and may remove.
FOLDER_MARK = ".headrace-run"
_PR_SET_PDEATHSIG = 1

log = logging.getLogger(__name__)


class Stopper:
    """What a service asks in its loop: am I to drain?

    ``waker`` becomes readable when the answer changes; give it to the service's poller.
    """

    def __init__(self) -> None:
        self.waker = Waker()
        self.draining = False
        #: With ``draining``: what is under way is a successor's.
        self.handing_over = False
        self._parent = _parent()

    def install(self) -> None:
        """Take over the signals of the process (main thread only)."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGUSR1, self._on_signal)
        signal.signal(signal.SIGINT, signal.SIG_IGN if self._parent else self._on_signal)
        if self._parent:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        elif signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._on_signal)
        if self._parent:
            leaves = os.environ.get(LEAVE_ENV) == "USR1"
            die_with_parent(self._parent, signal.SIGUSR1 if leaves else signal.SIGTERM)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Within, SIGTERM ends the process at once: something is loaded or opened that cannot be interrupted in another
        way, and nothing is under way yet that could be lost."""
        if self.draining:
            yield
            return
        ours = signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, ours)

    def stop(self) -> None:
        self.draining = True
        self.waker.wake()

    @property
    def orphaned(self) -> bool:
        """True where a parent started us and is gone."""
        return bool(self._parent) and os.getppid() != self._parent

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.draining and number in (signal.SIGHUP, signal.SIGUSR1):
            return
        self.handing_over = number == signal.SIGUSR1
        if self.draining:
            remove_run_folder_if_orphaned()
            os._exit(Exit.INTERRUPTED)
        self.stop()


def die_with_parent(parent: int, number: int = signal.SIGTERM) -> None:
    """Ask the kernel for the signal ``number`` when the parent dies, and cover the moment before the asking."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def _parent() -> int:
    named = os.environ.get(PARENT_ENV, "0")
    return os.getppid() if named == SUPERVISOR else int(named)


def remove_run_folder_if_orphaned() -> None:
    """Remove the parent's private folder where the parent is gone and cannot do it."""
    folder, parent = os.environ.get(FOLDER_ENV), _parent()
    if folder and parent and os.getppid() != parent and (Path(folder) / FOLDER_MARK).exists():
        shutil.rmtree(folder, ignore_errors=True)


def leave_within(seconds: float, code: int = Exit.CRASH) -> None:
    """From now on, this process ends within ``seconds``, whatever hangs."""

    def guard() -> None:
        time.sleep(seconds)
        log.error("still not gone after %.0f s, leaving now", seconds)
        remove_run_folder_if_orphaned()
        os._exit(code)

    threading.Thread(target=guard, name="leave-within", daemon=True).start()


def run_part(part: str, body: Callable[[Stopper], int]) -> None:
    """Run a part's ``body`` with signals in place and leave with its exit code. Never returns."""
    stopper = Stopper()
    stopper.install()
    try:
        code = int(body(stopper))
    except HeadraceError as error:
        log.error("%s", error, extra={"fatal": True, "exit": int(error.exit_code)})
        code = error.exit_code
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    except Exception as error:  # our own bug: say so, with the trace
        log.critical("%s crashed: %s: %s", part, type(error).__name__, error, exc_info=True, extra={"fatal": True})
        code = Exit.CRASH
    remove_run_folder_if_orphaned()
    logging.shutdown()
    with contextlib.suppress(OSError, ValueError):  # nobody reads any more, or it was closed
        sys.stdout.flush()
    # Threads of libraries (a demuxer that waits for the network) must not hold the process.
    os._exit(int(code))
