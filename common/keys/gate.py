"""Who comes in: a thread that answers ZeroMQ's questions about keys, follows the list, and counts what is refused."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Mapping

import zmq
from zmq.utils import z85

from common.keyfiles import SPEAKERS, AllowedList, Entry
from common.keys.doorway import Doorway
from common.keys.ring import Ring
from common.log import Seldom

#: The list of allowed keys is looked at this often, and the gate wakes, in seconds.
LOOK_S, WAKE_S = 0.5, 0.2
#: Most keys that one line lists.
MAX_LISTED = 5
#: Most keys that were let in whose names are kept.
MAX_FORMER = 10_000
_ZAP = "inproc://zeromq.zap.01"

log = logging.getLogger(__name__)


class Gate:
    """Of one :class:`common.transport.Hub` that listens at tcp addresses: a thread that answers ZeroMQ's questions
    about keys, follows the list, and hears of handshakes that fail. Without a ring it only hears."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], ring: Ring | None) -> None:
        self._context, self._ring = context, ring
        self._allowed = ring.allowed if ring is not None else None
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._seldom = Seldom(log)
        self._new: list[Doorway] = []
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._over = False
        self._error: BaseException | None = None
        self._cuts: Counter[str] = Counter()
        self._former: dict[str, Entry] = {}  # of keys that were let in
        self._zap: zmq.Socket[bytes] | None = None
        if self._allowed is not None:
            self._zap = context.socket(zmq.REP)
            self._zap.setsockopt(zmq.LINGER, 0)
            self._zap.bind(_ZAP)  # before anybody listens
        self._thread = threading.Thread(target=self._work, name="gate", daemon=True)
        self._thread.start()

    @property
    def problem(self) -> str:
        """Why the list of allowed keys cannot be followed, "" where it can."""
        return self._allowed.problem if self._allowed is not None else ""

    def watch(self, socket: zmq.Socket[bytes], name: str) -> None:
        """Hear of ``socket``'s connections, until its monitor is disabled."""
        doorway = Doorway(socket, name)
        with self._lock:
            self._new.append(doorway)
        os.eventfd_write(self._wake, 1)

    def entry(self, public: str) -> Entry | None:
        return self._allowed.table.get(public) if self._allowed is not None else None

    def cuts(self, name: str) -> int:
        """How often keys that could speak to the socket ``name`` have lost that."""
        return self._cuts[name]

    def admits(self, public: str, name: str) -> bool:
        """Whether this key may speak to the socket ``name`` now."""
        entry = self.entry(public)
        return entry is not None and entry.role in SPEAKERS[name]

    def refuse(self, name: str, public: str, address: str) -> None:
        """A key that is not let in has come to the socket ``name``: count it, and name it."""
        entry, former = self.entry(public), self._former.get(public)
        if entry is not None:
            kind, why = "role", f"a {entry.role}'s key may not speak to {name}"
        elif former is not None:
            kind, why = "revoked", "it is no longer on the list of allowed keys"
        else:
            kind, why = "unknown_key", "it is not on the list of allowed keys"
        known = entry or former
        who = public if known is None else str(known)
        self.count(name, kind)
        self.say(name, kind, f"refused the key {who} of {address or 'a peer'} at {name}: {why}", public)

    def count(self, name: str, kind: str) -> None:
        """A refusal."""
        with self._lock:
            self._counts[name, kind] += 1

    def say(self, name: str, kind: str, text: str, who: str = "") -> None:
        """Name a refusal, once a minute for each ``who``."""
        with self._lock:
            self._seldom.warn(f"{name} {kind} {who}", text)

    def taken(self) -> Counter[tuple[str, str]]:
        """(socket, kind) → refusals since the last call. Raises what the gate has broken down with."""
        if self._error is not None:
            raise self._error
        with self._lock:
            counts, self._counts = self._counts, Counter()
        return counts

    def close(self) -> None:
        """The monitors of all watched sockets are disabled before."""
        self._over = True
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        os.close(self._wake)

    # -- the thread ---------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        doorways: list[Doorway] = []
        try:
            self._loop(doorways)
        except BaseException as error:  # noqa: BLE001  raised where the part's own loop asks
            self._error = error
            while not self._over:  # ZeroMQ's thread would wait for ever for a monitor that is closed before its socket
                time.sleep(WAKE_S / 10)
        for doorway in (*doorways, *self._new):
            doorway.monitor.close(linger=0)
        if self._zap is not None:
            self._zap.close()

    def _loop(self, doorways: list[Doorway]) -> None:
        poller, next_look = zmq.Poller(), 0.0
        poller.register(self._wake, zmq.POLLIN)
        if self._zap is not None:
            poller.register(self._zap, zmq.POLLIN)
        while not self._over:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake)
            with self._lock:
                new, self._new = self._new, []
            doorways += new
            for doorway in new:
                poller.register(doorway.monitor, zmq.POLLIN)
            now = time.monotonic()
            for doorway in list(doorways):
                doorway.hear(self, self._ring is not None, now)
                if doorway.stopped:
                    poller.unregister(doorway.monitor)
                    doorways.remove(doorway)
                    doorway.monitor.close(linger=0)
            if self._zap is not None:
                self._answer(self._zap)
            if self._allowed is not None and now >= next_look:
                next_look = now + LOOK_S
                self._follow(self._allowed)
            poller.poll(int(WAKE_S * 1000))

    def _follow(self, allowed: AllowedList) -> None:
        before, problem = allowed.table, allowed.problem
        if allowed.look():
            self._former = {**self._former, **before} if len(self._former) < MAX_FORMER else dict(before)
            gone, new = _lost(before, allowed.table), _lost(allowed.table, before)
            for name, roles in SPEAKERS.items():
                self._cuts[name] += any(entry.role in roles for entry in gone)
            for what, entries in (("no longer lets in", gone), ("lets in", new)):
                if entries:
                    names = ", ".join(map(str, entries[:MAX_LISTED]))
                    log.info("the list %s %s %s", allowed.path, what, names, extra={"count": len(entries)})
        if allowed.problem and allowed.problem != problem:
            log.error("the list of allowed keys stays as it was: %s", allowed.problem)

    def _answer(self, zap: zmq.Socket[bytes]) -> None:
        """ZeroMQ's questions (RFC 27). What is asked wrongly gets no way in."""
        with contextlib.suppress(zmq.Again):
            while True:
                request = zap.recv_multipart(zmq.NOBLOCK)
                public = ""
                if len(request) == 7 and request[5] == b"CURVE" and len(request[6]) == 32:
                    name, address = request[2].decode(errors="replace"), request[3].decode(errors="replace")
                    public = z85.encode(request[6]).decode()
                    if name not in SPEAKERS or not self.admits(public, name):
                        self.refuse(name, public, address)
                        public = ""
                sequence = request[1] if len(request) > 1 else b""
                code, text = (b"200", b"OK") if public else (b"400", b"key not allowed")
                zap.send_multipart([b"1.0", sequence, code, text, public.encode(), b""])


def _lost(before: Mapping[str, Entry], after: Mapping[str, Entry]) -> list[Entry]:
    """What was let in ``before`` and is not, or not as that, ``after``."""
    return [one for public, one in before.items() if public not in after or after[public].role != one.role]
