"""Where a socket listens: in place of a dead process, never of a living one; at an interface; under a host's name."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.address import clear_stale, listening_at
from common.errors import LinkError, UsageError
from common.transport import Hub
from tests.support import wait_for


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def test_a_socket_in_use_is_left_alone(tmp_path: Path, hub: Hub) -> None:
    """By another process of ours, by one that hangs, and by one that is no Headrace."""
    address = f"ipc://{tmp_path}/x"
    pull = hub.bind("pull", address)
    with Hub() as other, pytest.raises(LinkError, match=r"cannot listen at ipc://.*/x: it is in use by another fleet"):
        other.bind("pull", address)
    hub.connect("push", address).send(b"x")
    assert wait_for(pull.receive, 5, "a message") == [b"x"], "the first one is still there"
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(tmp_path / "hung"))
        hung.listen(0)
        probes = []
        for _ in range(2):  # its queue is full now
            probe = socket.socket(socket.AF_UNIX)
            probe.setblocking(False)
            probe.connect_ex(str(tmp_path / "hung"))
            probes.append(probe)
        with Hub() as other, pytest.raises(LinkError, match="in use by another fleet"):
            other.bind("router", f"ipc://{tmp_path}/hung")
        for probe in probes:
            probe.close()


def test_what_a_dead_process_has_left_is_taken(tmp_path: Path, hub: Hub) -> None:
    code = "import os, sys; from common.transport import Hub; h = Hub(); h.bind('pull', sys.argv[1]); os._exit(0)"
    subprocess.run([sys.executable, "-c", code, f"ipc://{tmp_path}/x"], check=False, timeout=60)
    assert (tmp_path / "x").is_socket()
    pull = hub.bind("pull", f"ipc://{tmp_path}/x")
    hub.connect("push", f"ipc://{tmp_path}/x").send(b"x")
    assert wait_for(pull.receive, 5, "a message") == [b"x"]


def test_a_file_is_not_taken_for_a_socket(tmp_path: Path, hub: Hub) -> None:
    """ZeroMQ alone would remove it."""
    (tmp_path / "x").write_text("precious")
    with pytest.raises(LinkError, match="a file that is no socket"):
        hub.bind("pull", f"ipc://{tmp_path}/x")
    assert (tmp_path / "x").read_text() == "precious"


def test_a_name_without_a_file(hub: Hub) -> None:
    clear_stale("tcp://127.0.0.1:1")
    pull = hub.bind("pull", f"ipc://@headrace-{os.getpid()}")
    hub.connect("push", f"ipc://@headrace-{os.getpid()}").send(b"x")
    assert wait_for(pull.receive, 5, "a message") == [b"x"]


def test_a_port_in_use(hub: Hub) -> None:
    address = hub.bind("pull", "tcp://127.0.0.1:*").address
    with Hub() as other, pytest.raises(LinkError) as caught:
        other.bind("pull", address)
    assert str(caught.value) == (
        f"cannot listen at {address}: Address already in use; stop what listens there, or take another port"
    )


@pytest.mark.parametrize(
    ("address", "interface", "place"),
    [
        ("tcp://127.0.0.1:70", None, "tcp://127.0.0.1:70"),
        ("tcp://10.1.2.3:70", "*", "tcp://*:70"),
        ("tcp://gpu-host.example:70", "10.1.2.3", "tcp://10.1.2.3:70"),
        ("tcp://10.1.2.3:*", "::1", "tcp://[::1]:*"),
        ("tcp://[::1]:70", None, "tcp://[::1]:70"),
        ("tcp://*:70", None, "tcp://*:70"),
        ("tcp://localhost:70", None, "tcp://127.0.0.1:70"),
        ("ipc:///tmp/x", "*", "ipc:///tmp/x"),
    ],
)
def test_where_it_listens(address: str, interface: str | None, place: str) -> None:
    assert listening_at(address, interface) == place


def test_an_unknown_host() -> None:
    with pytest.raises(
        LinkError, match=r"cannot listen at tcp://nowhere\.invalid:7: nowhere\.invalid is not known here"
    ):
        listening_at("tcp://nowhere.invalid:7")


def test_an_interface_of_somebody_else(hub: Hub) -> None:
    with (
        Hub(insecure=True) as other,
        pytest.raises(LinkError, match=r"cannot listen at tcp://localhost:7 \(tcp://192\.0"),
    ):
        other.bind("pull", "tcp://localhost:7", interface="192.0.2.1")
    with pytest.raises(UsageError, match="leaves this machine unencrypted: make keys with headrace keys new"):
        hub.bind("pull", "tcp://localhost:7", interface="*")


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
def test_ipv6(hub: Hub) -> None:
    pull = hub.bind("pull", "tcp://[::1]:*")
    hub.connect("push", pull.address).send(b"x")
    assert wait_for(pull.receive, 5, "a message") == [b"x"]


def test_a_hub_leaves_no_thread(hub: Hub) -> None:
    before = threading.active_count()
    with Hub() as other:
        other.bind("pull", "tcp://127.0.0.1:*")
    assert threading.active_count() == before
