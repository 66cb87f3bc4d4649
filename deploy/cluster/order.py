"""What is to be placed, and how many of it. Pure: what the cluster has is an argument."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from common import config
from common.address import is_loopback
from common.errors import UsageError
from deploy.fleetfile import FleetFile

#: A fleet's actors live in a Ray namespace of its own: this and its name.
NAMESPACE = "headrace-"
#: The notebook's name there; slots are called worker-1 and so on.
NOTEBOOK, SLOT = "notebook", "worker-"
#: Most workers of one fleet on a cluster: the broker takes no more.
MAX_SLOTS = 1024
_FLEET = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")
_SLOT = re.compile(rf"{SLOT}([1-9][0-9]*)")
#: Ray counts shares of a GPU in ten-thousandths.
_SHARE = 10_000

#: As ``ray.nodes()`` tells of them.
Nodes = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Order:
    """What every slot of a fleet is made of."""

    #: The configuration that workers read, as JSON: without streams and without the page's token.
    config: str
    #: The folder of the fleet's file, where relative paths start on the nodes that have it.
    base: str
    #: CPUs and GPUs that a slot takes, as Ray counts them.
    cpus: float
    gpus: float
    #: Threads of a worker's inference.
    threads: int


def order_of(path: Path, cpus: float | None, nodes: Nodes) -> tuple[Order, config.Fleet]:
    """The order for the fleet's file ``path`` on such ``nodes``. ``cpus``: a slot's;
    None: as many as a worker has threads, or one.

    Raises UsageError.
    """
    file = FleetFile(path)
    fleet = file.node(file.folder, frozenset({"workers"}), 0)
    # What workers do not need may be a secret: sources with passwords, the page's token.
    fleet = msgspec.structs.replace(fleet, streams=[], page=config.Page(enabled=False))
    settings = fleet.workers
    gpus = 0.0
    if settings.device != "cpu" and gpus_of(nodes):
        gpus = 1.0 if settings.per_gpu == 1 else math.floor(_SHARE / settings.per_gpu) / _SHARE
    order = Order(
        config=config.dump(fleet).decode(),
        base=str(file.base),
        cpus=float(settings.threads or 1) if cpus is None else cpus,
        gpus=gpus,
        threads=settings.threads or max(1, int(cpus or 1)),
    )
    return order, fleet


def count_of(
    order: Order,
    settings: config.Workers,
    nodes: Nodes,
    workers: int | None = None,
    per_node: int | None = None,
) -> int:
    """How many slots: ``workers``, or ``per_node`` on each node that has room for one, or one for each share of each
    GPU, or one for each such node. Raises UsageError."""
    if workers is not None and per_node is not None:
        raise UsageError("--workers and --per-node exclude each other: leave one out")
    if workers is not None:
        return _bounded(workers)
    fit = [node for node in nodes if _has(node, "CPU") >= order.cpus and _has(node, "GPU") >= order.gpus]
    if per_node is not None:
        return _bounded(per_node * len(fit))
    if order.gpus:
        return _bounded(int(sum(_has(node, "GPU") for node in fit)) * settings.per_gpu)
    return _bounded(len(fit))


def _bounded(count: int) -> int:
    if count > MAX_SLOTS:
        raise UsageError(f"{count} workers are more than the {MAX_SLOTS} that one broker takes")
    return count


def gpus_of(nodes: Nodes) -> int:
    """All GPUs of the nodes that are alive."""
    return int(sum(_has(node, "GPU") for node in nodes))


def _has(node: Mapping[str, Any], what: str) -> float:
    return float(node["Resources"].get(what, 0.0)) if node["Alive"] else 0.0


def unreachable(fleet: config.Fleet, nodes: Nodes) -> str:
    """ "" or a warning: an address that means another machine on each node."""
    if len({node["NodeManagerAddress"] for node in nodes if node["Alive"]}) < 2:
        return ""
    for name, address in (("broker.workers", fleet.broker.workers), ("sink.results", fleet.sink.results)):
        if is_loopback(address.removeprefix("tcp://").rpartition(":")[0].strip("[]")):
            return f"{name} = {address} is another machine on each node: workers elsewhere will not find it"
    return ""


def check_name(fleet: str) -> str:
    """``fleet`` itself. Raises UsageError where a fleet cannot be called so."""
    if not _FLEET.fullmatch(fleet):
        raise UsageError(f"--fleet {fleet}: a name has up to 63 letters, digits, dots, dashes and underscores")
    return fleet


def target_of(text: str) -> int:
    """The number in ``workers=N``. Raises UsageError."""
    name, found, number = text.partition("=")
    if name != "workers" or not found or not (number.isascii() and number.isdigit()):
        raise UsageError(f"{text!r} says not what is to be scaled: write workers=N")
    return _bounded(int(number))


def number_of(slot: str) -> int | None:
    """3 for ``worker-3``; None for what is no slot."""
    found = _SLOT.fullmatch(slot)
    return int(found[1]) if found else None


def free_names(taken: Iterable[str], count: int) -> list[str]:
    """``count`` names of slots that are not taken, the lowest numbers first."""
    used = {number_of(name) for name in taken}
    free = (number for number in range(1, MAX_SLOTS + 2 + len(used)) if number not in used)
    return [f"{SLOT}{next(free)}" for _ in range(count)]
