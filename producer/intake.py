"""The source, whatever becomes of it: opened in a thread of its own, so that a server that hangs holds nobody up, and
again where it has dropped, or has come to its end and is to begin anew.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable
from random import Random
from typing import Any

from common.config import Stream
from common.errors import SourceError
from common.files import is_live
from common.log import mask
from producer.inputs.plan import PATIENCE
from producer.reconnect import Reconnect
from producer.source import Source

#: Placeholders a second: enough for players to stay.
FILLERS = 10
_PLAYLIST = re.compile(r"\.m3u8?(?:$|[?#])", re.IGNORECASE)


class Opening:
    """One attempt. ``done`` says when ``source`` or ``error`` is there."""

    def __init__(self, stream: Stream, notify: Callable[[], None]) -> None:
        self._stream, self._notify = stream, notify
        self.source: Source | None = None
        self.error: SourceError | None = None
        self.crash: Exception | None = None
        self._left = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="open", daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            source = Source(self._stream, self._notify)
            with self._lock:
                if not self._left:
                    self.source = source
                    return
            source.close()
        except SourceError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001  raised in the main thread
            self.crash = error
        finally:
            self._notify()

    def leave(self) -> None:
        """Nobody waits any more: what is opened yet is closed."""
        with self._lock:
            self._left = True
            source, self.source = self.source, None
        if source is not None:
            source.close()


class Intake:
    """``source`` is the open one, None while there is none. ``again``: another process had it before."""

    def __init__(self, stream: Stream, notify: Callable[[], None], again: bool = False) -> None:
        self._stream, self._notify = stream, notify
        forever = again and stream.reconnect and is_live(stream.source)
        self._reconnect = Reconnect(math.inf if forever else stream.source_wait, time.monotonic())
        self._random = Random()
        self._opening: Opening | None = None
        self._next_filler = 0.0
        self._looping = False  # it has come to its end and begins anew
        self._endless = False  # one was lost that has no end of its own
        self.source: Source | None = None

    def poll(self, now: float) -> Source | None:
        """A source that was opened since the last call; say :meth:`failed` where it is of no use. What is a recording
        by now, and was a live stream, counts as failed.

        Raises SourceError where it was never there and is not waited for (any longer).
        """
        opening = self._opening
        if opening is not None and opening.done:
            self._opening = None
            if opening.crash is not None:
                raise opening.crash
            if opening.error is not None:
                self._failed(opening.error, now)
            elif opening.source is not None:
                if (why := self._is_over(opening.source)) is None:
                    self.source = opening.source
                    self._reconnect.connect(now)
                    return self.source
                opening.source.close()
                self._failed(why, now)
        if self._opening is None and self.source is None and (self._looping or self._reconnect.due(now)):
            self._opening = Opening(self._stream, self._notify)
        return None

    def _is_over(self, source: Source) -> SourceError | None:
        """What to say of a recording where there was a live stream before: what was shown already would be shown again,
        and its end taken for the end of all. None: it is of use."""
        if not (self._endless and source.finite):
            return None
        playlist = _PLAYLIST.search(self._stream.source)
        what = "its playlist says that nothing follows" if playlist else "what is there now is a recording"
        return SourceError(f"{mask(self._stream.source)} has ended: {what}")

    def failed(self, error: SourceError, now: float) -> None:
        """The source that was opened is of no use. Raises SourceError as :meth:`poll`."""
        self._close()
        self._failed(error, now)

    def _failed(self, error: SourceError, now: float) -> None:
        self._looping = False
        if not self._reconnect.failed(_bare(error), now, self._random):
            raise error

    def returns(self) -> bool:
        """Whether the source, which has come to its end, is to be opened again."""
        source = self.source
        assert source is not None
        if self._stream.loop and source.error is None:
            return True
        return self._stream.reconnect and source.live and not source.finite

    def lost(self, now: float, why: str = "") -> None:
        """The source has come to its end and :meth:`returns`; or it is of no use any more, for the reason ``why``."""
        assert self.source is not None
        shown, error = mask(self._stream.source), self.source.error
        # One that gives no picture is no loop, but as good as away: it is opened again after a pause.
        self._looping = not why and error is None and self._stream.loop and self._reconnect.state == "up"
        why = f"{shown} {why or 'has given no picture'}" if error is None else _bare(error)
        self._endless = self._endless or not self.source.finite
        self._reconnect.lost(why, now, self._random)
        self._close()

    def is_blind(self, seconds: float) -> bool:
        """Whether the source sends what cannot be decoded, and is to be opened again: packets have come for ``seconds``
        without a picture. Its codec may have changed, which is not seen where there is no connection to break."""
        source = self.source
        assert source is not None
        patience = 1 if self._reconnect.state == "up" else PATIENCE  # a first keyframe may be long in coming
        return source.live and self.returns() and seconds > patience * self._stream.source_timeout

    def gave(self, now: float) -> None:
        """It has given a picture."""
        self._looping = False
        self._reconnect.gave(now)

    @property
    def never(self) -> bool:
        """Whether it is still being opened for the first time."""
        return self._reconnect.state == "opening" and not self._reconnect.connected

    @property
    def follows(self) -> bool:
        """Whether the source that was opened last goes on where the one before has ended, in a loop."""
        return self._looping

    @property
    def why(self) -> str:
        """Why there is no picture of the source, "" where there is one, or it only begins anew."""
        return "" if self._looping or self._reconnect.state == "up" else self._reconnect.why

    def away(self, now: float) -> float:
        """For how long there has been none, in seconds."""
        return 0.0 if self._looping or self._reconnect.state == "up" else now - self._reconnect.since

    def filler_due(self, now: float) -> bool:
        """Whether a placeholder is to be shown now. Asked once for each."""
        if not self._stream.placeholder or self._looping or self._reconnect.state != "away" or now < self._next_filler:
            return False
        self._next_filler = now + 1 / FILLERS
        return True

    def state(self, now: float) -> dict[str, Any]:
        """For the status line."""
        core = self._reconnect
        state = "up" if self._looping else core.state
        return {"state": state, "why": self.why, "since": round(now - core.since, 1), "opened": core.opened}

    def again(self) -> Source:
        """The source from its beginning, at once. Raises SourceError."""
        self._close()
        self.source = Source(self._stream, self._notify)
        return self.source

    def stop(self) -> None:
        """Take nothing more; what waits is thrown away."""
        if self._opening is not None:
            self._opening.leave()
        if self.source is not None:
            self.source.stop()

    def _close(self) -> None:
        if self.source is not None:
            self.source.close()
            self.source = None


def _bare(error: SourceError) -> str:
    return mask(str(error))
