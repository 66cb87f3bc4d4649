"""A fleet over tcp, every link through a proxy: cut, late, mute, damaged. Each frame comes out once and in order."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.faults.fleet import Fleet
from deploy.faults.links import LINKS, Links, on_tcp
from deploy.spec import RunOptions
from tests.support import ledger, lines, numbered_clip, numbers, wait_for

FRAMES = 200
#: Lines of output after which a run has begun.
BEGUN = 20
#: A run on a busy machine, in seconds.
RUN_S = 90.0


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return numbered_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", FRAMES)


class Run:
    """A lossless run, to be disturbed while it goes on."""

    def __init__(self, fleet: Fleet, links: Links, folder: Path) -> None:
        self.fleet, self.links, self.folder = fleet, links, folder

    @property
    def over(self) -> bool:
        return not self.fleet.running("producer")

    @property
    def told(self) -> int:
        """Lines of output so far."""
        path = self.folder / "out.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def until(self, condition: Callable[[], bool], what: str) -> None:
        def happened() -> bool:
            self.fleet.listen(0.02)
            assert self.fleet.codes.keys() <= {"producer"}, self.fleet.fatal
            return condition()

        wait_for(happened, RUN_S, what)

    def finish(self) -> None:
        self.until(lambda: self.over, f"the end (links: {json.dumps(self.links.counts())}, heard: {self.complaints()})")
        self.fleet.finish()

    def complaints(self) -> list[str]:
        return [f"{one.child}: {one.text}" for one in self.fleet.heard if one.kind == "log"][-20:]

    def check_whole(self) -> None:
        """Nothing is missing, nothing came twice, nobody died."""
        assert self.fleet.codes == {name: [0] for name in self.fleet.names}, self.complaints()
        assert numbers(self.folder / "out.mp4") == list(range(FRAMES))
        assert [line["index"] for line in lines(self.folder / "out.jsonl")] == list(range(FRAMES))
        assert ledger(self.folder / "out.mp4")["states"] == {"annotated": FRAMES}


    def check_in_order(self) -> None:
        """Every frame is accounted for, once and in order, whatever was damaged; nobody died."""
        assert self.fleet.codes == {name: [0] for name in self.fleet.names}, self.complaints()
        found = ledger(self.folder / "out.mp4")
        assert [line["index"] for line in lines(self.folder / "out.jsonl")] == list(range(found["frames"]))
        assert not found["states"].keys() & {"pending", "skipped", "late", "lost"}, found


@contextmanager
def running(folder: Path, clip: Path, model: str = "echo:20", seed: int = 0) -> Iterator[Run]:
    outputs = [str(folder / name) for name in ("out.mp4", "out.jsonl")]
    options = RunOptions(source=str(clip), outputs=outputs, model=model, batch=4, preset="ultrafast", mode="lossless")
    fleet = Fleet(options, folder / "parts.log", on_tcp)
    try:
        with Links(fleet, seed) as links:
            run = Run(fleet, links, folder)
            fleet.start(*fleet.names)
            run.until(lambda: run.told >= BEGUN or run.over, "the run's beginning")
            yield run
            if not run.over:
                run.finish()
    finally:
        fleet.close()


def test_undisturbed(tmp_path: Path, clip: Path) -> None:
    with running(tmp_path, clip) as run:
        run.finish()
        counts = run.links.counts()
    run.check_whole()
    for name, proxy in run.links.counts().items():
        assert proxy["connections"] == 1, (name, counts)
        assert proxy["sent"] > 0, (name, counts)
        assert proxy["returned"] > 0, (name, counts)


@pytest.mark.parametrize("seed", [1])
def test_cuts(tmp_path: Path, clip: Path, seed: int) -> None:
    """Each link is cut three times, at random moments, with what is under way."""
    chance = random.Random(seed)
    moments = sorted((chance.randrange(BEGUN, FRAMES - 20), name) for name in [*LINKS] * 3)
    with running(tmp_path, clip, seed=seed) as run:
        for at, name in moments:
            run.until(lambda at=at: run.told >= at or run.over, f"frame {at}")  # type: ignore[misc]
            run.links[name].cut()
        run.finish()
        counts = run.links.counts()
    assert all(proxy["cuts"] >= 1 for proxy in counts.values()), counts
    run.check_whole()


def test_slow_links(tmp_path: Path, clip: Path) -> None:
    """50 ms ± 30 on every link, in both directions."""
    with running(tmp_path, clip, model="echo") as run:
        for proxy in run.links:
            proxy.set(delay=0.05, jitter=0.03)
        run.finish()
    run.check_whole()


def test_partition(tmp_path: Path, clip: Path) -> None:
    """Nothing passes anywhere for three seconds, and no connection ends."""
    with running(tmp_path, clip) as run:
        for proxy in run.links:
            proxy.hole(3.0)
        run.until(lambda: not any(proxy.holed for proxy in run.links), "the partition's end")
        run.finish()
    run.check_whole()


@pytest.mark.parametrize("name", LINKS)
def test_partition_of_one_link(tmp_path: Path, clip: Path, name: str) -> None:
    """One link is mute for longer than the heartbeats allow: it is given up and made anew."""
    with running(tmp_path, clip) as run:
        run.links[name].hole(6.0)
        run.until(lambda: not run.links[name].holed, "the partition's end")
        run.finish()
        counts = run.links.counts()
    run.check_whole()
    assert counts[name]["connections"] > 1, counts


@pytest.mark.parametrize("name", LINKS)
def test_corruption(tmp_path: Path, clip: Path, name: str) -> None:
    """Bits flip in one of twenty chunks; nothing dies, and what comes out is in order."""
    with running(tmp_path, clip) as run:
        run.links[name].set(corrupt=0.05)
        run.finish()
        counts = run.links.counts()
    print(counts[name], ledger(tmp_path / "out.mp4"), run.complaints())
    assert counts[name]["corrupted"] > 0, counts
    run.check_in_order()
