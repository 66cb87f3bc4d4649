"""Hosts of network namespaces: they reach each other until they are cut off, and nothing of them is left."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from deploy.faults import netns
from deploy.faults.netns import NAMES, Hosts, available, sweep
from tests.support import wait_for

WHY_NOT = available()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with Hosts(2) as hosts:
        yield hosts


def listen(hosts: Hosts, number: int) -> socket.socket:
    with hosts.inside(number):
        return socket.create_server((hosts.address(number), 0))


def reached(hosts: Hosts, number: int, listener: socket.socket, seconds: float = 0.3) -> bool:
    """Whether a connection from host ``number`` comes about."""
    with hosts.inside(number), socket.socket() as client:
        client.settimeout(seconds)
        try:
            client.connect(listener.getsockname())
        except OSError:
            return False
        return True


def ours() -> list[str]:
    pattern = re.compile(rf"^hr{os.getpid()}[a-z](s|\d+)$")
    return [name for name in os.listdir(NAMES) if pattern.match(name)] if NAMES.is_dir() else []


def test_hosts_reach_each_other_and_nobody_else(hosts: Hosts) -> None:
    here = socket.create_server(("127.0.0.1", 0))
    with listen(hosts, 0) as there, here:
        assert reached(hosts, 1, there)
        assert reached(hosts, 0, there)
        assert not reached(hosts, 1, here), "loopback is each host's own"
        with pytest.raises(OSError), socket.create_connection(there.getsockname(), 0.3):
            pass


def test_the_thread_comes_home(hosts: Hosts) -> None:
    before = os.readlink("/proc/thread-self/ns/net")
    with pytest.raises(ZeroDivisionError), hosts.inside(1):
        assert os.readlink("/proc/thread-self/ns/net") != before
        _ = 1 / 0
    assert os.readlink("/proc/thread-self/ns/net") == before
    with pytest.raises(IndexError), hosts.inside(2):
        pass


@pytest.mark.parametrize("way", [("cut", "join"), ("down", "up")])
def test_cut_off_and_back(hosts: Hosts, way: tuple[str, str]) -> None:
    off, on = way
    with listen(hosts, 0) as there:
        assert reached(hosts, 1, there)
        getattr(hosts, off)(1)
        assert not reached(hosts, 1, there)
        getattr(hosts, on)(1)
        wait_for(lambda: reached(hosts, 1, there), 10, "the way back")


def test_a_connection_outlives_a_short_cut(hosts: Hosts) -> None:
    """What was sent meanwhile comes afterwards: nothing but time is lost."""
    with listen(hosts, 0) as there:
        with hosts.inside(1):
            client = socket.create_connection(there.getsockname(), 5)
        server, _ = there.accept()
        with client, server:
            hosts.cut(1)
            client.sendall(b"still here")
            server.settimeout(0.3)
            with pytest.raises(TimeoutError):
                server.recv(1)
            hosts.join(1)
            server.settimeout(20)
            assert server.recv(100) == b"still here"


def test_commands(hosts: Hosts) -> None:
    done = hosts.run(1, "ip", "-brief", "address", "show", "dev", "eth0")
    assert done.returncode == 0
    assert f"{hosts.address(1)}/24" in done.stdout
    with pytest.raises(subprocess.TimeoutExpired):
        hosts.run(1, "sleep", "60", seconds=0.2)


def test_delay(hosts: Hosts) -> None:
    why = hosts.delay(1, 0.2)
    if why:
        pytest.skip(why)
    with listen(hosts, 0) as there:
        assert not reached(hosts, 1, there, 0.1)
        assert reached(hosts, 1, there, 5)


def test_nothing_is_left() -> None:
    """Not the names, not what runs inside."""
    with Hosts(3), Hosts(1) as more:
        assert len(ours()) == 6
        with more.inside(0):
            process = subprocess.Popen(["sleep", "60"])
    assert ours() == []
    assert process.wait(10) == -9


def test_leftovers_of_a_killed_process_are_swept() -> None:
    """It had no time to clean up; what it ran in a namespace goes as well."""
    script = (
        "import os, signal, subprocess\n"
        "from deploy.faults.netns import Hosts\n"
        "hosts = Hosts(1).__enter__()\n"
        "quiet = subprocess.DEVNULL\n"
        "with hosts.inside(0): child = subprocess.Popen(['sleep', '60'], stdout=quiet, stderr=quiet)\n"
        "print(hosts.name(0), child.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == -9, done.stderr
    name, pid = done.stdout.split()
    assert (NAMES / name).exists()
    assert name in sweep()
    assert not (NAMES / name).exists()
    wait_for(lambda: not psutil.pid_exists(int(pid)) or psutil.Process(int(pid)).status() == "zombie", 10, "its end")


def test_why_not() -> None:
    assert available() == ""
    path = os.environ["PATH"]
    os.environ["PATH"] = "/nowhere"
    try:
        assert "iproute2" in netns.available()
    finally:
        os.environ["PATH"] = path
