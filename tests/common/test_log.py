"""Log lines are JSON, passwords never appear, repeated complaints do not flood, and no log holds anybody up."""

from __future__ import annotations

import ast
import contextlib
import fcntl
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common import log
from common.log import MAX_KINDS, JsonLines, Lines, Seldom


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


def test_setup_writes_to_standard_error_only(capfd: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        log.setup("worker", "warning")
        logging.getLogger("any").info("not this")
        logging.getLogger("any").warning("this", extra={"kind": "k"})
    finally:
        root.handlers[:], root.level = handlers, level
    out, err = capfd.readouterr()
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


# -- a disk that is full, a reader that hangs ------------------------------------------------------------------------


def logger(handler: Lines) -> logging.Logger:
    handler.setFormatter(JsonLines("sink"))
    made = logging.Logger("alone")
    made.addHandler(handler)
    return made


def test_a_full_disk_neither_stops_nor_holds_up_anybody() -> None:
    disk = os.open("/dev/full", os.O_WRONLY)
    handler = Lines(disk)
    said = logger(handler)
    began = time.monotonic()
    for number in range(100):
        said.warning("line %d", number)
    handler.flush()
    os.close(disk)
    said.warning("to nobody: the descriptor is closed")
    assert handler.lost == 101
    assert handler.lines == {"warning": 101}
    assert time.monotonic() - began < 5


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 8192)
    os.set_blocking(reader, False)
    yield reader, writer
    for fd in (reader, writer):
        with contextlib.suppress(OSError):
            os.close(fd)


def drain(reader: int) -> bytes:
    data = b""
    with contextlib.suppress(BlockingIOError):
        while more := os.read(reader, 65536):
            data += more
    return data


def test_a_reader_that_hangs_costs_lines_and_no_time(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    handler = Lines(writer)
    said = logger(handler)
    began = time.monotonic()
    for number in range(300):
        said.info("line %d %s", number, "x" * 100)
    assert time.monotonic() - began < 1, "only the first one waits"
    assert handler.lost > 200
    data = drain(reader)
    for number in range(300, 310):
        said.info("line %d %s", number, "x" * 100)
    data += drain(reader)
    whole = [json.loads(text)["message"].split()[1] for text in data.decode().splitlines()]
    assert len(whole) + handler.lost == 310
    assert whole[-10:] == [str(number) for number in range(300, 310)], "once it reads again all is well"
    assert data.endswith(b"\n")


def test_a_line_longer_than_the_pipe_is_ended_before_the_next(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    handler = Lines(writer)
    said = logger(handler)
    said.error("a %s", "b" * 10_000)
    said.error("lost: the reader has taken nothing")
    assert handler.lost == 1
    data = drain(reader)
    said.error("the last")
    data += drain(reader)
    first, last = [json.loads(text)["message"] for text in data.decode().splitlines()]
    assert (len(first), last) == (10_002, "the last")


def test_nobody_reads_any_more(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    handler = Lines(writer)
    logger(handler).error("unheard")
    assert handler.lost == 1


def test_arguments_that_do_not_fit_are_counted_and_no_crash(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    handler = Lines(writer)
    said = logger(handler)
    said.info("%d frames", "many")
    said.info("name \udcff of a file")
    assert handler.lost == 1
    assert json.loads(drain(reader))["message"].startswith("name ")


def test_a_part_whose_log_hangs_goes_on_and_ends(tmp_path: Path) -> None:
    """A process of its own: its standard error is a pipe that nobody reads, and then a full disk."""
    program = (
        "import logging, sys, time\n"
        "from common import log\n"
        "log.setup('sink')\n"
        "began = time.monotonic()\n"
        "for number in range(2000):\n"
        "    logging.getLogger('x').error('line %d %s', number, 'x' * 200)\n"
        "lines, lost = log.written()\n"
        "print(lines['error'], lost, time.monotonic() - began)\n"
        "logging.shutdown()\n"
    )
    reader, writer = os.pipe()
    disk = os.open("/dev/full", os.O_WRONLY)
    for error, least in ((writer, 1500), (disk, 2000)):
        done = subprocess.run(
            [sys.executable, "-c", program], stderr=error, stdout=subprocess.PIPE, text=True, timeout=30, check=True
        )
        lines, lost, seconds = done.stdout.split()
        assert (int(lines), int(lost) >= least) == (2000, True)
        assert float(seconds) < 10
    for fd in (reader, writer, disk):
        os.close(fd)


# -- who and what ----------------------------------------------------------------------------------------------------


def test_each_line_says_who_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    made = line("x")
    assert (made["part"], made["pid"], made["node"]) == ("sink", os.getpid(), socket.gethostname())
    assert "name" not in made
    assert abs(made["time"] - time.time()) < 5, "seconds since 1970"
    monkeypatch.setenv("HEADRACE_PART", "producer:cam")
    assert line("x")["name"] == "producer:cam"


def test_a_thread_has_its_stream_and_others_do_not(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    said = logger(Lines(writer))

    def render() -> None:
        log.about(stream="cam")
        log.about(output="rtmp://u:hunter2@server/live")
        said.info("drawn")
        said.info("of another", extra={"stream": "other"})

    thread = threading.Thread(target=render)
    thread.start()
    thread.join(10)
    said.info("outside")
    drawn, other, outside = [json.loads(text) for text in drain(reader).decode().splitlines()]
    assert (drawn["stream"], other["stream"]) == ("cam", "other")
    assert "hunter2" not in drawn["output"]
    assert not {"stream", "output"} & outside.keys()


def test_a_process_may_always_be_about_one_stream(capfd: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        log.setup("producer")
        log.always(stream="cam")
        logging.getLogger("any").info("this")
        logging.getLogger("any").info("that", extra={"stream": "other"})
        assert log.written() == ({"info": 2}, 0)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    assert [json.loads(text)["stream"] for text in capfd.readouterr().err.splitlines()] == ["cam", "other"]
    assert log.written() == ({}, 0), "no handler of ours: nothing is known"


def test_words_of_streams_and_workers_have_their_field() -> None:
    """Reads the sources: a log call whose text names a variable like a stream or worker has the field in ``extra``."""
    bare = []
    for path in [*Path("broker").glob("*.py"), *Path("sink").glob("*.py"), *Path("sink/outputs").glob("*.py")]:
        for call in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
                continue
            if call.func.attr not in ("info", "warning", "error", "critical", "warn"):
                continue
            names = {node.id for node in ast.walk(call) if isinstance(node, ast.Name)}
            names |= {node.attr for node in ast.walk(call) if isinstance(node, ast.Attribute)}
            fields = {word.arg for word in call.keywords} | {
                node.value for node in ast.walk(call) if isinstance(node, ast.Constant) and isinstance(node.value, str)
            }
            for field in ("stream", "worker", "index"):
                told = "extra" in fields or None in fields or field in fields
                if field in names and not told:
                    bare.append(f"{path}:{call.lineno}")
    assert bare == []
