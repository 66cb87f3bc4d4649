"""The node's supervisord, over its socket: what runs, and what is started and stopped."""

from __future__ import annotations

import http.client
import socket
import time
import xmlrpc.client
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import msgspec

from common.errors import LinkError
from deploy.node.folder import NodeFolder

#: An answer takes at most so many seconds; nothing is asked that is waited for at the other end.
ANSWER_S = 10.0
#: Between two looks at what is waited for, in seconds.
LOOK_S = 0.05
#: Supervisor's states (supervisor/states.py) of a process that is there, and of one that needs no more waiting.
ALIVE = frozenset({"STARTING", "RUNNING", "STOPPING"})
#: … and of one that is there, or about to be.
COMING = frozenset({"STARTING", "RUNNING", "BACKOFF"})
_BAD_NAME, _NOT_RUNNING, _ALREADY_STARTED, _ALREADY_ADDED = 10, 70, 60, 90


class Process(msgspec.Struct, frozen=True):
    """What supervisor knows of one program."""

    program: str
    #: Supervisor's word: ``RUNNING``, ``STARTING``, ``BACKOFF``, ``FATAL``, ``EXITED``, ``STOPPED``, ``STOPPING``.
    state: str
    pid: int
    #: Seconds since the epoch, and 0 where it has not happened.
    started: int
    stopped: int
    #: Exit code, where it has ended.
    code: int
    words: str

    @property
    def alive(self) -> bool:
        return self.state in ALIVE

    @property
    def failed(self) -> bool:
        """It ended before it counted as started, and is tried again, or was given up."""
        return self.state in ("BACKOFF", "FATAL")

    @property
    def over(self) -> bool:
        """It has ended by itself, one way or the other."""
        return self.failed or self.state == "EXITED"


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=ANSWER_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(ANSWER_S)
        self.sock.connect(self._path)


class _Transport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = str(path)

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        return _Connection(self._path)


class Supervisor:
    """Raises LinkError where supervisord does not answer."""

    def __init__(self, folder: NodeFolder) -> None:
        self._folder = folder
        proxy = xmlrpc.client.ServerProxy("http://localhost/RPC2", transport=_Transport(folder.supervisor_socket))
        self._rpc: Any = proxy.supervisor

    def _ask(self, name: str, *arguments: object, unless: Collection[int] = ()) -> Any:
        """``unless``: faults that mean that it is so already."""
        try:
            return getattr(self._rpc, name)(*arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode in unless:
                return None
            raise LinkError(f"supervisord in {self._folder.path} refuses: {fault.faultString}") from None
        except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
            why = getattr(error, "strerror", None) or type(error).__name__
            raise LinkError(f"supervisord in {self._folder.path} does not answer ({why})") from None

    @property
    def pid(self) -> int:
        return int(self._ask("getPID"))

    def processes(self) -> dict[str, Process]:
        """By the program's name."""
        return {
            one["name"]: Process(
                one["name"], one["statename"], one["pid"], one["start"], one["stop"], one["exitstatus"], one["spawnerr"]
            )
            for one in self._ask("getAllProcessInfo")
        }

    def add(self, programs: Sequence[str]) -> None:
        """Take their files in and start them."""
        self._ask("reloadConfig")
        for program in programs:
            self._ask("addProcessGroup", program, unless={_ALREADY_ADDED})

    def remove(self, programs: Sequence[str]) -> None:
        """Forget those that have stopped."""
        for program in programs:
            self._ask("removeProcessGroup", program, unless={_BAD_NAME})

    def start(self, program: str) -> None:
        self._ask("startProcess", program, False, unless={_ALREADY_STARTED})

    def stop(self, programs: Sequence[str]) -> None:
        """Tell them to stop; supervisor kills what does not, after a while. See :meth:`wait`."""
        for program in programs:
            self._ask("stopProcess", program, False, unless={_BAD_NAME, _NOT_RUNNING})

    def signal(self, program: str, name: str) -> None:
        self._ask("signalProcess", program, name, unless={_BAD_NAME, _NOT_RUNNING})

    def shutdown(self) -> None:
        self._ask("shutdown")

    def wait(self, done: Callable[[dict[str, Process]], bool], seconds: float) -> bool:
        """Whether ``done`` came true within ``seconds``."""
        deadline = time.monotonic() + seconds
        while not done(self.processes()):
            if time.monotonic() > deadline:
                return False
            time.sleep(LOOK_S)
        return True

    def stopped(self, programs: Sequence[str], seconds: float) -> bool:
        """Stop them and wait until they are gone."""
        self.stop(programs)

        def gone(processes: dict[str, Process]) -> bool:
            # One that had crashed just before was not running, and may have been started again since.
            if again := [name for name in programs if name in processes and processes[name].state in COMING]:
                self.stop(again)
            return not any(processes[name].alive for name in programs if name in processes)

        return self.wait(gone, seconds)
