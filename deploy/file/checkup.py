"""What ``headrace check`` looks at, and what it tells of a file without mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common import config
from common.errors import HeadraceError
from common.keyfiles import Role
from common.keys import Ring
from common.log import mask
from deploy.checks import check_model
from deploy.file.mistakes import Mistakes
from deploy.fleetfile import FleetFile
from deploy.roles import LINKS, ROLES

#: Whose key a role shows, and whom it dials: section of the address, its key, and the server.
KEYS: dict[str, Role] = {"broker": "broker", "workers": "worker", "sink": "sink", "producers": "producer"}


def check_up(path: Path, roles: frozenset[str], gpus: int) -> tuple[config.Fleet, Mistakes]:
    """The fleet that ``headrace up`` would start, and all that is wrong with it. Nothing is made or started.

    Raises UsageError where the file is no TOML.
    """
    file = FleetFile(path)
    fleet, book = file.check(roles, gpus)
    if "workers" in roles and not book.below(("workers", "model")):
        try:
            check_model(fleet.workers.model, file.base)
        except HeadraceError as error:
            book.add(("workers", "model"), str(error))
    if not book.below(("security",)):
        _check_keys(fleet, roles, book)
    return fleet, book


def _check_keys(fleet: config.Fleet, roles: frozenset[str], book: Mistakes) -> None:
    """Each part's own key, and the public keys of those whom it dials by tcp."""
    for role in sorted(roles):
        try:
            ring = Ring.of(fleet.security, KEYS[role])
        except HeadraceError as error:
            book.add(("security", "keys"), str(error), fleet.security.keys)
            return
        for (section, key), (server, callers) in LINKS.items():
            address = getattr(getattr(fleet, section), key)
            if ring is not None and role in callers and address.startswith("tcp://") and server not in ring.servers:
                text = f"the {server}'s public key is not known: write it here; headrace keys show tells it over there"
                book.add(("security", server), text)


def told(path: Path, fleet: config.Fleet, roles: frozenset[str], book: Mistakes) -> dict[str, Any]:
    """What a file without mistakes (``book``) means for this node, for programs and for people."""
    hide = book.filled.hide
    about: dict[str, Any] = {
        "file": str(path),
        "folder": fleet.node.folder,
        "roles": [role for role in ROLES if role in roles],
        "addresses": {f"{section}.{key}": getattr(getattr(fleet, section), key) for section, key in _meeting(roles)},
        "page": f"http://{fleet.page.listen}/" if fleet.page.enabled else None,
        "metrics": f"http://{fleet.metrics.listen}/metrics" if fleet.metrics.listen else None,
        "keys": fleet.security.keys,
        "streams": [
            {
                "name": stream.name,
                "mode": stream.mode,
                "model": stream.model,
                "source": mask(hide(stream.source)),
                "outputs": [mask(hide(output.path)) for output in stream.outputs],
            }
            for stream in fleet.streams
        ],
    }
    if "workers" in roles:
        about["workers"] = {"count": fleet.workers.count, "model": fleet.workers.model, "device": fleet.workers.device}
    return about


def _meeting(roles: frozenset[str]) -> list[tuple[str, str]]:
    return [where for where, (listener, callers) in LINKS.items() if roles.intersection((listener, *callers))]


def lines(about: dict[str, Any]) -> list[tuple[str, str]]:
    """For people: (what, text)."""
    rows = [("parts", ", ".join(_parts(about))), ("folder", about["folder"])]
    away = {name: address for name, address in about["addresses"].items() if address.startswith("tcp://")}
    rows += [("address", f"{name} {address}") for name, address in away.items()]
    if away:
        rows.append(("keys", about["keys"] or "none"))
    rows += [(what, about[what]) for what in ("page", "metrics") if about[what]]
    for stream in about["streams"]:
        where = f"{stream['source']} → {', '.join(stream['outputs'])}"
        rows.append(("stream", f"{stream['name']} ({stream['mode']}, {stream['model']}): {where}"))
    return rows


def _parts(about: dict[str, Any]) -> list[str]:
    parts = [role for role in about["roles"] if role in ("broker", "sink")]
    if (workers := about.get("workers")) is not None:
        count = workers["count"]
        parts.append(f"{count} worker{'s' * (count != 1)} with {workers['model']} on {workers['device']}")
    if "producers" in about["roles"]:
        count = len(about["streams"])
        parts.append(f"{count} producer{'s' * (count != 1)}")
    return parts
