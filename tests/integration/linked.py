"""A lossless run of a numbered clip over links that a test can disturb, and what must come out of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from deploy.faults.fleet import Fleet
from deploy.spec import RunOptions
from tests.support import ledger, lines, numbers, wait_for

FRAMES = 200
#: Lines of output after which a run has begun.
BEGUN = 20
#: A run on a busy machine, in seconds.
RUN_S = 100.0


def options(clip: Path, folder: Path, model: str, workers: int = 1) -> RunOptions:
    """Frames are few enough under way that a disturbed link makes itself felt."""
    outputs = [str(folder / name) for name in ("out.mp4", "out.jsonl")]
    return RunOptions(
        source=str(clip), outputs=outputs, model=model, batch=4, preset="ultrafast", mode="lossless", workers=workers
    )  # fmt: skip


class Run:
    """The run, while it goes on and afterwards."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.fleet, self.folder = fleet, folder

    @property
    def over(self) -> bool:
        return not self.fleet.running("producer")

    @property
    def told(self) -> int:
        """Lines of output so far."""
        path = self.folder / "out.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Listen to the parts until ``condition``; none but the producer may end meanwhile."""

        def happened() -> bool:
            self.fleet.listen(0.02)
            assert self.fleet.codes.keys() <= {"producer"}, self.fleet.fatal
            return condition()

        wait_for(happened, RUN_S, what)

    def begin(self) -> None:
        self.until(lambda: self.told >= BEGUN or self.over, "the run's beginning")

    def last(self, seconds: float) -> None:
        """Let a disturbance last for so long."""
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= end, "time")

    def finish(self) -> None:
        self.until(lambda: self.over, f"the end (said: {self.said()})")
        self.fleet.finish()

    def said(self) -> list[str]:
        """The last log lines."""
        return [f"{one.child}: {one.text}" for one in self.fleet.heard if one.kind == "log"][-20:]

    def check_whole(self) -> None:
        """Nothing is missing, nothing came twice, nobody died."""
        self._check_codes()
        assert numbers(self.folder / "out.mp4") == list(range(FRAMES))
        assert [line["index"] for line in lines(self.folder / "out.jsonl")] == list(range(FRAMES))
        assert ledger(self.folder / "out.mp4")["states"] == {"annotated": FRAMES}

    def check_in_order(self) -> None:
        """Every frame is accounted for, once and in order, whatever was damaged; nobody died.

        A message of the media link that makes no sense to the sink ends the stream there: what waits is lost, aloud.
        """
        self._check_codes()
        found = ledger(self.folder / "out.mp4")
        assert [line["index"] for line in lines(self.folder / "out.jsonl")] == list(range(found["frames"]))
        assert not found["states"].keys() & {"pending", "skipped", "late"}, found
        assert found["states"].get("lost", 0) == found["reasons"].get("refused", 0), found

    def _check_codes(self) -> None:
        assert self.fleet.codes == {name: [0] for name in self.fleet.names}, self.said()
