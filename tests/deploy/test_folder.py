"""The private folder: where it lies, and that what of it is removed is made again."""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from common import config
from common.errors import OutputError
from common.lifecycle import FOLDER_MARK
from deploy import folder
from deploy.control import Server
from deploy.folder import PREFIX, Home, private_folder
from deploy.upkeep import MEND_S, Upkeep


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where folders are made; its path is short."""
    with tempfile.TemporaryDirectory(prefix="hr-") as made:
        monkeypatch.setattr("deploy.folder.bases", lambda: [Path(made)])
        yield Path(made)


@pytest.fixture
def home(base: Path) -> Iterator[Home]:
    made = Home()
    yield made
    made.close()


def test_it_is_private_and_marked_and_goes(base: Path) -> None:
    home = Home()
    assert home.path.parent == base
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700
    assert (home.path / FOLDER_MARK).exists()
    home.close()
    assert list(base.iterdir()) == []


@pytest.mark.parametrize("gone", ["", FOLDER_MARK, folder.CONFIG])
def test_what_is_gone_is_made_again(home: Home, gone: str) -> None:
    home.write(b"{}")
    assert not home.mend(), "all is there"
    if gone:
        (home.path / gone).unlink()
    else:
        shutil.rmtree(home.path)
    assert home.mend()
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700
    assert (home.path / FOLDER_MARK).exists()
    assert home.config.read_bytes() == b"{}"
    assert not home.mend()


def test_one_that_somebody_else_has_made_is_not_taken(home: Home) -> None:
    """Where all may write, the name is free for everybody."""
    home.write(b"{}")
    shutil.rmtree(home.path)
    home.path.mkdir(mode=0o777)
    home.path.chmod(0o777)
    with pytest.raises(PermissionError, match="is not ours any more"):
        home.mend()
    assert list(home.path.iterdir()) == []
    home.path.rmdir()
    home.path.symlink_to("/tmp")
    with pytest.raises(PermissionError):
        home.mend()
    home.path.unlink()


def test_it_is_locked_against_tidying(home: Home) -> None:
    """systemd-tmpfiles asks for a lock of its own before it looks for what is old."""
    for _ in range(2):
        fd = os.open(home.path, os.O_RDONLY)
        try:
            with pytest.raises(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(fd)
        shutil.rmtree(home.path)
        home.mend()


def test_a_write_that_fails_leaves_what_was_there(home: Home) -> None:
    home.write(b"old")
    home.config.with_suffix(".new").mkdir()
    with pytest.raises(IsADirectoryError):
        home.write(b"new")
    assert home.config.read_bytes() == b"old"


def test_what_goes_at_a_logout_is_the_last_choice(monkeypatch: pytest.MonkeyPatch, base: Path) -> None:
    assert folder._SESSION.fullmatch("/run/user/1000")
    assert not folder._SESSION.fullmatch("/run/user/1000/mine"), "somebody has chosen it"
    (linger := base / "linger").mkdir()
    monkeypatch.setattr(folder, "_LINGER", linger)
    session, stays = base / "session", base / "stays"
    for one in (session, stays):
        one.mkdir()
    monkeypatch.setattr(folder, "bases", lambda: [session, stays])
    monkeypatch.setattr(folder, "_SESSION", re.compile(".*/session"))
    assert Path(private_folder()).parent == stays
    monkeypatch.setattr(folder, "bases", lambda: [session, base / "nowhere"])
    assert Path(private_folder()).parent == session, "better than none"
    monkeypatch.setattr(folder, "bases", lambda: [session, stays])
    (linger / pwd.getpwuid(os.geteuid()).pw_name).touch()
    assert Path(private_folder()).parent == session


def test_a_full_disk_is_no_place(monkeypatch: pytest.MonkeyPatch, base: Path) -> None:
    monkeypatch.setattr(folder, "bases", lambda: [Path("/proc/self"), base])
    monkeypatch.setattr(os, "access", lambda *_: True)
    assert Path(private_folder()).parent == base
    monkeypatch.setattr(folder, "bases", lambda: [Path("/proc/self")])
    with pytest.raises(OutputError, match=r"no folder for sockets can be made .*\(/proc/self: No such file"):
        private_folder()


class Kept:
    """A folder with sockets, seen to."""

    def __init__(self, home: Home) -> None:
        self.home, self.server, self.alive, self.notes = home, Server(home.path), set[str](), list[str]()
        address = f"ipc://{home.path}/"
        fleet = config.Fleet(
            broker=config.Broker(frames=address + "f", workers=address + "w", news="tcp://127.0.0.1:1"),
            sink=config.Sink(media=address + "m", results=address + "r"),
            workers=config.Workers(model="echo"),
            streams=[config.Stream(name="s", source="x", model="echo", outputs=[config.Output(path="o", kind="ts")])],
        )
        self.home.write(b"{}")
        self.upkeep = Upkeep(home, self.server, fleet, self.alive, self.notes.append)

    def bind(self, *parts: str) -> None:
        for part in parts:
            self.alive.add(part)
            for name in {"broker": "fw", "sink": "mr"}[part]:
                (self.home.path / name).touch()


@pytest.fixture
def kept(home: Home) -> Iterator[Kept]:
    made = Kept(home)
    yield made
    made.server.close()


def test_parts_whose_sockets_are_gone_are_in_the_way_once(kept: Kept) -> None:
    kept.bind("broker", "sink")
    kept.upkeep.mend()
    assert kept.upkeep.in_the_way("worker-1") == []
    shutil.rmtree(kept.home.path)
    kept.upkeep.mend()
    kept.upkeep.mend()
    assert kept.notes == [f"the run's private folder {kept.home.path} had been removed, and is made again"]
    assert kept.upkeep.in_the_way("worker-1") == ["broker", "sink"]
    assert kept.upkeep.in_the_way("worker-2") == [], "they are being started again"
    assert kept.notes[1:] == ["broker and sink cannot be reached any more, and must be started again"]


def test_only_those_that_run_and_have_lost_theirs(kept: Kept) -> None:
    kept.bind("broker", "sink")
    (kept.home.path / FOLDER_MARK).unlink()
    (kept.home.path / "r").unlink()
    kept.upkeep.mend()
    assert kept.upkeep.in_the_way("sink") == [], "it is started just now"
    kept.alive.discard("sink")
    shutil.rmtree(kept.home.path)
    kept.upkeep.mend()
    assert kept.upkeep.in_the_way("worker-1") == ["broker"]


def test_a_folder_that_cannot_be_made_again_is_told_of_once(kept: Kept) -> None:
    shutil.rmtree(kept.home.path)
    kept.home.path.touch()
    for turn in range(5):
        kept.upkeep.look_after(turn * MEND_S)
    (note,) = kept.notes
    assert "is gone and cannot be made again" in note
    assert "no part can be started again" in note
    kept.home.path.unlink()
    kept.upkeep.look_after(5 * MEND_S)
    assert kept.notes[1:] == [f"the run's private folder {kept.home.path} had been removed, and is made again"]
    assert kept.home.path.name.startswith(PREFIX)
