"""Log lines are JSON, passwords never appear, repeated complaints do not flood."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from common import log
from common.log import MAX_KINDS, JsonLines, Seldom


def line(message: str, *arguments: object, error: Exception | None = None, **extra: Any) -> dict[str, Any]:
    info = (type(error), error, error.__traceback__) if error else None
    record = logging.LogRecord("x", logging.WARNING, __file__, 1, message, arguments, info)
    record.__dict__.update(extra)
    text = JsonLines("sink").format(record)
    assert "\n" not in text
    return json.loads(text)


def test_a_record_is_one_json_object() -> None:
    made = line("frame %d of\n%s", 7, "ü", stream="cam", index=7, secret="x")
    assert made["message"] == "frame 7 of\nü"
    assert (made["level"], made["part"], made["stream"], made["index"]) == ("warning", "sink", "cam", 7)
    assert "secret" not in made, "only known fields"


def test_no_password_in_message_trace_or_fields() -> None:
    secret = "rtsp://bob:hunter2@cam"
    try:
        raise ValueError(secret)
    except ValueError as error:
        made = line("cannot open %s", secret, error=error, output=secret, peer=secret)
    assert "hunter2" not in json.dumps(made)
    assert "ValueError" in made["trace"]


def test_setup_writes_to_standard_error_only(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        log.setup("worker", "warning")
        logging.getLogger("any").info("not this")
        logging.getLogger("any").warning("this", extra={"kind": "k"})
    finally:
        root.handlers[:], root.level = handlers, level
    out, err = capsys.readouterr()
    assert out == ""
    (made,) = [json.loads(text) for text in err.splitlines()]
    assert (made["part"], made["message"], made["kind"]) == ("worker", "this", "k")


def test_seldom_counts_all_and_says_one(caplog: pytest.LogCaptureFixture) -> None:
    seldom = Seldom(logging.getLogger("seldom"))
    for _ in range(1000):
        seldom.warn("header", "bad header", peer="p")
    seldom.warn("version", "bad version")
    assert seldom.counts == {"header": 1000, "version": 1}
    assert [(record.message, record.__dict__["count"]) for record in caplog.records] == [
        ("bad header", 1), ("bad version", 1)
    ]  # fmt: skip


def test_seldom_does_not_grow_with_what_peers_make_up() -> None:
    seldom = Seldom(logging.getLogger("seldom"))
    for number in range(1000):
        seldom.warn(f"reason {number}", "gave up", logging.DEBUG)
    assert len(seldom.counts) == MAX_KINDS + 1
    assert sum(seldom.counts.values()) == 1000
