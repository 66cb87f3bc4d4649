"""Producers come and go; broker and sink are afterwards what they were before."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.faults.churn import FRAMES, REAL, Churn, Usage, run
from tests.support import lines


def check(churn: Churn, folder: Path, waves: int, per_wave: int) -> None:
    leaks = [leak for leak in churn.leaks() if waves > 5 or "bytes" not in leak]  # memory takes longer to level out
    assert leaks == [], churn
    assert (churn.wrong, churn.failed, churn.real) == (0, 0, REAL)
    assert churn.producers == waves * per_wave + REAL
    assert 0.25 * churn.producers < churn.deaths < 0.75 * churn.producers
    whole = 0
    for path in folder.glob("guest-*.jsonl"):
        indexes = [line["index"] for line in lines(path)]
        assert indexes == list(range(len(indexes))), path
        whole += len(indexes) == FRAMES
    assert whole >= churn.producers - churn.deaths - REAL, "those that stayed got all of their frames"


def test_churn(tmp_path: Path) -> None:
    check(run(2, 12, tmp_path, seed=1), tmp_path, 2, 12)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_much_churn(tmp_path: Path) -> None:
    check(run(10, 20, tmp_path, seed=2), tmp_path, 10, 20)


def test_leaks_are_named() -> None:
    small, large = Usage(20, 3, 50_000_000), Usage(30, 9, 90_000_000)
    known = {"producers": 1, "deaths": 0, "real": 0, "wrong": 0, "failed": 0, "seconds": 1.0}
    same = Churn(**known, streams=0, before={"sink": small}, after={"sink": small})  # type: ignore[arg-type]
    assert same.leaks() == []
    grown = Churn(**known, streams=3, before={"sink": small}, after={"sink": large})  # type: ignore[arg-type]
    assert grown.leaks() == [
        "the broker still knows 3 streams",
        "sink: 20 → 30 descriptors",
        "sink: 3 → 9 threads",
        "sink: 50000000 → 90000000 bytes",
    ]
