"""The only door to Ray: it is imported here, kept from calling home, and its errors become ours."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from typing import IO, Any

from common.errors import LinkError, UsageError

#: By itself Ray reports usage to its makers and asks about it on the terminal; neither is ours to allow. The last one
#: leaves GPUs to whom Ray gave none, and silences a warning of it. They are read when Ray is imported.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_PROMPT_ENABLED": "0",
    "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9/",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
#: Where a cluster is asked for when no address is given: on this very machine.
AUTO = "auto"
#: How long an address is tried, in seconds. Ray itself would try for minutes.
KNOCK_S = 5.0
#: As much is read of what Ray says, in bytes: its last words.
SAID_BYTES = 65536


def load() -> Any:
    """Ray itself. Raises UsageError where it is not installed."""
    os.environ.update(QUIET)
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise UsageError("clusters need Ray: pip install headrace[cluster]") from None


@contextlib.contextmanager
def joined(address: str | None) -> Iterator[Any]:
    """Ray, joined to the cluster at ``address`` (None: RAY_ADDRESS, else the one on this machine), and left at the end.

    Raises UsageError where Ray is not installed, LinkError where there is no such cluster.
    """
    ray = load()
    where = address or os.environ.get("RAY_ADDRESS") or AUTO
    _knock(where)
    said = ""
    try:
        with _hushed() as log:
            try:
                ray.init(address=where, logging_level=logging.FATAL, log_to_driver=False, configure_logging=False)
            finally:
                said = _last(log)
    except Exception as error:
        raise LinkError(_why(where, error, said)) from error
    try:
        yield ray
    finally:
        with contextlib.suppress(Exception):
            ray.shutdown()


def _knock(where: str) -> None:
    """Raises LinkError where nobody listens at an address with a port."""
    host, found, port = where.removeprefix("ray://").rpartition(":")
    if not found or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), KNOCK_S).close()
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise LinkError(f"no Ray cluster answers at {where}: {why}") from None


@contextlib.contextmanager
def _hushed() -> Iterator[IO[bytes]]:
    """Standard error goes to a file meanwhile: Ray's library tells there, past Python, of each of its attempts."""
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with tempfile.TemporaryFile() as log:
            os.dup2(log.fileno(), 2)
            try:
                yield log
            finally:
                sys.stderr.flush()
                os.dup2(saved, 2)
    finally:
        os.close(saved)


def _last(log: IO[bytes]) -> str:
    sys.stderr.flush()
    log.seek(max(0, log.seek(0, os.SEEK_END) - SAID_BYTES))
    return log.read().decode(errors="replace")


def _why(where: str, error: Exception, said: str) -> str:
    """``said``: what Ray's library has said of its attempts."""
    text = " ".join(str(error).split())
    if "authentication token" in text or "Unauthenticated" in said:
        token = "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to the file with its token"
        return f"the Ray cluster at {where} wants its token: {token}"
    if where.startswith("ray://") and "timeout" in text:
        return f"no Ray cluster answers at {where}, or it wants its token: RAY_AUTH_MODE=token, RAY_AUTH_TOKEN_PATH"
    if where == AUTO and isinstance(error, ConnectionError):
        start = "ray start --head --disable-usage-stats"
        return f"no Ray cluster runs on this machine: start one ({start}), or name one with --address"
    if "ray[client]" in text:
        return f"{where} needs Ray's client: pip install 'ray[client]', or run this command on a node of the cluster"
    return f"cannot join the Ray cluster at {where}: {text[:400]}"
