"""Troubles name themselves once, end once, do not flood, and are bounded."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.log import JsonLines
from common.transport import Endpoint, Hub
from common.trouble import MAX_LINES, MAX_NAMES, MAX_TEXT, MINUTE_S, Said, Troubles, log_troubles, set_away
from tests.support import wait_for


def test_what_lasts_is_named_once_and_ends_once() -> None:
    troubles = Troubles(after=1.0)
    said: list[tuple[float, Said]] = []
    for tick in range(100):
        now = 50 + tick / 10
        troubles.set("disk_full", 51 <= now < 55, now, "the disk is full")
        said += [(round(now, 1), one) for one in troubles.said(now)]
        report = troubles.report(now)
        assert [one["name"] for one in report] == (["disk_full"] if 52 <= now < 56 else [])
        if report:
            assert report[0] == {"name": "disk_full", "text": "the disk is full", "since": round(now - 51, 1)}
        troubles.check()
    (named_at, named), (over_at, over) = said
    assert (named_at, over_at) == (52.0, 56.0)
    assert (named.name, named.line, named.level, named.over) == (
        "disk_full", "the disk is full", logging.WARNING, False,
    )  # fmt: skip
    assert (over.line, over.level, over.over) == ("over after 4.0 s: the disk is full", logging.INFO, True)
    assert named.since == pytest.approx(1)


def test_what_passes_soon_is_never_said() -> None:
    troubles = Troubles(after=1.0)
    for start in (0.0, 10.0, 20.0):
        troubles.set("x", True, start)
        troubles.set("x", False, start + 0.9)
        assert troubles.said(start + 5) == []
        assert troubles.report(start + 5) == []


def test_it_is_named_though_nobody_asked_meanwhile() -> None:
    troubles = Troubles(after=1.0)
    troubles.set("x", True, 0.0)
    troubles.set("x", False, 5.0)
    assert [(one.over, one.since) for one in troubles.said(100.0)] == [(False, 5.0), (True, 5.0)]
    assert troubles.said(100.0) == []


def test_the_newest_text_counts_and_the_name_speaks_where_there_is_none() -> None:
    troubles = Troubles()
    troubles.set("sink_away", True, 0.0)
    assert troubles.report(2.0)[0]["text"] == "sink away"
    troubles.set("sink_away", True, 3.0, "x" * 10_000)
    assert troubles.report(3.0)[0]["text"] == "x" * MAX_TEXT
    troubles.set("sink_away", False, 4.0)
    assert troubles.report(4.5)[0]["text"] == "x" * MAX_TEXT


@pytest.mark.parametrize("on", [0.3, 0.7])
def test_flapping_is_one_trouble(on: float) -> None:
    """On for ``on`` of every second, for ten minutes."""
    troubles = Troubles(after=1.0)
    said: list[Said] = []
    for second in range(600):
        troubles.set("x", True, second)
        troubles.set("x", False, second + on)
        said += troubles.said(second + on)
        troubles.check()
    assert [one.over for one in said] == [False]
    assert [one["since"] for one in troubles.report(599.9)] == [599.9]
    assert [one.over for one in troubles.said(700)] == [True]


def test_a_trouble_that_comes_back_all_the_time_has_few_lines_a_minute() -> None:
    troubles = Troubles(after=1.0)
    times: list[float] = []
    said: list[Said] = []
    for round_ in range(200):  # on for 2 s, off for 2 s: each time named, each time over
        start = round_ * 4.0
        troubles.set("x", True, start, "x is broken")
        for now in (start + 1, start + 2):
            more = troubles.said(now)
            said, times = said + more, times + [now] * len(more)
        assert troubles.report(start + 2), "the status line has it, said or not"
        troubles.set("x", False, start + 2)
        more = troubles.said(start + 3)
        said, times = said + more, times + [start + 3] * len(more)
        troubles.check()
    assert len(said) > 12 * 4
    assert all(sum(then <= at < then + MINUTE_S for at in times) <= MAX_LINES for then in times)
    assert [one.over for one in said] == [False, True] * (len(said) // 2), "what is named is over before it is named"
    assert any("(and 13 times more, unsaid)" in one.line for one in said)


def test_a_suppressed_trouble_that_stays_is_named_when_its_turn_comes() -> None:
    troubles = Troubles(after=1.0)
    for start in range(0, 30, 4):
        troubles.set("x", True, start)
        troubles.set("x", False, start + 2)
    troubles.set("x", True, 40)
    assert len(troubles.said(42)) == MAX_LINES
    assert troubles.said(43) == []
    assert [one.over for one in troubles.said(MINUTE_S + 15)] == [False]


def test_names_are_bounded_and_forgotten() -> None:
    troubles = Troubles()
    for number in range(MAX_NAMES + 10):
        troubles.set(f"t{number}", True, 0.0)
    troubles.check()
    assert troubles.refused == 10
    assert len(troubles.report(2.0)) == MAX_NAMES
    for number in range(MAX_NAMES + 10):
        troubles.set(f"t{number}", False, 3.0)
    assert len(troubles.said(4.0)) == 2 * MAX_NAMES
    troubles.set("another", True, 4.0 + MINUTE_S)
    assert [one["name"] for one in troubles.report(6.0 + MINUTE_S)] == ["another"]
    assert troubles.refused == 10


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.booleans(), st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0, 1.1, 5.0, 70.0])),
        max_size=80,
    )
)
def test_any_sequence(steps: list[tuple[str, bool, float]]) -> None:
    troubles = Troubles(after=1.0)
    now = 0.0
    open_: set[str] = set()
    times: dict[str, list[float]] = {}
    for name, active, pause in steps:
        now += pause
        troubles.set(name, active, now)
        for one in troubles.said(now):
            assert one.over == (one.name in open_), "named, over, named, over …"
            open_ ^= {one.name}
            times.setdefault(one.name, []).append(now)
        reported = {one["name"] for one in troubles.report(now)}
        assert open_ <= reported, "what was said and is not over is in the status"
        troubles.check()
    for name in "abc":
        troubles.set(name, False, now)
    troubles.said(now + 1.01)
    assert troubles.report(now + 1.01) == []
    troubles.check()
    for said in times.values():
        assert all(sum(then <= at < then + MINUTE_S for at in said) <= MAX_LINES for then in said)


def test_a_trouble_that_is_to_be_expected_is_said_softly() -> None:
    troubles = Troubles()
    troubles.set("no_worker", True, 0.0, "no worker yet", level=logging.INFO)
    assert [one.level for one in troubles.said(2.0)] == [logging.INFO]


def test_a_peer_is_not_there_yet_or_takes_nothing_or_is_gone(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/peer"
    troubles, now = Troubles(), 0.0

    def said_of(peer: Endpoint) -> list[tuple[int, str]]:
        nonlocal now
        now += 10
        set_away(troubles, "peer_away", peer, "the peer", now)
        now += 1
        return [(one.level, one.line) for one in troubles.said(now) if not one.over]

    with Hub() as hub:
        push = hub.connect("push", address, hwm=4, watch=True)
        assert said_of(push) == [(logging.INFO, f"the peer at {address} is not there yet")]
        pull = hub.bind("pull", address, hwm=4)
        wait_for(lambda: push.connected, 10, "the connection")
        assert said_of(push) == []
        wait_for(lambda: not push.send(bytes(100_000)), 10, "a peer that takes nothing")
        assert said_of(push) == [(logging.WARNING, "the peer takes nothing")]
        wait_for(lambda: pull.receive() is None and not push.full, 10, "room")
        assert said_of(push) == []
        pull.close()
        wait_for(lambda: not push.connected, 10, "the end of the connection")
        assert said_of(push) == [(logging.WARNING, f"the peer at {address} does not answer")]


def test_the_log_has_the_name_as_its_kind(caplog: pytest.LogCaptureFixture) -> None:
    troubles = Troubles()
    troubles.set("disk_full", True, 0.0, "the disk of 50%s out.mp4 is full")
    with caplog.at_level(logging.INFO):
        log_troubles(logging.getLogger("part"), troubles.said(1.5), stream="s")
    (record,) = caplog.records
    line = json.loads(JsonLines("sink").format(record))
    assert (line["level"], line["kind"], line["stream"]) == ("warning", "disk_full", "s")
    assert line["message"] == "the disk of 50%s out.mp4 is full"
