"""Every link of a fleet over tcp, each through a proxy of its own: what the network between hosts can do to it.

The parts that listen are told their real addresses, those that dial the proxies'.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from dataclasses import fields

import msgspec

from common import config
from deploy.faults.fleet import Fleet
from deploy.faults.proxy import Proxy

#: Ports to listen at lie below those that the kernel gives to dialling sockets (32768–60999).
PORTS = range(20_000, 30_000)
#: Link → the section and key of the address, and the parts that dial it.
LINKS = {
    "frames": ("broker", "frames", ("producer",)),
    "news": ("broker", "news", ("producer",)),
    "media": ("sink", "media", ("producer",)),
    "work": ("broker", "workers", ("workers",)),
    "results": ("sink", "results", ("workers",)),
    "verdicts": ("sink", "results", ("broker",)),
}


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Ports of ``host`` at which nobody listens now. Raises OSError where there are too few."""
    found: list[int] = []
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        if len(found) == count:
            return found
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
        found.append(port)
    raise OSError(f"no {count} free ports on {host}")


def on_tcp(fleet: config.Fleet) -> config.Fleet:
    """The same fleet at tcp addresses on loopback."""
    ports = free_ports(5)
    addresses = [f"tcp://127.0.0.1:{port}" for port in ports]
    broker = msgspec.structs.replace(fleet.broker, frames=addresses[0], workers=addresses[1], news=addresses[2])
    sink = msgspec.structs.replace(fleet.sink, media=addresses[3], results=addresses[4])
    return msgspec.structs.replace(fleet, broker=broker, sink=sink)


class Links:
    """Proxies in front of a fleet that :func:`on_tcp` has moved. Make them before its parts are started."""

    def __init__(self, fleet: Fleet, seed: int = 0) -> None:
        self._proxies: dict[str, Proxy] = {}
        try:
            for number, (name, (section, key, _)) in enumerate(LINKS.items()):
                self._proxies[name] = Proxy(getattr(getattr(fleet.config, section), key), seed + number)
        except BaseException:
            self.close()
            raise
        for part in ("producer", "broker", *fleet.workers):
            fleet.rewire(part, lambda whole, part=part: self._seen_by(part, whole))  # type: ignore[misc]

    def _seen_by(self, part: str, whole: config.Fleet) -> config.Fleet:
        kind = "workers" if part.startswith("worker") else part
        for name, (section, key, dialling) in LINKS.items():
            if kind in dialling:
                changed = msgspec.structs.replace(getattr(whole, section), **{key: self._proxies[name].address})
                whole = msgspec.structs.replace(whole, **{section: changed})
        return whole

    def __getitem__(self, name: str) -> Proxy:
        return self._proxies[name]

    def __iter__(self) -> Iterator[Proxy]:
        return iter(self._proxies.values())

    def counts(self) -> dict[str, dict[str, int]]:
        """Link → what its proxy has counted."""
        return {
            name: {field.name: getattr(proxy.counts, field.name) for field in fields(proxy.counts)}
            for name, proxy in self._proxies.items()
        }

    def close(self) -> None:
        for proxy in self:
            proxy.close()

    def __enter__(self) -> Links:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
