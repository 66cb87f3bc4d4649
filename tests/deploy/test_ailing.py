"""The troubles of all parts, as a person reads them."""

from __future__ import annotations

import pytest

from deploy.ailing import LEAST, MAX_TROUBLES, SILENT_S, Ailing, fit
from tests.deploy.lives import trouble


def test_parts_that_say_nothing_any_more_have_no_troubles() -> None:
    ailing = Ailing()
    ailing.hear("worker-1", [trouble("broker_away")], 10.0)
    assert ailing.words(10.0 + SILENT_S - 0.1) == ["broker_away (3 s)"]
    assert ailing.words(10.0 + SILENT_S) == []
    assert ailing.about(10.0 + SILENT_S) == set()


def test_what_several_parts_name_is_said_once_with_its_longest_time() -> None:
    ailing = Ailing()
    ailing.hear("worker-1", [trouble("sink_away", "the sink does not answer", 3)], 0.0)
    ailing.hear("worker-2", [trouble("sink_away", "the sink does not answer", 9)], 0.0)
    ailing.hear("producer", [trouble("sink_silent", "the sink is silent", 8), trouble("disk_full a", since=1)], 0.0)
    ailing.hear("broker", [trouble("no_worker", since=5)], 0.0)
    assert ailing.words(0.0) == ["disk_full a (1 s)", "no_worker (5 s)", "the sink does not answer (9 s)"]
    assert ailing.about(0.0) == {"sink", "worker", "disk_full a"}


def test_what_two_name_of_their_own_is_two_things() -> None:
    ailing = Ailing()
    for name in "ab":
        ailing.hear(f"producer:{name}", [trouble("source_mute", f"{name} gives nothing")], 0.0)
    assert sorted(ailing.words(0.0)) == ["a gives nothing (3 s)", "b gives nothing (3 s)"]
    ailing.forget("producer:a")
    assert ailing.words(0.0) == ["b gives nothing (3 s)"]


def test_the_troubles_of_one_stream() -> None:
    ailing = Ailing()
    ailing.hear("producer:a", [trouble("source_mute"), trouble("source_away"), trouble("broker_silent")], 0.0)
    ailing.hear("producer:b", [trouble("source_mute", "of b")], 0.0)
    named = [
        trouble("disk_full a", since=9),
        trouble("output_away a rtmp://x"),
        trouble("disk_full ab"),
        trouble("x b"),
    ]
    ailing.hear("sink", named, 0.0)
    assert ailing.words_of("a", "producer:a", 0.0) == [
        "output_away a rtmp://x (3 s)", "source_mute (3 s)", "disk_full a (9 s)",
    ]  # fmt: skip
    assert ailing.words_of("b", "producer:b", 0.0) == ["x b (3 s)", "of b (3 s)"]
    assert ailing.words_of("a", "producer:a", SILENT_S) == []


@pytest.mark.parametrize("troubles", [None, 7, "x", [7], [{}], [{"name": "a", "text": "b"}], [{"name": 1, "since": 1}]])
def test_what_makes_no_sense_is_left_out(troubles: object) -> None:
    ailing = Ailing()
    ailing.hear("broker", troubles, 0.0)
    assert ailing.words(0.0) == []


def test_fit() -> None:
    words = ["abcdefghij"] * 6
    assert fit([], 10) == ""
    assert fit(words, None) == "; ".join(words[:MAX_TROUBLES])
    assert fit(words, 34) == "; ".join(words[:3])
    assert fit(words, 33) == "; ".join(words[:2])
    assert fit(["x" * 100, "y"], 30) == "x" * 29 + "…"
    assert fit(["x" * 100], -5) == "x" * (LEAST - 1) + "…"
