"""Parts on hosts of their own (network namespaces): a host is cut off for seconds, and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from common import config
from deploy.faults.fleet import Fleet
from deploy.faults.netns import Hosts, available
from tests.integration.linked import FRAMES, Run, options
from tests.support import numbered_clip

WHY_NOT = available()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
#: Nobody else is in the namespace: any port will do.
PORT = 7000


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return numbered_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", FRAMES)


def at(address: str, fleet: config.Fleet) -> config.Fleet:
    """The fleet with broker and sink at ``address``, without keys."""
    places = [f"tcp://{address}:{PORT + number}" for number in range(5)]
    broker = msgspec.structs.replace(fleet.broker, frames=places[0], workers=places[1], news=places[2])
    sink = msgspec.structs.replace(fleet.sink, media=places[3], results=places[4])
    return msgspec.structs.replace(fleet, broker=broker, sink=sink, security=config.Security(insecure=True))


@contextmanager
def spread(folder: Path, clip: Path, away: str, workers: int) -> Iterator[tuple[Run, Hosts]]:
    """A run with the part ``away`` on host 1 and all others on host 0; it is finished at the end."""
    with Hosts(2) as hosts:
        fleet = Fleet(
            options(clip, folder, "echo:40", workers), folder / "parts.log", lambda whole: at(hosts.address(0), whole)
        )
        try:
            run = Run(fleet, folder)
            for name in fleet.names:
                with hosts.inside(int(name == away)):
                    fleet.start(name)
            run.begin()
            yield run, hosts
            run.finish()
        finally:
            fleet.close()


@pytest.mark.slow
def test_a_worker_host_is_cut_off(tmp_path: Path, clip: Path) -> None:
    """Its frames are redone by the other one, and it comes back by itself."""

    def ready() -> int:
        return sum(
            one.child == "broker" and one.text.startswith("worker ready") and one.record.get("worker") == "worker-2"
            for one in run.fleet.heard
        )

    with spread(tmp_path, clip, "worker-2", 2) as (run, hosts):
        run.until(lambda: ready() == 1, "both workers at work")
        hosts.cut(1)
        run.last(6.0)
        assert ready() == 1
        hosts.join(1)
        run.until(lambda: ready() == 2, "its return")
    (silent,) = [one for one in run.fleet.heard if one.text.startswith("worker silent")]
    assert silent.record["worker"] == "worker-2"
    assert not silent.text.startswith("worker silent with 0 leases"), "it had work in hand"
    run.check_whole()


@pytest.mark.slow
def test_the_producers_host_is_cut_off(tmp_path: Path, clip: Path) -> None:
    """From the sink and the broker: the run waits, and goes on afterwards."""
    with spread(tmp_path, clip, "producer", 1) as (run, hosts):
        hosts.cut(1)
        run.last(5.0)
        assert not run.over
        hosts.join(1)
    run.check_whole()
