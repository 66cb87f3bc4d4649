"""What an address of a socket may look like, and which ones need encryption. Pure."""

from __future__ import annotations

import ipaddress
import os

from common.errors import UsageError


def check_address(address: str, insecure: bool = False) -> None:
    """Refuse an address that is malformed, or tcp beyond loopback without encryption. Raises UsageError."""
    scheme, found, rest = address.partition("://")
    if not found or scheme not in ("ipc", "tcp", "inproc") or not rest:
        raise UsageError(f"{address!r} is not an address: write ipc:///folder/name or tcp://host:port")
    if scheme == "ipc" and len(os.fsencode(rest)) > 107:
        raise UsageError(f"{address!r} is longer than the 107 bytes that a Unix socket's path may have")
    if scheme != "tcp":
        return
    host, found, port = rest.rpartition(":")
    if not found or not (port == "*" or (port.isascii() and port.isdigit() and int(port) < 2**16)):
        raise UsageError(f"{address!r} has no port up to 65535: write tcp://host:port")
    if not insecure and not _is_loopback(host.strip("[]")):
        raise UsageError(f"{address!r} leaves this machine unencrypted: use ipc or loopback, or set insecure = true")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
