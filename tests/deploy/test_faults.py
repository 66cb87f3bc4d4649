"""The fault kit's judgement: it must see every way in which a run can be wrong."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UsageError
from deploy.faults import judge, kit, report
from deploy.faults.bench import Bench, Case
from deploy.faults.soak import draw
from deploy.faults.trial import Row, Skipped, Stuck, part_number, parts_of
from deploy.faults.watch import longest_gap, parse


@pytest.mark.parametrize(
    ("shown", "expected", "wrong"),
    [
        ([0, 1, 2, 3], 4, {}),
        ([], 0, {}),
        ([0, 2, 3], 4, {"missing": 1}),
        ([0, 1, 1, 2, 3], 4, {"duplicates": 1}),
        ([0, 2, 1, 3], 4, {"reordered": 1}),
        ([0, 1, 2, 3, 99], 4, {"strange": 1}),
        ([2, 3, 0, 1], 4, {"reordered": 2}),
        ([0, 1, 0, 1, 2], 4, {"duplicates": 2, "missing": 1}),
    ],
)
def test_order(shown: list[int], expected: int, wrong: dict[str, int]) -> None:
    found = judge.order(shown, expected)
    assert found.count == len(shown)
    for name in ("missing", "duplicates", "reordered", "strange"):
        assert getattr(found, name) == wrong.get(name, 0), name
    assert found.whole == (not wrong)
    assert judge.complete(found).ok == (not wrong)


@given(st.lists(st.integers(0, 20), max_size=30), st.integers(0, 20))
def test_only_the_whole_sequence_is_whole(shown: list[int], expected: int) -> None:
    found = judge.order(shown, expected)
    assert found.whole == (shown == list(range(expected)))
    assert found.count - found.duplicates - found.strange + found.missing == expected


def entry(frames: int, states: dict[str, int], **reasons: int) -> dict[str, object]:
    return {"frames": frames, "states": states, "reasons": reasons}


@pytest.mark.parametrize(
    ("ledger", "adds_up", "lossless"),
    [
        (entry(5, {"annotated": 5}), True, True),
        (entry(5, {"annotated": 3, "carried": 2}), True, True),
        (entry(6, {"annotated": 5}), False, True),
        (entry(5, {"annotated": 4, "pending": 1}), False, True),
        (entry(5, {"annotated": 4, "lost": 1}, shutdown=1), True, False),
        (entry(5, {"annotated": 4, "late": 1}, deadline=1), True, False),
        (entry(5, {"annotated": 4, "skipped": 1}, window_full=1), True, False),
        (entry(5, {"annotated": 4, "failed": 1}, poison=1), True, False),
        (None, False, False),
    ],
)
def test_ledger(ledger: dict[str, object] | None, adds_up: bool, lossless: bool) -> None:
    assert judge.ledger_adds_up(ledger).ok == adds_up
    assert judge.lossless(ledger).ok == lossless


def test_lossless_with_failures_that_must_be() -> None:
    ledger = entry(5, {"annotated": 4, "failed": 1}, poison=1)
    assert judge.lossless(ledger, {"poison": 1}).ok
    assert not judge.lossless(ledger, {"poison": 2}).ok
    assert not judge.lossless(ledger, {"model_error": 1}).ok


def test_limits() -> None:
    assert judge.at_most("x", 1.0, 1.0, "s").ok
    assert not judge.at_most("x", 1.01, 1.0, "s").ok
    assert not judge.at_most("x", None, 1.0, "s").ok, "what never came is not in time"
    assert judge.at_least("x", 1.0, 1.0, "s").ok
    assert not judge.at_least("x", 0.99, 1.0, "s").ok
    assert not judge.at_least("x", None, 1.0, "s").ok


@pytest.mark.parametrize(
    ("series", "ok"),
    [
        ([100.0] * 40, True),
        ([50.0] * 10 + [100.0] * 30, True),  # the start is not counted
        ([100.0] * 20 + [104.0] * 20, True),
        ([100.0] * 20 + [106.0] * 20, False),
        ([100.0 + n for n in range(40)], False),
        ([100.0] * 20 + [90.0] * 20, False),
        ([100.0] * 5, False),  # too short to be judged
    ],
)
def test_flat(series: list[float], ok: bool) -> None:
    assert judge.flat(series, 0.05).ok == ok


def test_verdict() -> None:
    good, bad = judge.Check("a", True), judge.Check("b", False, "7 of 8")
    assert judge.verdict([good, good]) == "ok"
    assert judge.verdict([good, bad]) == "FAILED: b: 7 of 8"
    assert judge.verdict([]).startswith("FAILED"), "a case that checks nothing is not ok"


def test_longest_gap() -> None:
    assert longest_gap([]) == longest_gap([5.0]) == 0.0
    arrivals = [0.0, 1.0, 4.0, 4.5, 9.5, 9.6]
    assert longest_gap(arrivals) == 5.0
    assert longest_gap(arrivals, until=4.2) == 3.0
    assert longest_gap(arrivals, since=9.55) == pytest.approx(0.1)
    assert longest_gap(arrivals, since=2.0, until=3.0) == 3.0, "a gap that the interval lies in"


def test_lines_that_are_none() -> None:
    whole = {"epoch": 1, "index": 7, "state": "late", "reason": "deadline", "detections": [{"label": "7"}]}
    line = parse(json.dumps(whole).encode(), 2.5)
    assert line is not None
    assert (line.at, line.index, line.state, line.reason, line.labels) == (2.5, 7, "late", "deadline", ("7",))
    for text in (b"", b"{", b"[]", b"7", json.dumps(whole | {"detections": 3}).encode(), b'{"index": 1}'):
        assert parse(text) is None


def test_parts_in_order(tmp_path: Path) -> None:
    names = ["out.mp4", *(f"out.part{number}.mp4" for number in (2, 3, 10))]
    for name in [*names, "out.jsonl", "out.old.mp4", "other.part2.mp4"]:
        (tmp_path / name).touch()
    assert [path.name for path in parts_of(tmp_path / "out.mp4")] == names
    assert part_number(Path("a.part12.mkv")) == 12


def rows() -> list[Row]:
    good = Row("good", "x | y", "0 lost", "ok", 10, 10, {"annotated": 10}, figures={"kills": 3})
    bad = Row("bad", "z", "0 lost", "FAILED: 1 missing", 10, 9, {"annotated": 9, "lost": 1}, {"gap": 1}, missing=1)
    return [good, bad, Row("none", "w", "0 lost", "skipped: needs root")]


def test_report() -> None:
    told = json.loads(report.as_json(rows(), 7, True))
    assert [case["verdict"] for case in told["cases"]] == ["ok", "FAILED: 1 missing", "skipped: needs root"]
    assert told["seed"] == 7
    page = report.as_markdown(rows(), 7, False)
    assert "1 of 3 as required, 1 skipped" in page
    assert "9 annotated, 1 lost (gap 1)" in page
    assert "x \\| y" in page
    assert report.machine() in page
    for table in page.split("\n\n"):
        lines = [line.replace("\\|", "") for line in table.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1, "every row has the same columns"


def test_choose() -> None:
    names = [case.name for case in kit.CASES]
    assert len(set(names)) == len(names) > 25
    assert [case.name for case in kit.choose([], False)] == names
    short = kit.choose([], True)
    assert 5 < len(short) < len(names)
    assert [case.name for case in kit.choose(["poison", "garbage"], True)] == ["poison", "garbage"]
    with pytest.raises(UsageError, match="no fault is named 'nothing'"):
        kit.choose(["nothing"], False)


def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "work", tmp_path / "out", True, 1, print)


def test_whatever_becomes_of_a_case_it_has_a_row(tmp_path: Path) -> None:
    def leaves(what: Exception | Row, bench: Bench) -> Row:
        (bench.folder / "parts.log").write_text("said")
        if isinstance(what, Exception):
            raise what
        return what

    table = {
        "done": (Row("done", verdict="ok"), "ok"),
        "stuck": (Stuck("the end did not come"), "FAILED: the end did not come"),
        "skip": (Skipped("needs root"), "skipped: needs root"),
        "bug": (ZeroDivisionError("x"), "FAILED: the kit itself: ZeroDivisionError: x"),
    }
    for name, (what, verdict) in table.items():
        case = Case(name, "what", "must", lambda bench, what=what: leaves(what, bench))  # type: ignore[misc]
        row = kit.run_case(case, bench(tmp_path))
        assert (row.name, row.verdict, row.what, row.requirement) == (name, verdict, "what", "must")
        assert (tmp_path / "out" / name).exists() == verdict.startswith("FAILED"), "what failed is kept for a look"


def test_the_seed_decides(tmp_path: Path) -> None:
    def drawn(seed: int) -> list[str]:
        chance = random.Random(seed)
        return [str(draw(chance)) for _ in range(200)]

    assert drawn(1) == drawn(1) != drawn(2)
    parts = {text.split()[0] for text in drawn(1)}
    assert parts == {"worker-1", "worker-2", "broker", "sink", "producer"}
    one, other = bench(tmp_path), bench(tmp_path)
    one.enter("a")
    first = one.chance.random()
    other.enter("b")
    other.enter("a")
    assert other.chance.random() == first, "a case's chance does not depend on those before it"
