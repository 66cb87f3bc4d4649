"""Lossless runs over tcp with keys: strangers are refused and named, a key is revoked and let in again, and every frame
comes out."""

from __future__ import annotations

import random
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from common import config
from common.keys import new_key
from deploy import keys_folder
from deploy.faults.fleet import Fleet
from tests.integration.linked import FRAMES, Run, options
from tests.support import numbered_clip

#: A refusal is named within 2 s; and what a busy machine may add, in seconds.
NAMED_S = 2.0 + 2.0


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return numbered_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", FRAMES)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    keys_folder.make_all(folder)
    return folder


def free_ports(count: int) -> list[int]:
    """Nobody listens there now."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def over_tcp(fleet: config.Fleet, keys: Path) -> config.Fleet:
    """The fleet with all its sockets at loopback ports, and with keys."""
    *ports, metrics = free_ports(6)
    frames, workers, news, media, results = (f"tcp://127.0.0.1:{port}" for port in ports)
    return msgspec.structs.replace(
        fleet,
        broker=msgspec.structs.replace(fleet.broker, frames=frames, workers=workers, news=news),
        sink=msgspec.structs.replace(fleet.sink, media=media, results=results),
        security=config.Security(keys=str(keys)),
        metrics=config.Metrics(broker=metrics),
    )


def secured(fleet: config.Fleet, security: config.Security) -> config.Fleet:
    return msgspec.structs.replace(fleet, security=security)


def node(keys: Path, folder: Path, name: str, allowed: bool) -> config.Security:
    """The folder of another node, with a worker's key of its own."""
    shown = {held.key.role: held.key.public for held in keys_folder.look(keys).own if held.key}
    key, _ = keys_folder.make_one("worker", name, folder)
    if allowed:
        keys_folder.allow(keys, key.entry)
    return config.Security(keys=str(folder), broker=shown["broker"], sink=shown["sink"])


@contextmanager
def begun(folder: Path, clip: Path, keys: Path, workers: dict[str, config.Security], first: str = "") -> Iterator[Run]:
    """A run in progress; ``workers``: beside ``worker-1``, and with which keys."""
    fleet = Fleet(
        options(clip, folder, "echo:40", 1 + len(workers)), folder / "parts.log", lambda whole: over_tcp(whole, keys)
    )
    try:
        for name, security in workers.items():
            fleet.rewire(name, lambda whole, security=security: secured(whole, security))
        run = Run(fleet, folder)
        fleet.start(*fleet.names)
        run.begin()
        yield run
        run.finish()
    finally:
        fleet.close()


def at(fleet: Fleet, child: str, *words: str) -> float | None:
    """When this part first said so."""
    return fleet.named(0.0, *words, parts=(child,))


def refusals(fleet: config.Fleet) -> dict[str, float]:
    """Kind → how often the broker has counted it."""
    with urllib.request.urlopen(f"http://127.0.0.1:{fleet.metrics.broker}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    found: dict[str, float] = {}
    for line in text.splitlines():
        if line.startswith("headrace_refused_total{"):
            kind = line.split('kind="')[1].split('"')[0]
            found[kind] = found.get(kind, 0) + float(line.rpartition(" ")[2])
    return found


@pytest.mark.slow
def test_strangers_are_refused_and_the_run_is_whole(tmp_path: Path, clip: Path, keys: Path) -> None:
    """An unlisted key, no key, and one that expects another broker; and what speaks no ZeroMQ at all."""
    unlisted = node(keys, tmp_path / "unlisted", "gpu2", allowed=False)
    elsewhere = msgspec.structs.replace(
        node(keys, tmp_path / "elsewhere", "gpu4", allowed=True), broker=new_key("broker", "x").public
    )
    workers = {"worker-2": unlisted, "worker-3": config.Security(), "worker-4": elsewhere}
    with begun(tmp_path, clip, keys, workers) as run:
        fleet = run.fleet
        raw = socket.create_connection(("127.0.0.1", int(fleet.config.broker.frames.rpartition(":")[2])))
        raw.sendall(b"GET / HTTP/1.1\r\n\r\n" + random.Random(1).randbytes(4000))
        said = {
            "worker-2": (("the broker at tcp", "refused our key"), ("gpu2", "at workers: it is not on the list")),
            "worker-3": (("the broker at tcp", "wants a key and we have none"), ("at workers: it h",)),
            "worker-4": (("the broker at tcp", "another key than we expect"), ("at workers: it expects another key",)),
        }
        public = Path(unlisted.keys or "", "worker.key").read_text().split('public = "')[1].split('"')[0]
        said["worker-2"] = (said["worker-2"][0], (public, "at workers: it is not on the list"))

        def all_named() -> bool:
            return all(
                at(fleet, name, *theirs) is not None and at(fleet, "broker", *ours) is not None
                for name, (theirs, ours) in said.items()
            )

        run.until(all_named, "all are named at both ends")
        for name, (theirs, ours) in said.items():
            started = fleet.status(0.0, name, "ready", lambda _: True)
            assert started is not None
            for when in (at(fleet, name, *theirs), at(fleet, "broker", *ours)):
                assert when is not None
                assert when - started < NAMED_S, (name, when - started)
        counted = refusals(fleet.config)
        assert {"unknown_key", "no_key", "server_key"} <= counted.keys(), counted
        run.until(lambda: refusals(fleet.config).get("handshake", 0) >= 1, "garbage is counted")
        raw.close()
        run.until(lambda: at(fleet, "broker", "at workers: it has no key") is not None, "the reason")
    run.check_whole()
    assert sum("worker ready" in one.text for one in run.fleet.heard if one.child == "broker") == 1


def test_a_key_is_revoked_and_let_in_again(tmp_path: Path, clip: Path, keys: Path) -> None:
    """A worker's, whose frames are redone, and the producer's, for which the run waits."""
    workers = {"worker-2": node(keys, tmp_path / "gpu2", "gpu2", allowed=True)}
    with begun(tmp_path, clip, keys, workers) as run:
        fleet = run.fleet

        def ready(worker: str) -> int:
            return sum(
                one.child == "broker" and one.text.startswith("worker ready") and one.record.get("worker") == worker
                for one in fleet.heard
            )

        run.until(lambda: ready("worker-2") == 1, "both workers at work")
        start, entry = time.monotonic(), keys_folder.revoke(keys, "gpu2")
        named_in_both(run, start, "worker-2", "broker", "gpu2")
        keys_folder.allow(keys, entry)
        run.until(lambda: ready("worker-2") == 2, "its return")
        start, entry = time.monotonic(), keys_folder.revoke(keys, "producer")
        named_in_both(run, start, "producer", "sink", entry.public)
        named_in_both(run, start, "producer", "broker", entry.public)
        assert not run.over
        keys_folder.allow(keys, entry)
    run.check_whole()


def named_in_both(run: Run, start: float, client: str, server: str, who: str) -> None:
    """Both say it within 2 s of the revocation."""
    theirs, ours = (f"the {server} at tcp", "refused our key"), (who, "no longer on the list")

    def named(child: str, words: tuple[str, ...]) -> Callable[[], bool]:
        return lambda: run.fleet.named(start, *words, parts=(child,)) is not None

    for child, words in ((client, theirs), (server, ours)):
        run.until(named(child, words), f"{child} names it")
        when = run.fleet.named(start, *words, parts=(child,))
        assert when is not None
        assert when < NAMED_S, (child, when)
