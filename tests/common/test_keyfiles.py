"""Key files and the list on disk: modes, mistakes, whole writes, and following the list."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import LinkError
from common.keyfiles import (
    MAX_FILE,
    AllowedList,
    Entry,
    KeyFile,
    check_folder,
    read_allowed,
    read_key,
    write_allowed,
    write_key,
)
from common.keys import new_key

WORKER = new_key("worker", "gpu1").entry
PRODUCER = new_key("producer", "cam").entry


def test_a_key_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path, key = tmp_path / "worker.key", new_key("worker", "gpu1")
    write_key(path, key)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_key(path) == key
    with pytest.raises(FileExistsError):
        write_key(path, new_key("worker", "gpu2"))
    assert read_key(path) == key
    for mode in (0o640, 0o604, 0o660, 0o610):
        path.chmod(mode)
        with pytest.raises(LinkError, match=r"worker\.key: its secret key is open to others: chmod 600"):
            read_key(path)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "role"),
        ("role =", "Invalid value"),
        ('role = "boss"\nname = "x"\npublic = "P"\nsecret = "S"', "boss"),
        ('role = "worker"\nname = "../x"\npublic = "P"\nsecret = "S"', "name"),
        ('role = "worker"\nname = "x"\npublic = "P"\nsecret = "short"', "secret"),
        ('role = "worker"\nname = "x"\npublic = "P"\nsecret = "S"\nmore = 1', "more"),
        ('role = "producer"\nname = "x"\npublic = "P"\nsecret = "S"', "holds the key of a producer"),
        ("\xff", "no text"),
        ("#" * (MAX_FILE + 1), "longer than"),
    ],
)  # fmt: skip
def test_a_key_file_with_a_mistake(tmp_path: Path, text: str, word: str) -> None:
    """One line, that does not show what is secret."""
    path, key = tmp_path / "worker.key", new_key("worker", "x")
    path.touch(0o600)
    path.write_bytes(text.replace('"P"', f'"{key.public}"').replace('"S"', f'"{key.secret}"').encode("latin-1"))
    with pytest.raises(LinkError, match=word) as caught:
        read_key(path)
    assert str(path) in str(caught.value)
    assert key.secret not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_key_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(LinkError, match="No such file"):
        read_key(tmp_path / "none.key")
    (tmp_path / "folder.key").mkdir()
    with pytest.raises(LinkError, match=r"is no file|Is a directory"):
        read_key(tmp_path / "folder.key")
    os.mkfifo(tmp_path / "pipe.key", 0o600)
    with pytest.raises(LinkError, match="is no file"):
        read_key(tmp_path / "pipe.key")


def test_the_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    check_folder(tmp_path)
    for mode in (0o750, 0o705, 0o770):
        tmp_path.chmod(mode)
        with pytest.raises(LinkError, match="others can look into"):
            check_folder(tmp_path)
    tmp_path.chmod(0o700)
    (tmp_path / "file").touch()
    with pytest.raises(LinkError, match="is no folder"):
        check_folder(tmp_path / "file")


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True)
Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


@given(st.dictionaries(st.text(Z85, min_size=40, max_size=40), st.tuples(names, st.sampled_from(["worker", "broker"]))))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, made: dict[str, tuple[str, str]]) -> None:
    path = tmp_path_factory.mktemp("list") / "allowed.toml"
    entries = {
        public: Entry(role=role, name=f"{number}{name}"[:64], public=public)  # type: ignore[arg-type]
        for number, (public, (name, role)) in enumerate(made.items())
    }
    write_allowed(path, entries.values())
    assert read_allowed(path) == entries
    assert os.listdir(path.parent) == ["allowed.toml"]


def test_contradictions_in_the_list(tmp_path: Path) -> None:
    path = tmp_path / "allowed.toml"
    same = Entry(role="producer", name="other", public=WORKER.public)
    write_allowed(path, [WORKER, same])
    with pytest.raises(LinkError, match="worker 'gpu1' and producer 'other' are one key"):
        read_allowed(path)
    write_allowed(path, [WORKER, Entry(role="worker", name="gpu1", public=PRODUCER.public)])
    with pytest.raises(LinkError, match="two keys have the name 'gpu1'"):
        read_allowed(path)
    write_allowed(path, [new_key("sink", "s").entry])
    with pytest.raises(LinkError, match="dials nobody"):
        read_allowed(path)


def test_others_may_not_write_the_list(tmp_path: Path) -> None:
    path = tmp_path / "allowed.toml"
    write_allowed(path, [WORKER])
    path.chmod(0o644)
    assert read_allowed(path)
    path.chmod(0o664)
    with pytest.raises(LinkError, match="others can write"):
        read_allowed(path)


def test_the_list_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "allowed.toml"
    write_allowed(path, [WORKER])
    followed = AllowedList(path)
    assert not followed.look()
    write_allowed(path, [WORKER, PRODUCER])
    assert followed.look()
    assert set(followed.table) == {WORKER.public, PRODUCER.public}
    write_allowed(path, [PRODUCER, WORKER])
    assert not followed.look(), "the same in another order"
    before = followed.table
    path.write_text("no list")
    assert not followed.look()
    assert followed.problem
    assert followed.table is before
    path.unlink()
    assert not followed.look()
    assert "No such file" in followed.problem
    write_allowed(path, [])
    assert followed.look()
    assert (followed.table, followed.problem) == ({}, "")


def test_a_failed_write_leaves_the_list_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "allowed.toml"
    write_allowed(path, [WORKER])

    class Broken:
        role = name = "x"

        @property
        def public(self) -> str:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_allowed(path, [Broken()])  # type: ignore[list-item]
    assert set(read_allowed(path)) == {WORKER.public}
    assert os.listdir(tmp_path) == ["allowed.toml"]


def test_a_secret_is_not_shown() -> None:
    key = KeyFile(role="worker", name="x", public=WORKER.public, secret=PRODUCER.public)
    assert PRODUCER.public not in f"{key} {key!r} {key.entry}"
