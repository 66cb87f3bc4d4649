"""What a node remembers: its folder, its state, and how that and the file become one."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec
import pytest

from common.errors import LinkError, UsageError
from deploy.node.changes import merged
from deploy.node.folder import MAX_PATH, Ended, NodeFolder, State
from deploy.node.lastwords import last_words
from tests.deploy.test_node_plan import FLEET, changed

STATE = State(run="r1", file="/f/headrace.toml", roles=["broker"], workers_of_file=2)


def stream(name: str) -> object:
    return msgspec.structs.replace(FLEET.streams[0], name=name)


def test_a_folder_is_ours_alone(tmp_path: Path) -> None:
    folder = NodeFolder(tmp_path / "n")
    folder.path.mkdir(mode=0o755)
    folder.make()
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    folder.write(folder.token, b"secret")
    assert stat.S_IMODE(folder.token.stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["a;b", "a%b", "a\nb", "x" * MAX_PATH])
def test_folders_that_cannot_be(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"\[node\]"):
        NodeFolder(tmp_path / name).make()


def test_one_holds_the_folder(tmp_path: Path) -> None:
    folder = NodeFolder(tmp_path / "n")
    folder.make()
    assert not folder.running
    descriptor = folder.hold()
    assert folder.running
    with pytest.raises(LinkError, match="already"):
        folder.hold()
    os.close(descriptor)
    assert not folder.running


def test_the_state_is_read_back(tmp_path: Path) -> None:
    folder = NodeFolder(tmp_path / "n")
    folder.make()
    assert folder.state() is None
    state = msgspec.structs.replace(
        STATE, added=[FLEET.streams[0]], ended={"a": Ended(code=0, states={"annotated": 5})}
    )
    folder.write_state(state)
    assert folder.state() == state
    (folder.path / "state.json").write_text("{")
    with pytest.raises(UsageError, match="begin anew"):
        folder.state()


def test_what_was_done_by_hand_outlives_the_file() -> None:
    state = msgspec.structs.replace(
        STATE,
        workers=5,
        added=[stream("new")],
        removed=["a", "gone"],
        paused=["door 1", "gone"],
        ended={"gone": Ended(code=0)},
    )
    fleet, kept = merged(FLEET, state)
    assert fleet.workers.count == 5
    assert [one.name for one in fleet.streams] == ["door 1", "new"]
    assert (kept.removed, kept.paused, kept.ended) == (["a"], ["door 1"], {})


def test_a_file_that_says_something_new_counts() -> None:
    state = msgspec.structs.replace(STATE, workers=5, added=[stream("a")])
    fleet, kept = merged(changed(workers={"count": 3}), state)
    assert (fleet.workers.count, kept.workers, kept.workers_of_file) == (3, None, 3)
    assert kept.added == [], "the file has it now"
    assert [one.name for one in fleet.streams] == ["a", "door 1"]


def test_the_run_keeps_its_name() -> None:
    assert merged(changed(run=""), STATE)[0].run == "r1"
    assert merged(changed(run="mine"), STATE)[0].run == "mine"


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("", ""),
        ('{"level": "info", "message": "all is well"}\n', ""),
        ('{"level": "error", "message": "no disk"}\n{"level": "info", "message": "bye"}\n', "no disk"),
        ('{"level": "error", "message": "early"}\nTraceback\nKeyError: 7\n', "KeyError: 7"),
        ('KeyError: 7\n{"level": "critical", "message": "late"}\n', "late"),
        ("rtsp://me:secret@cam is broken\n", "rtsp://***@cam is broken"),
    ],
)
def test_last_words(tmp_path: Path, log: str, words: str) -> None:
    path = tmp_path / "part.log"
    path.write_text(log)
    found = last_words(path)
    assert "secret" not in found
    assert found == words or ("cam" in words and "cam is broken" in found)
    assert last_words(tmp_path / "none.log") == ""
