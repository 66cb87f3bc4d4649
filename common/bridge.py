"""SRT by way of a child process: PyAV's FFmpeg does not speak it, other programs do (``common/srt.py``).

A Bridge carries bytes as they are between a pipe and an SRT address, and ends when the connection does.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections import deque
from types import TracebackType

from common import srt
from common.errors import HeadraceError, OutputError, SourceError
from common.log import mask
from common.signals import name_of, not_of_the_terminal

#: Complaints of a program that are remembered, and the bytes of one.
MAX_LINES, MAX_LINE = 16, 500
#: What was written last is given time to arrive before the connection ends: SRT's latency and so much, but no longer
#: than the most, in seconds.
ARRIVAL_S, MOST_ARRIVAL_S = 0.1, 2.0
#: From SIGTERM to SIGKILL, in seconds.
TERM_S = 1.0
#: A TS packet that carries nothing.
NULL_PACKET = b"\x47\x1f\xff\x10" + b"\xff" * 184

#: Becomes the program that its arguments name, once the kernel has promised it SIGKILL for our death: asked to leave, a
#: program that waits for a peer may take its time.
_WRAPPER = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""


class Bridge:
    """An SRT connection behind a pipe.

    ``fd`` is our end of the pipe, in blocking mode; whoever needs deadlines sets it to non-blocking. Give it to PyAV
    as ``pipe:FD``, which makes a copy of it, and close that container before the bridge. Reading: it ends where the
    connection did. Writing: BrokenPipeError then; a null packet may come first.
    """

    def __init__(self, address: str, program: srt.Program, writes: bool, error: type[HeadraceError]) -> None:
        self.address = address
        self._program = program
        self._writes = writes
        self._changed = threading.Condition()
        self._complaints: deque[str] = deque(maxlen=MAX_LINES)
        self._connected = self._closed = False
        self._code: int | None = None
        self._last_words = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._failure: OSError | None = None
        started = threading.Event()
        theirs, self.fd = os.pipe() if writes else reversed(os.pipe())
        # A thread of its own starts the program and stays until its end: to the kernel, the parent that a child may die
        # with is the thread that made it, and the one that calls us may be gone long before.
        self._keeper = threading.Thread(target=self._keep, args=(theirs, started), name="srt-bridge", daemon=True)
        self._keeper.start()
        started.wait()
        if self._failure is not None:
            self._keeper.join()
            os.close(self.fd)
            raise error(f"{program.name} cannot be started: {self._failure.strerror}")
        if writes and program.greedy:
            with contextlib.suppress(BrokenPipeError):  # it has ended already
                os.write(self.fd, NULL_PACKET)

    @classmethod
    def reading(cls, address: str) -> Bridge:
        """A bridge whose ``fd`` gives what comes from ``address``. Raises SourceError."""
        return cls(address, srt.choose(address, SourceError), False, SourceError)

    @classmethod
    def writing(cls, address: str) -> Bridge:
        """A bridge whose ``fd`` takes what goes to ``address``. Raises OutputError.

        ``wait`` before the first write: ``srt-live-transmit`` throws away what comes before it is connected.
        """
        return cls(address, srt.choose(address, OutputError), True, OutputError)

    @property
    def alive(self) -> bool:
        """Whether the program runs. It ends with its connection; one that writes may notice only at the next write."""
        with self._changed:
            return self._code is None

    @property
    def connected(self) -> bool:
        """Whether the other side was reached; where ``ffmpeg`` reads, whether data came."""
        with self._changed:
            return self._connected

    def wait(self, seconds: float) -> bool:
        """Wait until it is connected or has ended, but no longer than ``seconds``. Returns ``connected``."""
        with self._changed:
            self._changed.wait_for(lambda: self._connected or self._code is not None, seconds)
            return self._connected

    def why(self) -> str:
        """What is wrong, in a few words and without passphrases; "" while all is well."""
        with self._changed:
            return self._last_words if self._closed else self._why()

    def _why(self) -> str:
        words = srt.tell(list(self._complaints))
        for name, value in srt.options(self.address):
            if name == "passphrase" and value:
                words = words.replace(value, "***")
        if words or self._code is None:
            return mask(words)
        if self._code < 0:
            return f"{self._program.name} was killed by {name_of(-self._code)}"
        return "the connection ended" if self._connected else "no answer"

    def close(self) -> None:
        """End the program and give back what it held. Whoever reads at the other end gets what was written last."""
        with self._changed:
            if self._closed:
                return
            self._last_words, self._closed = self._why(), True
            if self._writes and self._connected:
                arrival = min(srt.latency(self.address) + ARRIVAL_S, MOST_ARRIVAL_S)
                self._changed.wait_for(lambda: self._code is not None, arrival)
        assert self._process is not None
        os.close(self.fd)
        for end in (self._process.terminate, self._process.kill):
            end()
            self._keeper.join(TERM_S)
        self._keeper.join()

    def __enter__(self) -> Bridge:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _keep(self, theirs: int, started: threading.Event) -> None:
        """Start the program, hear what it says until it has ended, and reap it."""
        command = self._program.command(self.address, self._writes)
        try:
            with not_of_the_terminal():
                process = self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _WRAPPER, str(os.getpid()), *command],
                    stdin=theirs if self._writes else subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL if self._writes else theirs,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                )
        except OSError as error:
            self._failure = error
            return
        finally:
            os.close(theirs)
            started.set()
        assert process.stderr is not None
        with process.stderr as said:
            while line := said.readline(MAX_LINE):
                self._hear(line.decode(errors="replace").strip())
        code = process.wait()
        with self._changed:
            self._code = code
            self._changed.notify_all()

    def _hear(self, line: str) -> None:
        """One line of the program. Once it is connected, the rest is about the end, which is seen by itself."""
        with self._changed:
            if self._connected:
                return
            if self._program.connected.search(line):
                self._connected = True
                self._complaints.clear()  # of attempts before this one
                self._changed.notify_all()
            elif (words := srt.plain(line)) and not self._program.chatter.search(line):
                self._complaints.append(words)
