"""The thread of one network output: starts a sender, feeds it from the outbox, hears it, kills it where it hangs, and
starts it again (DESIGN §6). Only this thread touches the sender."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
import time

from common.log import about
from sink.outputs.sent_child import SenderChild
from sink.outputs.sent_outbox import Outbox
from sink.sender.framing import End, encode

#: At the end, what is queued is sent and leave is taken within so many seconds.
GRACE_S = 2.0
#: Longest sleep of the thread, in seconds.
IDLE_S = 0.25

log = logging.getLogger(__name__)


class Courier:
    """``address`` as it may be shown, ``stream``: for the log. The thread runs from :meth:`start` on."""

    def __init__(self, outbox: Outbox, address: str, stream: str) -> None:
        self._outbox, self._address, self._stream = outbox, address, stream
        self._child: SenderChild | None = None
        self._parting: float | None = None  # when the sender was told to take leave
        self._end_at: float | None = None
        self._goes_on = False
        self._wake = -1
        self._thread: threading.Thread | None = None
        #: What the thread has died of: a bug.
        self.crash: Exception | None = None

    def start(self) -> None:
        if self._thread is None:
            self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._thread = threading.Thread(target=self._run, name="send", daemon=True)
            self._thread.start()

    def ring(self) -> None:
        """There is something to do."""
        if self._wake >= 0:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_write(self._wake, 1)

    def end(self, grace: float = GRACE_S, goes_on: bool = False) -> None:
        """Nothing more comes: send what is queued and take leave, within ``grace`` seconds. Does not wait.
        ``goes_on``: another one goes on with the same address."""
        self._goes_on = goes_on
        self._end_at = time.monotonic() + grace
        self.ring()

    def join(self) -> None:
        """Wait until that is done. For the thread that rings."""
        if self._thread is not None and self._end_at is not None:
            # A second more: a process that was killed may have to finish what it is writing to a disk.
            self._thread.join(max(0.0, self._end_at - time.monotonic()) + 1.0)
            if self._thread.is_alive():
                log.error("the sender to %s cannot be ended", self._address, extra={"stream": self._stream})
            elif self._wake >= 0:
                os.close(self._wake)
                self._wake = -1

    def _run(self) -> None:
        about(stream=self._stream, output=self._address)
        try:
            while not self._turn(time.monotonic()):
                self._sleep()
        except Exception as error:  # noqa: BLE001  raised where the next packet is put in
            self.crash = error
        finally:
            if self._child is not None:
                self._child.end()
            self._outbox.close()

    def _turn(self, now: float) -> bool:
        """Do what can be done now. Returns whether it is all done."""
        over = self._end_at is not None and now >= self._end_at
        child = self._child
        taken = child is not None and self._hear(child, now)
        if not self._outbox.begun:
            if over or (self._end_at is not None and self._outbox.hopeless):
                return True
            if child is not None and child.silent:
                child.end()
                child = self._child = None
            if self._outbox.due(now):
                self._begin(child, now)
            return False
        assert child is not None
        waiting, why = self._outbox.look(now, child.full, taken)
        if child.silent or why:
            self._bury(child, now, why)
        elif over or self._is_to_leave(waiting, now):
            self._bury(child, now, None)
        else:
            self._feed(child, now)
        return False

    def _is_to_leave(self, waiting: bool, now: float) -> bool:
        """Whether the sender is to be ended without more words."""
        if self._parting is not None:
            return now > self._parting + GRACE_S
        if self._outbox.connected:
            return False
        return self._outbox.stale or (self._end_at is not None and not waiting)

    def _begin(self, child: SenderChild | None, now: float) -> None:
        """Connect: ``child`` was refused the last time, None: there is none."""
        opening, payload = self._outbox.begin(now)
        try:
            self._child = child = child or SenderChild()
        except OSError as error:
            self._outbox.ended(now, f"no process can be started: {error.strerror}")
            return
        self._parting = None
        child.write(encode(opening, payload))

    def _hear(self, child: SenderChild, now: float) -> bool:
        """Whether it has sent something since the last time."""
        taken = False
        for word in child.words():
            taken = self._outbox.heard(word, now) or taken
            if word.event == "connected":
                count = self._outbox.counts()["connections"]
                known = {"stream": self._stream, "output": self._address, "count": count}
                log.info("sending to %s", self._address, extra=known)
        return taken

    def _feed(self, child: SenderChild, now: float) -> None:
        child.flush()
        while not child.full and self._outbox.connected and self._parting is None:
            unit = self._outbox.take()
            if unit is not None:
                child.write(unit.data)
            elif self._outbox.stale or self._end_at is not None:
                self._parting = now
                child.write(encode(End(self._goes_on or self._end_at is None)))
            else:
                return

    def _bury(self, child: SenderChild, now: float, why: str | None) -> None:
        """The sender is gone, or is ended here. ``why``: what is wrong with it; None: nothing is."""
        own = child.end()
        self._child = None
        left = self._parting is not None and not own and not why
        self._outbox.ended(now, None if why is None or left else why or own or "the sender has ended")
        log.debug("the sender to %s has ended: %s", self._address, why or own)

    def _sleep(self) -> None:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        seconds = IDLE_S
        if not self._outbox.begun:
            seconds = min(seconds, self._outbox.pause(time.monotonic()))
        if self._child is not None:
            poll.register(self._child.stdout, select.POLLIN)
            if self._child.full:
                poll.register(self._child.stdin, select.POLLOUT)
        poll.poll(seconds * 1000)
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
