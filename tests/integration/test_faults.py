"""The fault kit on a real fleet: the command, and that it does not call good what is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.faults import kit
from deploy.faults.bench import Bench, Case
from deploy.faults.clip import Clip
from deploy.faults.trial import Row
from tests.marks import slow
from tests.support import Place

SHORT = tuple(case.name for case in kit.choose((), short=True))


@pytest.mark.parametrize("cases", [("sink-killed", "times-jump"), slow(SHORT)], ids=["two", "short"])
def test_the_command(place: Place, cases: tuple[str, ...]) -> None:
    """As a user would have it tested; the faults have integration tests of their own, too."""
    chosen = [word for name in cases for word in ("--only", name)]
    ran = place.run("faults", "--short", *chosen, "--seed", "3", "-o", "out", "--markdown", "faults.md", timeout=300)
    assert ran.code == 0, (ran.out, ran.err)
    assert "seed 3" in ran.err
    told = json.loads((place.folder / "out" / "faults.json").read_text())["cases"]
    assert len(told) == len(cases)
    for case in told:
        assert case["verdict"] == "ok"
        assert case["frames_in"] == case["frames_out"] == sum(case["states"].values()) > 0
        assert case["memory_mb"] > 10
    for name in cases:
        assert f"| `{name}` |" in (place.folder / "faults.md").read_text()
        assert not (place.folder / "out" / name).exists(), "nothing to look into"


def test_it_sees_what_is_wrong(place: Place, tmp_path: Path) -> None:
    """Two frames fail where none may: the row says so, and what the parts said is kept."""

    def run(bench: Bench) -> Row:
        with bench.trial(Clip(frames=200, rate=50), model="deploy.faults.models:Raises", mode="lossless") as trial:
            trial.begin()
            trial.finish()
            trial.require_whole()
            return trial.row(bench.case)

    (row,) = kit.run([Case("wrong", "", "", run)], tmp_path / "out", True, 1, print)
    assert row.verdict.startswith("FAILED: 0 skipped, late or lost, 0 failed: ")
    assert (row.frames_out, row.missing, row.states) == (200, 0, {"annotated": 198, "failed": 2})
    said = [json.loads(line) for line in (tmp_path / "out" / "wrong" / "parts.log").read_text().splitlines()]
    assert any("too much for the model" in one.get("message", "") for one in said)
    assert {one["from"] for one in said} == {"kit", "producer", "broker", "worker-1", "sink"}
