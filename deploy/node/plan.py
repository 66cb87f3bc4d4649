"""What a node's fleet consists of: its parts, and what of the configuration each of them depends on. Pure."""

from __future__ import annotations

import hashlib
import re
import socket
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec

from common.config import Fleet
from common.errors import Exit
from deploy.children import command_of
from deploy.streams import part_of

AGENT = "agent"
#: Supervisor stops in the reverse order: producers, broker, workers, sink, agent.
ORDER = {"agent": 10, "sink": 100, "workers": 200, "broker": 300, "producer": 400}
#: A producer that ends so is not started again: its source or an output is at its end, or wrong.
FINAL = (Exit.OK, Exit.INCOMPLETE, Exit.USAGE, Exit.SOURCE, Exit.OUTPUT, Exit.INTERRUPTED)


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One process that supervisor looks after."""

    name: str
    #: Supervisor's name for it, which has no spaces or colons.
    program: str
    module: str
    arguments: list[str]
    environment: dict[str, str] = {}
    #: Stands for what it depends on of the configuration: it is started again where this has changed.
    digest: str
    #: TERM ends what it does; USR1 leaves it to a successor.
    stop_signal: str = "TERM"
    #: Seconds until it is killed, and those that it must live to count as started.
    stop_s: int = 15
    start_s: int = 3
    priority: int
    #: Exit codes after which it is left alone; none: it is always started again.
    final: list[int] = []


def worker_name(number: int) -> str:
    return f"worker-{number}"


def parts_of(fleet: Fleet, roles: Collection[str], gpus: Sequence[str], without: Collection[str] = ()) -> list[Part]:
    """All parts of this node. ``without``: streams that rest, or have ended."""
    parts = [_part(AGENT, fleet, [fleet.page, fleet.metrics, fleet.node], "agent", start_s=1)]
    if "sink" in roles:
        # Its streams it follows by itself.
        needs = [fleet.run, fleet.sink, fleet.security, fleet.metrics.sink]
        parts.append(_part("sink", fleet, needs, "sink", stop_signal="USR1", stop_s=20))
    if "broker" in roles:
        needs = [fleet.broker, fleet.sink.name, fleet.sink.results, fleet.security, fleet.metrics.broker]
        parts.append(_part("broker", fleet, needs, "broker"))
    if "workers" in roles:
        # The broker knows workers of many nodes.
        prefix = "" if "broker" in roles else f"{fleet.node.name or socket.gethostname()}/"
        parts += [_worker(fleet, number, gpus, prefix) for number in range(1, fleet.workers.count + 1)]
    if "producers" in roles:
        parts += [_producer(fleet, name) for name in _names(fleet) if name not in without]
    return parts


def program_of(name: str) -> str:
    """Supervisor's name for the part ``name``."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "-", name.replace(":", "-", 1))[:80]
    if plain == name.replace(":", "-", 1):
        return plain
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _names(fleet: Fleet) -> Iterable[str]:
    return (stream.name for stream in fleet.streams)


def _worker(fleet: Fleet, number: int, gpus: Sequence[str], prefix: str) -> Part:
    # How many there are, the others need not know; but it divides the cores, where nobody says how many threads.
    settings = msgspec.structs.replace(fleet.workers, count=1, per_gpu=1)
    needs = [settings, fleet.broker.workers, fleet.sink.name, fleet.sink.results, fleet.security]
    part = _part(worker_name(number), fleet, [*needs, prefix], "workers", start_s=10)
    if prefix:
        part = msgspec.structs.replace(part, arguments=["--name", f"{prefix}{worker_name(number)}"])
    if not gpus:
        return part
    mine = gpus[(number - 1) % len(gpus)]
    return msgspec.structs.replace(part, environment={**part.environment, "CUDA_VISIBLE_DEVICES": mine})


def _producer(fleet: Fleet, name: str) -> Part:
    needs = [fleet.stream(name), fleet.broker.frames, fleet.broker.news, fleet.sink.name, fleet.sink.media]
    final = [int(code) for code in FINAL]
    more: dict[str, Any] = {"stop_signal": "USR1", "final": final, "start_s": 1}  # some streams are short
    return _part(part_of(name), fleet, [*needs, fleet.security], "producer", **more)


def _part(name: str, fleet: Fleet, needs: list[Any], kind: str, **more: Any) -> Part:
    module, arguments = ("deploy.agent", []) if name == AGENT else command_of(name)
    digest = hashlib.sha256(msgspec.json.encode(needs, order="sorted")).hexdigest()[:16]
    return Part(
        name=name,
        program=program_of(name),
        module=module,
        arguments=arguments,
        digest=digest,
        priority=ORDER[kind],
        **more,
    )
