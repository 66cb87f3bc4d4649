"""Hosts made of network namespaces on this machine: each its own address, joined by a switch that can be unplugged.

Needs root and the ``ip`` program. The switch is a bridge in a namespace too, so nothing of ours is in the machine's
own network. Names hold our pid; what a killed process left behind is removed when the next one begins.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from string import ascii_lowercase

#: Addresses inside the namespaces are 10.213.0.1 and up; nobody outside sees them.
NETWORK = "10.213.0"
MAX_HOSTS = 200
#: Where ``ip netns`` keeps its names.
NAMES = Path("/run/netns")
#: Ours: ``hr``, the pid that made it, a letter for the network, ``s`` for the switch or a host's number.
_OURS = re.compile(r"^hr(\d+)[a-z](?:s|\d+)$")
#: One ``ip`` or ``tc`` command takes milliseconds.
COMMAND_S = 20.0
_CLONE_NEWNET = 0x40000000


def available() -> str:
    """ "" where hosts can be made, else why not."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "there is no ip program (Debian: iproute2)"
    probe = f"hr{os.getpid()}z{threading.get_native_id()}"
    try:
        _ip("netns", "add", probe)
        try:
            _ip("-n", probe, "link", "add", "p0", "type", "veth", "peer", "name", "p1")
            _ip("-n", probe, "link", "add", "b0", "type", "bridge")
            with _entered(probe):
                pass
        finally:
            _ip("netns", "del", probe)
    except OSError as error:
        return f"network namespaces cannot be made here: {error}"
    return ""


def sweep() -> list[str]:
    """Remove the namespaces of processes that are gone, with what still runs in them → their names."""
    if not NAMES.is_dir():
        return []
    stale = []
    for name in sorted(os.listdir(NAMES)):
        found = _OURS.match(name)
        if found and not Path(f"/proc/{found[1]}").exists():
            stale.append(name)
            _remove(name)
    return stale


class Hosts:
    """``count`` hosts in one network. A context: at its exit all of them are gone, with what runs in them.

    Raises OSError where they cannot be made: ask :func:`available` first.
    """

    def __init__(self, count: int) -> None:
        assert 1 <= count <= MAX_HOSTS
        self.count = count
        self._stem = self._switch = ""

    def __enter__(self) -> Hosts:
        sweep()
        mine = f"hr{os.getpid()}"
        self._stem = next(mine + one for one in ascii_lowercase[:-1] if not (NAMES / f"{mine}{one}s").exists())
        self._switch = f"{self._stem}s"
        try:
            _ip("netns", "add", self._switch)
            _ip("-n", self._switch, "link", "add", "bridge", "type", "bridge")
            _ip("-n", self._switch, "link", "set", "bridge", "up")
            for number in range(self.count):
                self._plug(number)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _plug(self, number: int) -> None:
        host, port = self.name(number), f"port{number}"
        _ip("netns", "add", host)
        _ip("-n", host, "link", "set", "lo", "up")
        _ip("-n", host, "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", self._switch)
        _ip("-n", self._switch, "link", "set", port, "master", "bridge", "up")
        _ip("-n", host, "address", "add", f"{self.address(number)}/24", "dev", "eth0")
        _ip("-n", host, "link", "set", "eth0", "up")

    def name(self, number: int) -> str:
        """The namespace of host ``number``, from 0."""
        if not 0 <= number < self.count:
            raise IndexError(f"host {number} of {self.count}")
        return f"{self._stem}{number}"

    def address(self, number: int) -> str:
        """Its IPv4 address."""
        return f"{NETWORK}.{number + 1}"

    @contextmanager
    def inside(self, number: int) -> Iterator[None]:
        """Sockets that this thread makes, and processes that it starts, meanwhile belong to host ``number``."""
        with _entered(self.name(number)):
            yield

    def run(self, number: int, *command: str, seconds: float = COMMAND_S) -> subprocess.CompletedProcess[str]:
        """Run a command on host ``number`` to its end, its output captured. Raises subprocess.TimeoutExpired."""
        with self.inside(number):
            return subprocess.run(command, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL)

    def cut(self, number: int) -> None:
        """Unplug the host: nothing passes, and nobody is told but by the silence. Connections stay as they are."""
        # Taken out of the bridge rather than set down: the host keeps its carrier and its routes, as behind a router.
        _ip("-n", self._switch, "link", "set", f"port{number}", "nomaster")

    def join(self, number: int) -> None:
        """Plug it in again."""
        _ip("-n", self._switch, "link", "set", f"port{number}", "master", "bridge")

    def down(self, number: int) -> None:
        """Take the host's own interface down: its sends fail at once, its routes are gone."""
        _ip("-n", self.name(number), "link", "set", "eth0", "down")

    def up(self, number: int) -> None:
        _ip("-n", self.name(number), "link", "set", "eth0", "up")

    def delay(self, number: int, seconds: float, jitter: float = 0.0) -> str:
        """Everything that the host sends is late by so much → "" or why this cannot be done (no netem)."""
        if shutil.which("tc") is None:
            return "there is no tc program (Debian: iproute2)"
        late = [f"{seconds * 1000:g}ms", *([f"{jitter * 1000:g}ms"] if jitter else [])]
        try:
            _call("tc", "-n", self.name(number), "qdisc", "replace", "dev", "eth0", "root", "netem", "delay", *late)
        except OSError as error:
            return f"this kernel has no netem: {error}"
        return ""

    def close(self) -> None:
        """Remove all, as far as it is there. What still runs inside is killed."""
        for name in [*(f"{self._stem}{number}" for number in range(self.count)), self._switch]:
            if self._stem and (NAMES / name).exists():
                _remove(name)


def _remove(name: str) -> None:
    # A namespace lives as long as a process is in it, whatever becomes of its name.
    with suppress(OSError):
        for pid in _ip("netns", "pids", name).split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
    with suppress(OSError):
        _ip("netns", "del", name)


def _ip(*words: str) -> str:
    return _call("ip", *words)


def _call(*words: str) -> str:
    """Standard output. Raises OSError with the command's own words where it fails."""
    done = _finished(words)
    if done.returncode:
        raise OSError(f"{' '.join(words)}: {' '.join(done.stderr.split()) or f'exit code {done.returncode}'}")
    return done.stdout


def _finished(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=COMMAND_S, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise OSError(f"{' '.join(words)}: no end within {COMMAND_S:g} s") from None


@contextmanager
def _entered(name: str) -> Iterator[None]:
    """The calling thread in that namespace. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)  # os.setns is there from Python 3.12 on
    with open(f"/proc/{os.getpid()}/task/{threading.get_native_id()}/ns/net") as home, open(NAMES / name) as there:
        _set(libc, there.fileno())
        try:
            yield
        finally:
            _set(libc, home.fileno())


def _set(libc: ctypes.CDLL, descriptor: int) -> None:
    if libc.setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")
