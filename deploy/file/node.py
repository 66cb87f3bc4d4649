"""What a node makes of a fleet's file: how many workers, where paths start, whether its addresses suit its roles."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import config
from common.address import check_address
from common.errors import UsageError
from deploy.file.mistakes import Mistakes
from deploy.roles import LINKS, parts_of_link, split_links

Table = dict[str, Any]


def node_tables(raw: Table, base: Path, folder: Path, roles: frozenset[str], gpus: int | None) -> Table:
    """The sections ``raw`` of a file in ``base``, for a node in ``folder``. ``gpus``: where the file does not say how
    many workers there are, as many as so many GPUs can take; None: it says."""
    workers = {"model": "face", **raw.get("workers", {})}
    if gpus is not None:
        workers["count"] = min(
            config.MAX_WORKERS, max(1, gpus * workers.get("per_gpu", config.Workers(model="-").per_gpu))
        )
    if "workers" not in roles:
        workers["count"] = 0
    security = security_table(raw, base)
    node = {**raw.get("node", {}), "folder": str(folder)}
    return {"run": "", **raw, "workers": workers, "security": security, "node": node}


def security_table(raw: Table, base: Path) -> Table:
    """``[security]`` of a file in ``base``: the folder of keys lies beside the file where it is relative."""
    security = dict(raw.get("security", {}))
    if security.get("keys") is not None:
        security["keys"] = os.path.normpath(base / security["keys"])
    return security


def check_addresses(raw: Table, book: Mistakes) -> None:
    """Tell ``book`` of addresses that nobody can listen at, and of those that are named twice."""
    known: dict[str, str] = {}
    for section, key in LINKS:
        address = raw.get(section, {}).get(key)
        if address is None:
            continue
        try:
            check_address(address, True)
        except UsageError as error:
            book.add((section, key), str(error))
            continue
        if (other := known.setdefault(address, f"{section}.{key}")) != f"{section}.{key}":
            book.add((section, key), f"{other} has this address: choose another", address)
    ports: dict[int, str] = {}
    for section, key, port in _ports(raw):
        if port > 65535:
            text = "allowed is HOST:PORT with a port from 0 to 65535"
            book.add((section, key), text, raw[section][key])
        elif port and (other := ports.setdefault(port, f"{section}.{key}")) != f"{section}.{key}":
            book.add((section, key), f"{other} has this port: choose another", raw[section][key])


def _ports(raw: Table) -> Iterator[tuple[str, str, int]]:
    """Of what is served by HTTP."""
    page, metrics = raw.get("page", {}), raw.get("metrics", {})
    if page.get("enabled", True):
        yield "page", "listen", int(page.get("listen", config.Page().listen).rpartition(":")[2])
    if metrics.get("listen") is not None:
        yield "metrics", "listen", int(metrics["listen"].rpartition(":")[2])
    for key in ("broker", "sink"):
        if metrics.get(key) is not None:
            yield "metrics", key, metrics[key]


def check_links(fleet: config.Fleet, raw: Table, roles: frozenset[str], book: Mistakes) -> None:
    """Tell ``book`` of addresses by which the parts of this node cannot meet others, or may not."""
    for section, key, problem in split_links(fleet, roles):
        book.add((section, key), problem, raw.get(section, {}).get(key))
    for section, key in LINKS:
        if not roles.intersection(parts_of_link(section, key)):
            continue
        given = raw.get(section, {}).get(key)
        try:
            secure = fleet.security.insecure or fleet.security.keys is not None
            check_address(getattr(getattr(fleet, section), key), secure)
        except UsageError as error:
            book.add((section, key) if given is not None else ("node", "folder"), str(error))
