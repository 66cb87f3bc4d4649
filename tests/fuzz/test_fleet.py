"""A real broker, worker and sink under fire on all sockets at full speed, with an honest run in the middle of it."""

from __future__ import annotations

import re
import shutil
import socket
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from msgspec.structs import replace

from common import config
from common.lifecycle import Stopper
from common.status import Status
from common.transport import Endpoint, Hub
from deploy.children import Children
from deploy.spec import RunOptions, build
from producer.service import Producer
from tests.fuzz.corpus import READERS
from tests.fuzz.headers import REFUSALS, Headers, verdict
from tests.support import Place, ledger, numbered_clip, numbers, wait_for

FRAMES = 100
#: How long the parts are under fire after the honest run, in seconds.
FIRE_S = 4.0
#: By so much may a part grow meanwhile, in bytes.
SLACK = 24 * 2**20
#: Reader → part, the socket's name in the metrics and on disk, and how a stranger dials it.
TARGETS = {
    "broker workers": ("broker", "workers", "dealer"),
    "broker frames": ("broker", "frames", "push"),
    "sink media": ("sink", "media", "dealer"),
    "sink results": ("sink", "results", "push"),
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def fleet(place: Place) -> Iterator[config.Fleet]:
    clip = numbered_clip(place.folder / "clip.mp4", FRAMES)
    folder = place.runtime / "headrace-fuzz"
    folder.mkdir()
    built = build(RunOptions(source=str(clip), outputs=[str(place.folder / "out.mp4")], model="echo", batch=4), folder)
    built = replace(built, metrics=config.Metrics(broker=free_port(), sink=free_port()))
    (folder / "fleet.json").write_bytes(config.dump(built))
    children = Children(str(folder))
    for module in ("broker", "workers", "sink"):
        children.start(module, module, ["-c", str(folder / "fleet.json")])
    try:
        for name in ("workers", "frames", "media", "results"):
            wait_for((folder / name).exists, 60, f"the socket {name}")
        yield built
    finally:
        children.stop(list(children.alive), 8)
        shutil.rmtree(folder)


class Fire:
    """Sends hostile messages from a thread of its own; ``refusable`` counts by part, socket and kind."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._make = Headers(seed).make
        self._stop, self._quiet, self._may_close = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.refusable: Counter[tuple[str, str, str]] = Counter()
        self.error: BaseException | None = None
        self._thread.start()

    def _run(self) -> None:
        try:
            with Hub() as hub:
                dialled = {
                    name: hub.connect(kind, f"ipc://{self._folder}/{where}")
                    for name, (_, where, kind) in TARGETS.items()
                }
                while not self._stop.is_set():
                    name, parts = self._make()
                    if name in dialled:
                        self._send(dialled[name], parts)
                        part, where, _ = TARGETS[name]
                        self.refusable[part, where, verdict(READERS[name], parts)] += 1
                self._quiet.set()
                self._may_close.wait(60)  # what lies in the sockets has to leave before
        except BaseException as error:  # noqa: BLE001  told to the test
            self.error = error

    def _send(self, endpoint: Endpoint, parts: list[bytes]) -> None:
        wait_for(lambda: endpoint.send(*parts), 60, "a hostile message on its way")

    def cease(self) -> None:
        """No more is sent."""
        self._stop.set()
        wait_for(lambda: self._quiet.is_set() or self.error, 60, "the last hostile message")
        assert self.error is None, self.error

    def close(self) -> None:
        self._stop.set()
        self._may_close.set()
        self._thread.join(60)
        assert self.error is None, self.error
        assert not self._thread.is_alive()


def refused(port: int) -> Counter[tuple[str, str]]:
    """``(socket, kind)`` → how often, as the metrics say."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found: Counter[tuple[str, str]] = Counter()
    for labels, count in re.findall(r"^headrace_refused_total\{(.*)\} (\S+)$", text, re.MULTILINE):
        named = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        found[named["socket"], named["kind"]] = int(float(count))
    return found


def memory(place: Place) -> dict[str, int]:
    """Part → resident bytes."""
    return {
        module: sum(psutil.Process(one.pid).memory_info().rss for one in place.parts(module))
        for module in ("broker", "workers", "sink")
    }


@pytest.fixture
def fire(place: Place, fleet: config.Fleet) -> Iterator[Fire]:
    fire = Fire(place.runtime / "headrace-fuzz", 11)
    yield fire
    fire.close()


def test_under_fire(place: Place, fleet: config.Fleet, fire: Fire) -> None:
    assert Producer(fleet, fleet.streams[0], Status(None, "producer"), Stopper()).run() == 0
    before, pids = memory(place), [one.pid for one in place.parts()]
    assert len(pids) == 3
    time.sleep(FIRE_S)  # the fire is what is waited for
    after = memory(place)
    fire.cease()
    assert [one.pid for one in place.parts()] == pids, "nobody died"
    assert {module: after[module] - before[module] for module in after if after[module] - before[module] > SLACK} == {}

    out = place.folder / "out.mp4"
    assert numbers(out) == list(range(FRAMES))
    assert ledger(out)["states"] == {"annotated": FRAMES}

    expected = {key: count for key, count in fire.refusable.items() if key[2] in REFUSALS}
    assert len(expected) > 12
    assert min(sum(count for key, count in expected.items() if key[1] == name) for _, name, _ in TARGETS.values()) > 100
    ports = {"broker": fleet.metrics.broker, "sink": fleet.metrics.sink}

    def counted() -> dict[tuple[str, str, str], int]:
        return {
            (part, *key): count
            for part, port in ports.items()
            for key, count in refused(port or 0).items()
            if key[1] in REFUSALS
        }

    wait_for(lambda: counted() == expected, 30, "every refusal counted")
