"""With what each stream's next epoch begins: what its last one left, in memory or on disk, or nothing.

A stream that has been removed from the configuration is forgotten, here and on disk. Of its name only the last epoch
is remembered, so that what is still under way from then is not taken for a part of a stream of that name that comes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from common import messages as m
from common.config import Stream
from sink.checkpoint import Checkpoint, load, path_of
from sink.configured import Configured
from sink.outputs.place import SegmentNames

#: A disk that was full counts as having space again from so many free bytes on.
SPACE = 4 * 2**20
#: First pause before a full disk is tried again, in seconds; doubled while that brings nothing, up to the maximum.
RETRY_S, RETRY_MAX_S = 0.5, 10.0
#: A stream that has crashed so often without having come further is given up.
MAX_CRASHES = 5
#: So many names of streams that are gone are remembered.
MAX_GONE = 4096


@dataclass(slots=True)
class _Full:
    """A stream that waits for space."""

    text: str
    since: float
    frames: int  # that were durable then
    next_try: float
    pause: float


@dataclass(slots=True)
class _Crash:
    """What a stream has died of, in one session of its producer."""

    text: str
    session: str
    reached: int  # frames that do not have to be done again
    count: int = 1


class Registry:
    """Knows the past of every stream of the configuration."""

    def __init__(self, configured: Configured) -> None:
        self._configured = configured
        self._full: dict[str, _Full] = {}
        self._crashes: dict[str, _Crash] = {}
        self._gone: dict[str, int] = {}  # name → its last epoch
        self.past: dict[str, Checkpoint] = {}

    @property
    def known(self) -> set[str]:
        return self._configured.names

    def full(self, name: str) -> str:
        """Why this stream waits for space, "" where it does not."""
        full = self._full.get(name)
        return full.text if full is not None else ""

    def put(self, name: str, checkpoint: Checkpoint, full: str, now: float) -> None:
        """An epoch is over. ``full``: it ran into a full disk."""
        self.past[name] = checkpoint
        self._gone.pop(name, None)
        if not full:
            self._full.pop(name, None)
            return
        before, frames = self._full.get(name), checkpoint.books.frames
        stalled = before is not None and frames == before.frames
        pause = min(RETRY_MAX_S, before.pause * 2) if before is not None and stalled else RETRY_S
        since = before.since if before is not None and stalled else now
        self._full[name] = _Full(full, since, frames, now + pause, pause)

    def crashed(self, name: str, session: str, reached: int, error: BaseException) -> int:
        """An epoch has crashed, having come to frame ``reached``. Returns how often that was in a row."""
        text = f"{type(error).__name__}: {error}"[:1000]
        before = self._crashes.get(name)
        self._crashes[name] = crash = _Crash(text, session, reached)
        if before is not None and before.session == session and reached <= before.reached:
            crash.count, crash.reached = before.count + 1, before.reached
        return crash.count

    def next(self, hello: m.Hello, now: float) -> Checkpoint | str:
        """What a new epoch of this stream begins with. A string: it cannot begin; "" not yet, else why never."""
        fleet = self._configured.fleet
        stream = fleet.stream(hello.stream)
        crash = self._crashes.get(stream.name)
        if crash is not None and crash.session == hello.session and crash.count >= MAX_CRASHES:
            return f"the stream crashed {crash.count} times without having come further: {crash.text}"
        full = self._full.get(stream.name)
        if full is not None:
            if now > full.since + fleet.sink.disk_wait:
                return f"{full.text}; no space came free in {fleet.sink.disk_wait:.0f} s"
            files = [output.path for output in stream.outputs if "://" not in output.path]
            if now < full.next_try or not _has_space(files):
                return ""
        past = self.past.get(stream.name) or load(stream, fleet.run)
        if past is None:
            return Checkpoint(run=fleet.run, epoch=self._gone.get(stream.name, 0) + 1)
        # A run that has a name is not begun again: its producer, or we, ended before the last word was heard.
        if past.finished and hello.mode == "lossless" and not fleet.run:  # it is done: this is another run of it
            return Checkpoint(run=fleet.run, epoch=past.epoch + 1)
        return Checkpoint(run=past.run, epoch=past.epoch + 1, books=past.books, marks=past.marks, error=past.error)

    def forget(self, stream: Stream) -> None:
        """It is no longer in the configuration."""
        past = self.past.pop(stream.name, None) or load(stream, self._configured.fleet.run)
        self._full.pop(stream.name, None)
        self._crashes.pop(stream.name, None)
        if past is not None:
            self._gone[stream.name] = past.epoch
            if len(self._gone) > MAX_GONE:
                del self._gone[next(iter(self._gone))]
            _close_books(stream, self._configured.fleet.run)

    def check(self) -> None:
        assert len(self._gone) <= MAX_GONE
        assert not self._gone.keys() & self.past.keys()
        assert all(0 < crash.count <= MAX_CRASHES for crash in self._crashes.values())


def _has_space(paths: list[str]) -> bool:
    try:
        # Folders that have fields in their names are made with the segment.
        folders = {SegmentNames(Path(path).absolute()).folder for path in paths}
        return all(shutil.disk_usage(folder).free >= SPACE for folder in folders)
    except OSError:
        return False


def _close_books(stream: Stream, run: str) -> None:
    """The ledger of a stream that has been removed is not gone on from."""
    path = path_of(stream)
    draft = path.with_name(f".{path.name}.new")
    try:
        ledger = json.loads(path.read_text(encoding="utf-8"))
        for entry in ledger["streams"]:
            if entry["stream"] == stream.name and entry["resume"]["run"] == run:
                del entry["resume"]
        draft.write_text(json.dumps(ledger, indent=2) + "\n", encoding="utf-8")
        os.replace(draft, path)
    except (OSError, ValueError, LookupError, TypeError):  # it is somebody else's, or the disk is full
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
