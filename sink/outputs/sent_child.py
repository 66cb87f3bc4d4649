"""A sender (sink/sender) as a child process: started, fed, heard, killed and reaped. Nothing here waits, but for the
end of a child that was killed.

For use by one thread, which must live as long as the child: the kernel ends the child with the thread that started it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

import msgspec

from common.lifecycle import PARENT_ENV
from common.signals import name_of, not_of_the_terminal
from sink.sender.framing import Word

#: One that has closed its standard output gets so many seconds to leave.
LEAVING_S = 0.5
#: Most bytes of a line; a sender's are short.
MAX_LINE = 16 * 1024

_decoder = msgspec.json.Decoder(Word)


class SenderChild:
    """Raises OSError where no process can be started."""

    def __init__(self) -> None:
        with not_of_the_terminal():
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sink.sender"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                env=os.environ | {PARENT_ENV: str(os.getpid())},
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.stdin, self.stdout = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self.stdin, False)
        os.set_blocking(self.stdout, False)
        self._line = b""
        self._rest = memoryview(b"")
        #: It has closed its standard output: it is gone, or about to be.
        self.silent = False
        #: Why it has ended, in its own words.
        self.reason = ""

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def full(self) -> bool:
        """The last message is not wholly written."""
        return bool(self._rest)

    def write(self, message: bytes) -> None:
        """Begin to write a message; :meth:`flush` goes on where the pipe is full. Only when it is not ``full``."""
        assert not self._rest
        self._rest = memoryview(message)
        self.flush()

    def flush(self) -> None:
        try:
            while self._rest:
                self._rest = self._rest[os.write(self.stdin, self._rest) :]
        except BlockingIOError:
            return
        except OSError:  # it is gone; its standard output says so as well
            self._rest = memoryview(b"")

    def words(self) -> Iterator[Word]:
        """What it has said since the last call."""
        while not self.silent:
            try:
                data = os.read(self.stdout, 65536)
            except BlockingIOError:
                return
            self.silent = not data
            *lines, self._line = (self._line + data).split(b"\n")
            self._line = self._line[:MAX_LINE]
            for line in lines:
                with contextlib.suppress(msgspec.MsgspecError):
                    word = _decoder.decode(line)
                    if word.event == "ended":
                        self.reason = word.reason
                    yield word

    def end(self) -> str:
        """Kill it where it still runs, wait for it and give everything back. Returns why it has ended, in words."""
        code = self._process.poll()
        if code is None and self.silent:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self._process.wait(LEAVING_S)
        if code is None:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        if self.reason or code is None or code == 0:
            return self.reason
        return f"the sender was killed by {name_of(-code)}" if code < 0 else f"the sender ended with exit code {code}"
