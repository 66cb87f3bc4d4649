"""The folder of a node: sockets, the configuration that its parts read, logs, and what outlives them all, the state.

One fleet, one folder: whoever runs supervisord in it holds the lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from common.config import Stream
from common.errors import LinkError, OutputError, UsageError
from deploy.folder import CONFIG

#: Longest path of the folder, in bytes: a Unix socket's whole path may have 107, and supervisor's is the longest.
MAX_PATH = 80
#: Pause between two tries to have one's turn, in seconds.
TURN_S = 0.1
#: What cannot stand in supervisor's files, or in the addresses of sockets.
FORBIDDEN = frozenset(";#%\"'\n\r\t*?[")


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How a stream came to its end: it is not begun again."""

    code: int
    why: str = ""
    states: dict[str, int] = {}
    #: When, in seconds since the epoch.
    at: float = 0.0


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided after the file was written, and what is kept while nothing runs."""

    #: Names the run: what a sink finds of the same run it goes on with.
    run: str
    #: The configuration file, and the roles of this node.
    file: str
    roles: list[str]
    #: Workers, and what the file said then; None: what the file says.
    workers: int | None = None
    #: GPUs that were seen by the last ``up``: another shell may see others.
    gpus: list[str] = []
    workers_of_file: int | None = None
    #: Streams that came, went or rest since.
    added: list[Stream] = []
    removed: list[str] = []
    paused: list[str] = []
    ended: dict[str, Ended] = {}


class NodeFolder:
    """``path``: absolute."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / CONFIG
        self.parts = path / "parts.json"
        self.programs = path / "programs"
        self.logs = path / "logs"
        self.supervisor_config = path / "supervisord.conf"
        self.supervisor_socket = path / "supervisor.sock"
        self.agent_socket = path / "node.sock"
        self.token = path / "page.token"
        #: For how many seconds one waits for another who changes the fleet.
        self.patience = 600.0
        self.state_file = path / "state.json"
        self._lock, self._change = path / "lock", path / "change.lock"

    def make(self) -> None:
        """Make what is not there. Raises UsageError, OutputError."""
        if found := FORBIDDEN.intersection(str(self.path)):
            raise UsageError(f"the node's folder {self.path} has {sorted(found)} in its path: choose another in [node]")
        if len(os.fsencode(self.path)) > MAX_PATH:
            hint = 'choose a shorter one: [node] folder = "/var/lib/headrace"'
            raise UsageError(f"the node's folder {self.path} is longer than {MAX_PATH} bytes: {hint}")
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            found_mode = self.path.stat()
            if found_mode.st_uid != os.geteuid():
                raise UsageError(f"the node's folder {self.path} is somebody else's: choose another in [node]")
            if stat.S_IMODE(found_mode.st_mode) & 0o077:
                self.path.chmod(0o700)
            self.programs.mkdir(exist_ok=True)
            self.logs.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(f"the node's folder {self.path} cannot be made: {error.strerror}") from None

    def state(self) -> State | None:
        """None where there is none yet. Raises UsageError where it cannot be read."""
        try:
            return msgspec.json.decode(self.state_file.read_bytes(), type=State)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            raise UsageError(f"{self.state_file} cannot be read ({error}): remove it to begin anew") from None

    def write_state(self, state: State) -> None:
        self.write(self.state_file, msgspec.json.encode(state))

    def write(self, path: Path, data: bytes) -> None:
        """Whole, or as it was before; only for us. Raises OutputError."""
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            os.replace(draft, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            raise OutputError(f"{path} cannot be written: {error.strerror}") from None

    def tell(self, program: str) -> None:
        """Note that somebody stops this part on purpose."""
        with contextlib.suppress(OSError):
            (self.path / "told").mkdir(exist_ok=True)
            (self.path / "told" / program).touch()

    def told(self, program: str, since: float) -> bool:
        """Whether that was noted since then, in seconds since the epoch."""
        try:
            return (self.path / "told" / program).stat().st_mtime >= since
        except OSError:
            return False

    @property
    def running(self) -> bool:
        """Whether a supervisord of ours lives."""
        try:
            descriptor = os.open(self._lock, os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False

    def hold(self) -> int:
        """Take the folder for this process and what it becomes; returns the descriptor. Raises LinkError."""
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise LinkError(f"a fleet runs in {self.path} already: see headrace status, or headrace down") from None
        return descriptor

    def _take(self, descriptor: int, wait: float) -> None:
        deadline = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if not wait:
                    raise
                if time.monotonic() > deadline:
                    text = "somebody else changes the node: try again when that is done"
                    raise LinkError(text) from None
                time.sleep(TURN_S)

    @contextlib.contextmanager
    def changing(self, wait: float | None = None) -> Iterator[None]:
        """Within, nobody else changes the fleet: waits for whoever does, ``wait`` seconds (None: as long as is usual
        here). Raises LinkError then, with 0 BlockingIOError, and UsageError where the folder is another user's, who
        could not read what we write."""
        if self.path.stat().st_uid != os.geteuid():
            raise UsageError(f"{self.path} is another user's: change the fleet as that user (sudo -u …)")
        descriptor = os.open(self._change, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._take(descriptor, self.patience if wait is None else wait)
            yield
        finally:
            os.close(descriptor)


def new_run() -> str:
    return secrets.token_hex(8)
