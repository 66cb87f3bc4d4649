"""``headrace keys``: what it makes, shows, changes and refuses."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from common.config import Security
from common.keyfiles import read_allowed, read_key
from common.keys import Ring, new_key
from deploy.cli import _answer

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs ``headrace keys …`` in a folder of its own: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = _answer(["keys", *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_the_keys_of_a_fleet(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("new")
    assert code == 0
    assert '[security]\nkeys = "keys"' in out
    folder = tmp_path / "keys"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {one.name: stat.S_IMODE(one.stat().st_mode) for one in folder.iterdir()} == dict.fromkeys(
        ["allowed.toml", "broker.key", "producer.key", "sink.key", "worker.key"], 0o600
    )
    for role in ("broker", "sink", "producer", "worker"):
        ring = Ring.of(Security(keys=str(folder)), role)  # type: ignore[arg-type]
        assert ring is not None
        assert set(ring.servers) == {"broker", "sink"}
    assert {entry.role for entry in read_allowed(folder / "allowed.toml").values()} == {"producer", "worker", "broker"}
    before = {one: one.read_bytes() for one in folder.iterdir()}
    code, _, err = run("new")
    assert code == 2
    assert "keys/broker.key is there already, and nothing is written over" in err
    assert {one: one.read_bytes() for one in folder.iterdir()} == before


def test_nothing_is_left_of_what_cannot_be_made_whole(run: Run, tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir(mode=0o700)
    (tmp_path / "keys" / "allowed.toml").write_text("no list")
    (tmp_path / "keys" / "allowed.toml").chmod(0o600)
    code, _, err = run("new")
    assert code == 6
    assert "allowed.toml" in err
    assert os.listdir(tmp_path / "keys") == ["allowed.toml"]


def test_a_key_for_another_node_as_it_is_told(run: Run, tmp_path: Path) -> None:
    """Its words are followed to the letter, by a shell's rules."""
    run("new")
    code, out, _ = run("new", "--role", "worker", "--name", "gpu7")
    assert code == 0
    key = read_key(tmp_path / "gpu7" / "worker.key")
    assert (key.role, key.name) == ("worker", "gpu7")
    assert key.secret not in out
    (command,) = re.findall("^headrace keys allow .*", out, re.MULTILINE)
    assert run(*shlex.split(command)[2:])[:2] == (0, "worker gpu7 is let in\n")
    assert read_allowed(tmp_path / "keys" / "allowed.toml")[key.public] == key.entry
    assert run(*shlex.split(command)[2:])[1] == "worker gpu7 is let in already\n"
    servers = dict(re.findall('^(broker|sink) = "(.*)"', out, re.MULTILINE))
    ring = Ring.of(Security(keys=str(tmp_path / "gpu7"), broker=servers["broker"], sink=servers["sink"]), "worker")
    assert ring is not None
    assert ring.servers == {role: read_key(tmp_path / "keys" / f"{role}.key").public for role in ("broker", "sink")}


def test_where_a_key_goes(run: Run, tmp_path: Path) -> None:
    assert run("new", "--role", "producer", "--name", "cam", "-o", "cam.key")[0] == 0
    assert read_key(tmp_path / "cam.key").name == "cam"
    before = (tmp_path / "cam.key").read_bytes()
    code, _, err = run("new", "--role", "producer", "--name", "cam", "-o", "cam.key")
    assert (code, "nothing is written over" in err) == (2, True)
    assert (tmp_path / "cam.key").read_bytes() == before
    code, out, _ = run("new", "--role", "sink", "--name", "s2", "-o", "deep/er")
    assert code == 0
    assert read_key(tmp_path / "deep" / "er" / "sink.key").role == "sink"
    assert "headrace keys allow" not in out, "a sink dials nobody"
    assert "(see headrace keys show where the broker runs)" in out


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["new", "--role", "wroker", "--name", "x"], "is 'worker' meant?"),
        (["new", "--role", "worker"], "needs a --name"),
        (["new", "--name", "x"], "are for one key"),
        (["new", "--role", "worker", "--name", "../x"], "is no name for a key"),
        (["allow", "sink", "x", "K" * 40], "it dials nobody"),
        (["allow", "worker", "x", "short"], "is no public key"),
        (["allow", "worker", "x", "K" * 39 + " "], "is no public key"),
        (["allow", "worker", "x", "K" * 40], "headrace keys new makes it"),
        (["revoke", "x"], "headrace keys new makes it"),
        (["show"], "make one with headrace keys new"),
        (["show", "-c", "none.toml"], "No such file"),
        (["show", "-c", "none.toml", "--keys", "keys"], "exclude each other"),
    ],
)  # fmt: skip
def test_what_is_typed_wrongly(run: Run, arguments: list[str], word: str) -> None:
    code, _, err = run(*arguments)
    assert code == 2
    assert word in err
    assert err.count("\n") == 1


def test_the_list(run: Run, tmp_path: Path) -> None:
    run("new")
    first, second = new_key("worker", "a").public, "-" + new_key("producer", "b").public[1:]
    assert run("allow", "worker", "a", first)[0] == 0
    assert run("allow", "producer", "b", "--", second)[0] == 0, "keys that others made may begin with a dash"
    code, _, err = run("allow", "producer", "c", first)
    assert (code, "already, as worker 'a'" in err) == (2, True)
    code, _, err = run("allow", "worker", "a", new_key("worker", "a").public)
    assert (code, "another key has the name 'a'" in err) == (2, True)
    assert run("revoke", "a")[1] == f"worker a is no longer let in ({first})\n"
    assert run("revoke", "--", second)[0] == 0
    code, _, err = run("revoke", "a")
    assert (code, "the list has broker, producer, worker" in err) == (2, True)
    names = {entry.name for entry in read_allowed(tmp_path / "keys" / "allowed.toml").values()}
    assert names == {"producer", "worker", "broker"}


def test_what_is_shown(run: Run, tmp_path: Path) -> None:
    run("new")
    secrets = [read_key(path).secret for path in (tmp_path / "keys").glob("*.key")]
    publics = [read_key(path).public for path in (tmp_path / "keys").glob("*.key")]
    (tmp_path / "keys" / "worker.key").chmod(0o644)
    for arguments in (["show"], ["show", "--json"]):
        code, out, _ = run(*arguments)
        assert code == 0
        assert not any(secret in out or json.dumps(secret)[1:-1] in out for secret in secrets)
        assert "chmod 600" in out
    shown = json.loads(out)
    assert {one["public"] for one in shown["own"] if "public" in one} < set(publics)
    assert {one["role"] for one in shown["allowed"]} == {"producer", "worker", "broker"}
    text = run("show")[1]
    assert all(public in text for public in publics), "brackets in a key are no markup"


def test_the_folder_that_the_file_names(run: Run, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    file = tmp_path / "site" / "headrace.toml"
    file.write_text('[security]\nkeys = "../secret"\n')
    assert run("new", "-c", "site/headrace.toml")[0] == 0
    assert (tmp_path / "secret" / "worker.key").exists()
    assert run("show", "--keys", "secret")[0] == 0
    (tmp_path / "headrace.toml").write_text('[security]\nkeys = "secret"\n')
    assert json.loads(run("show", "--json")[1])["folder"] == "secret"
    file.write_text("[security]\n")
    code, _, err = run("show", "-c", "site/headrace.toml")
    assert (code, 'write keys = "keys" below [security]' in err) == (2, True)


def test_two_who_change_the_list_at_once(run: Run, tmp_path: Path) -> None:
    from common.keyfiles import Entry
    from deploy import keys_folder

    run("new")
    entries = [new_key("worker", f"w{number}").entry for number in range(24)]

    def put(some: list[Entry]) -> None:
        for entry in some:
            keys_folder.allow(tmp_path / "keys", entry)

    threads = [threading.Thread(target=put, args=(entries[start::4],)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {entry.public for entry in entries} <= read_allowed(tmp_path / "keys" / "allowed.toml").keys()
