"""What an address of a socket may look like, which ones need encryption, and where to listen."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import stat

from common.errors import LinkError, UsageError


def check_address(address: str, allowed: bool = False) -> None:
    """Refuse an address that is malformed, or tcp beyond loopback unless that is ``allowed``: there is encryption, or
    none is wanted. Raises UsageError."""
    scheme, found, rest = address.partition("://")
    if not found or scheme not in ("ipc", "tcp", "inproc") or not rest:
        raise UsageError(f"{address!r} is not an address: write ipc:///folder/name or tcp://host:port")
    if scheme == "ipc" and len(os.fsencode(rest)) > 107:
        raise UsageError(f"{address!r} is longer than the 107 bytes that a Unix socket's path may have")
    if scheme != "tcp":
        return
    host, found, port = rest.rpartition(":")
    if not found or not (port == "*" or (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 2**16)):
        raise UsageError(f"{address!r} has no port up to 65535: write tcp://host:port")
    if not allowed and not is_loopback(host.strip("[]")):
        raise UsageError(
            f"{address!r} leaves this machine unencrypted: make keys with headrace keys new, or set insecure = true"
        )


def is_loopback(host: str) -> bool:
    """Whether ``host``, without the brackets of IPv6, is this very machine for itself alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listening_at(address: str, interface: str | None = None) -> str:
    """Where to listen: the numeric form of a tcp address, or its port at ``interface`` (an address, or ``*``).

    Raises LinkError where the host is not known.
    """
    if not address.startswith("tcp://"):
        return address
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    host = interface or host.strip("[]")
    if host != "*" and not _is_numeric(host):
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError as error:
            raise LinkError(f"cannot listen at {address}: {host} is not known here ({error.strerror}); "
                            'write bind = "*" beside it, or a numeric address') from None  # fmt: skip
        found.sort(key=lambda one: one[0] != socket.AF_INET)
        host = str(found[0][4][0])
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def is_ipv6(address: str) -> bool:
    """Whether a tcp address is a numeric one of IPv6."""
    return address.startswith("tcp://[")


def needs_ipv6(address: str) -> bool:
    """Whether a tcp address that is dialled is one of IPv6 alone, as far as its name is known now."""
    host = address.removeprefix("tcp://").rpartition(":")[0]
    if is_ipv6(address) or _is_numeric(host):
        return is_ipv6(address)
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return all(one[0] == socket.AF_INET6 for one in found)


def clear_stale(address: str) -> None:
    """Remove the socket file that a dead process has left. ZeroMQ would take the place of a living one as well.

    Raises LinkError where somebody listens there.
    """
    path = address.removeprefix("ipc://")
    if not address.startswith("ipc://") or path.startswith(("@", "*")):
        return  # no file, or a new one
    try:
        found = os.lstat(path)
    except OSError:
        return  # nothing is there, or what is there will be told by whoever listens
    if not stat.S_ISSOCK(found.st_mode):
        raise LinkError(f"cannot listen at {address}: there is a file that is no socket; take another path")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        answer = probe.connect_ex(path)
    if answer in (0, errno.EAGAIN, errno.EINPROGRESS):
        raise LinkError(f"cannot listen at {address}: it is in use by another fleet; stop that one")
    if answer == errno.ECONNREFUSED:
        with contextlib.suppress(OSError):  # who listens will say it
            os.unlink(path)


def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
