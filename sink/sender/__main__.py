"""``python -m sink.sender``: reads what to send from standard input, says on standard output how it goes.

Started by the sink and by nobody else (sink/outputs/sent_child.py).
"""

from __future__ import annotations

import os
import sys
import time

import av
import msgspec

from common import log
from common.errors import Exit, OutputError
from common.lifecycle import FOLDER_ENV, Stopper, run_part
from sink.sender.framing import End, Incoming, Opening, Piece, Word
from sink.sender.muxing import Muxer
from sink.sender.reasons import reason

#: Seconds between two words on how much was sent.
SAY_S = 0.2

#: What a connection can end with.
ERRORS = (av.FFmpegError, OSError, ValueError, OutputError)

Logged = list[tuple[int, str, str]]

_encoder = msgspec.json.Encoder()


class Sender:
    """One connection, from its opening to its end."""

    def __init__(self) -> None:
        self._incoming = Incoming(sys.stdin.fileno())
        self._frames = self._bytes = 0
        self._said = (0, 0)
        self._next = 0.0
        self._muxer: Muxer | None = None  # kept to the very end: let go, it would write a trailer

    def run(self) -> None:
        """Raises OutputError where the connection cannot be made, or ends before its time."""
        with av.logging.Capture() as logged:
            while (muxer := self._open(logged)) is None:
                pass
            self._muxer = muxer
            say(Word("connected"))
            try:
                self._send(muxer, logged)
            except ERRORS as error:
                raise OutputError(_reason(error, logged)) from error
        self._report()
        say(Word("ended"))

    def _open(self, logged: Logged) -> Muxer | None:
        """None: the other side does not take the stream. Raises OutputError where there is no other try."""
        while (got := self._incoming.next(3600.0)) is None:
            pass
        opening, payload = got
        assert isinstance(opening, Opening)
        log.always(output=opening.address)
        del logged[:]
        before = _descriptors()
        say(Word("calling"))
        try:
            return Muxer(opening, payload, lambda: say(Word("listening")))
        except ERRORS as error:
            why = _reason(error, logged)
        if _descriptors() > before:  # PyAV does not close what it has opened before it failed
            raise OutputError(why)
        say(Word("refused", reason=why))
        return None

    def _send(self, muxer: Muxer, logged: Logged) -> None:
        while True:
            got = self._incoming.next(SAY_S)
            del logged[:]
            if got is None:
                muxer.check()
            elif isinstance(got[0], Piece):
                muxer.write(*got)  # type: ignore[arg-type]
                self._frames += got[0].track == 0
                self._bytes += len(got[1])
            elif isinstance(got[0], End):
                return muxer.close(got[0].goes_on)
            if time.monotonic() >= self._next or got is None:
                self._report()

    def _report(self) -> None:
        if self._said != (self._frames, self._bytes):
            self._said = self._frames, self._bytes
            say(Word("sent", self._frames, self._bytes))
        self._next = time.monotonic() + SAY_S


def _reason(error: Exception, logged: Logged) -> str:
    return reason(error, [line for _, _, line in logged])


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def say(word: Word) -> None:
    """One line. The sink reads; where it is gone, so are we."""
    os.write(sys.stdout.fileno(), _encoder.encode(word) + b"\n")


def main() -> None:
    log.setup("sender")
    # The private folder is the run's; our parent, which may just be gone, is the sink, and the run goes on.
    os.environ.pop(FOLDER_ENV, None)
    # Errors are kept for the reason, and said by the sink.
    av.logging.set_level(av.logging.ERROR)

    sender = Sender()

    def body(stopper: Stopper) -> int:
        with stopper.at_once():  # nothing is lost that the sink does not know of
            try:
                sender.run()
            except EOFError:
                return Exit.OK  # the sink is gone
            except OutputError as error:
                say(Word("ended", reason=str(error) or "it has ended"))
                return Exit.OUTPUT
        return Exit.OK

    run_part("sender", body)


if __name__ == "__main__":
    main()
