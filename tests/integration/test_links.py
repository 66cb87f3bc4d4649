"""A fleet over tcp, every link through a proxy: cut, late, mute, damaged. Each frame comes out once and in order."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.faults.fleet import Fleet
from deploy.faults.links import LINKS, Links, on_tcp
from tests.integration.linked import BEGUN, FRAMES, Run, options
from tests.marks import always, slow
from tests.support import numbered_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return numbered_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", FRAMES)


@contextmanager
def running(folder: Path, clip: Path, model: str = "echo:20", seed: int = 0) -> Iterator[tuple[Run, Links]]:
    """A run that has begun, with its links; it is finished at the end."""
    fleet = Fleet(options(clip, folder, model), folder / "parts.log", on_tcp)
    try:
        with Links(fleet, seed) as links:
            run = Run(fleet, folder)
            fleet.start(*fleet.names)
            run.begin()
            yield run, links
            run.finish()
    finally:
        fleet.close()


@pytest.mark.slow
def test_undisturbed(tmp_path: Path, clip: Path) -> None:
    """Each link is in use, and keeps its connection."""
    with running(tmp_path, clip) as (run, links):
        run.until(lambda: run.over, "the end")
        counts = links.counts()
    run.check_whole()
    assert {name: proxy["connections"] for name, proxy in counts.items()} == dict.fromkeys(LINKS, 1)
    assert all(proxy["sent"] and proxy["returned"] for proxy in counts.values()), counts


@pytest.mark.parametrize("seed", always(range(1, 6), 1))
def test_cuts(tmp_path: Path, clip: Path, seed: int) -> None:
    """Each link is cut three times, at random moments, with what is under way."""
    chance = random.Random(seed)
    moments = sorted((chance.randrange(BEGUN, FRAMES - 20), name) for name in [*LINKS] * 3)
    with running(tmp_path, clip, seed=seed) as (run, links):
        for at, name in moments:
            run.until(lambda at=at: run.told >= at or run.over, f"frame {at}")  # type: ignore[misc]
            links[name].cut()
        run.until(lambda: run.over, "the end")
        counts = links.counts()
    run.check_whole()
    assert all(proxy["cuts"] for proxy in counts.values()), counts


def test_slow_links(tmp_path: Path, clip: Path) -> None:
    """50 ms ± 30 on every link, in both directions."""
    with running(tmp_path, clip, model="echo") as (run, links):
        for proxy in links:
            proxy.set(delay=0.05, jitter=0.03)
    run.check_whole()


def test_partition(tmp_path: Path, clip: Path) -> None:
    """Nothing passes anywhere for three seconds, and no connection ends."""
    with running(tmp_path, clip) as (run, links):
        for proxy in links:
            proxy.hole(3.0)
        run.until(lambda: not any(proxy.holed for proxy in links), "the partition's end")
    run.check_whole()


@pytest.mark.slow
@pytest.mark.parametrize("name", LINKS)
def test_partition_of_one_link(tmp_path: Path, clip: Path, name: str) -> None:
    """One link is mute for longer than the heartbeats allow: it is given up and made anew."""
    with running(tmp_path, clip) as (run, links):
        links[name].hole(7.0)
        run.until(lambda: not links[name].holed, "the partition's end")
        run.until(lambda: links[name].counts.connections > 1 or run.over, "another connection")
        counts = links.counts()
    run.check_whole()
    if name not in ("news", "verdicts"):  # without these, a run comes to its end
        assert counts[name]["connections"] > 1, counts


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("media", 0.05),
        slow("work", 0.05),
        *(slow(name, 0.2) for name in LINKS if name != "media"),
    ],
)
def test_corruption(tmp_path: Path, clip: Path, name: str, share: float) -> None:
    """Flipped bits in some chunks: nobody dies, all frames are accounted for, none comes twice or out of order.

    Without keys nothing tells a damaged payload from another one, so a picture may fail or look odd.
    """
    with running(tmp_path, clip, seed=3) as (run, links):
        links[name].set(corrupt=share)
        run.until(lambda: run.over, "the end")
        counts = links.counts()
    assert counts[name]["corrupted"] > 0, counts
    run.check_in_order()
