"""Each frame's time is shared out between the stages, and the shares add up to the whole."""

from __future__ import annotations

import pytest

from common.messages import Notice, Result
from sink.stages import STAGES, Stages


def notice(index: int, seconds: float = 0.01, count: int = 1) -> Notice:
    fate = "gap" if count > 1 else "sent"
    return Notice(stream="s", epoch=1, link=1, index=index, out=index, fate=fate, count=count, seconds=seconds)  # type: ignore[arg-type]


def result(index: int, batch: int = 1, **seconds: float) -> Result:
    return Result(stream="s", epoch=1, index=index, worker="w", seconds=seconds, batch=batch)


def test_the_stages_of_a_frame_add_up_to_its_whole_time() -> None:
    stages = Stages()
    stages.noticed(notice(0), 10.0)
    stages.answered(result(0, 4, decode=0.002, wait=0.01, infer=0.005), 10.1)
    stages.decided(0, 10.15)
    stages.written(0, 10.18)
    stages.check()
    told = {name: one["p50"] for name, one in stages.summary().items()}
    assert list(told) == list(STAGES)
    assert told["inference"] == pytest.approx(0.02, rel=0.03)
    assert told["queue"] == pytest.approx(0.1 - 0.02 - 0.012, rel=0.03)
    assert told["reorder"] == pytest.approx(0.05, rel=0.03)
    assert told["total"] == pytest.approx(0.19, rel=0.03)
    assert sum(told.values()) - told["total"] == pytest.approx(told["total"], rel=0.03)


def test_a_frame_without_a_result_waits_from_its_notice_on() -> None:
    stages = Stages()
    stages.noticed(notice(0), 10.0)
    stages.decided(0, 10.5)
    stages.answered(result(0, infer=0.1), 10.6)  # too late to matter
    stages.written(0, 10.6)
    told = stages.summary()
    assert told["reorder"]["p50"] == pytest.approx(0.5, rel=0.03)
    assert "inference" not in told


def test_gaps_strangers_and_twice_told_frames_do_no_harm() -> None:
    stages = Stages()
    stages.noticed(notice(0, count=100), 1.0)
    stages.answered(result(7), 1.0)
    stages.decided(7, 1.0)
    stages.written(7, 1.0)
    stages.noticed(notice(100), 2.0)
    stages.written(100, 2.0)  # never decided: superseded
    stages.written(100, 2.0)
    stages.check()
    assert stages.summary() == {}
