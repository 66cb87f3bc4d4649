"""Children: what they say is heard, however they say it; none survives."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.children import MAX_LINE, Child, Children, Said, command_of
from deploy.streams import incomplete, part_of
from tests.support import wait_for


@pytest.fixture
def children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Children]:
    monkeypatch.chdir(tmp_path)
    made = Children(str(tmp_path))
    yield made
    made.stop(list(made.alive), 0)


def run(children: Children, code: str) -> tuple[list[Said], Child, int]:
    """A child that does ``code`` (``fd`` is its status pipe) → what it said, itself, its exit code."""
    head = "import os, sys, time, signal\nfd = int(sys.argv[-1])\n"
    Path("part.py").write_text(head + code)
    child = children.start("one", "part", [])
    said: list[Said] = []
    ended: list[tuple[Child, int]] = []

    def over() -> bool:
        said.extend(children.listen(0.05))
        ended.extend(children.exits())
        return bool(ended)

    wait_for(over, 20, "the child's end")
    said.extend(children.rest(child))
    return said, child, ended[0][1]


def test_status_and_logs(children: Children) -> None:
    said, child, code = run(
        children,
        """
os.write(fd, b'{"event": "a"}\\n{"eve')
os.write(fd, b'nt": "b"}\\nnot json\\n')
print('{"level": "warning", "message": "careful"}')
print('plain')
print('{"message": 5}')
print('{"level": "error", "message": "the reason", "fatal": true}')
sys.exit(3)
""",
    )
    assert [one.record["event"] for one in said if one.kind == "status"] == ["a", "b"]
    logs = [(one.record["level"], one.record["message"]) for one in said if one.kind == "log"]
    assert ("warning", "careful") in logs
    assert ("print", "plain") in logs
    assert ("print", '{"message": 5}') in logs
    assert code == 3
    assert child.why(code) == "the reason"


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("sys.exit(7)", "exit code 7"),
        ("print('oh no'); sys.exit(7)", "exit code 7, its last words: oh no"),
        ("print('busy'); os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
        ("raise ValueError('x')", "exit code 1, its last words: ValueError: x"),
    ],
)
def test_why_it_ended(children: Children, code: str, why: str) -> None:
    _, child, number = run(children, code)
    assert child.why(number) == why


def test_a_line_without_end_is_dropped(children: Children) -> None:
    said, _, code = run(children, f"print('x' * {5 * MAX_LINE}); print('after')")
    assert code == 0
    assert all(len(one.record["message"]) <= MAX_LINE for one in said)
    assert said[-1].record["message"] == "after"


def test_one_that_prints_without_end_does_not_hold_us(children: Children) -> None:
    Path("part.py").write_text("while True: print('x' * 1000)")
    children.start("one", "part", [])
    for _ in range(50):
        assert sum(1 for _ in children.listen(1.0)) < 2000
    children.stop(["one"], 5)
    assert not children.alive


def test_stubborn_ones_are_killed(children: Children) -> None:
    """And the terminal's SIGINT means nothing to a child."""
    Path("part.py").write_text(
        "import signal, time\\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\\nprint('here')\\ntime.sleep(600)".replace(
            "\\n", "\n"
        )
    )
    child = children.start("one", "part", [])
    wait_for(lambda: list(children.listen(0.1)), 20, "the child's beginning")
    child.process.send_signal(signal.SIGINT)
    children.stop(["one"], 0.2)
    assert child.process.returncode == -signal.SIGKILL


def test_the_last_word_on_gaps() -> None:
    entry = {"frames": 9, "states": {"annotated": 6, "failed": 2, "lost": 1}, "reasons": {"poison": 2, "gap": 1}}
    assert incomplete(entry) == "2 failed and 1 lost of 9 frames (poison 2, gap 1)"
    assert "stays playable" in incomplete(None)


def test_what_cannot_be_started_leaves_nothing(children: Children, monkeypatch: pytest.MonkeyPatch) -> None:
    """A descriptor that stays open would bring the limit nearer with each try."""
    before = set(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    for _ in range(3):
        with pytest.raises(FileNotFoundError):
            children.start("one", "part", [])
    assert set(os.listdir("/proc/self/fd")) == before
    assert children.alive == {}


def test_there_is_one_of_a_name(children: Children) -> None:
    Path("part.py").write_text("import time\ntime.sleep(600)\n")
    children.start("one", "part", [])
    with pytest.raises(OSError, match="another one has not ended yet"):
        children.start("one", "part", [])
    children.stop(["one"], 0)


def test_the_sinks_last_word_is_heard_however_long_it_is(children: Children, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the files of days."""
    code = """
from common.status import Status
status = Status(fd, "sink")
status.say("closed", stream="a", parts=[f"/записи/двор/камера-{number:06d}.mp4" for number in range(5000)])
while status._rest or status._waiting:
    status.say("progress")
"""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    said, _, exit_code = run(children, code)
    assert exit_code == 0
    (closed,) = [one.record for one in said if one.record.get("event") == "closed"]
    assert len(closed["parts"]) == 5000


@pytest.mark.parametrize("name", ["door", "-front", "--config", "a:b"])
def test_a_streams_name_is_no_option(name: str) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--stream")
    parser.add_argument("-c", "--config")
    module, arguments = command_of(part_of(name))
    assert module == "producer"
    assert parser.parse_args(arguments).stream == name
