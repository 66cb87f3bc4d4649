"""The operations guide's words: commands that cannot be run here are at least such as exist. What can be is run in
tests/integration/test_operations.py."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.agent.model import Model
from deploy.node.folder import State
from deploy.node.plan import parts_of
from deploy.roles import ROLES
from tests.deploy.test_node_plan import FLEET
from tests.guide import OPERATIONS, ROOT, Block, blocks, check_call, commands, shape

SH = [block for block in blocks(OPERATIONS) if block.kind == "sh"]
#: Pages whose calls of headrace must be such as exist.
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def name(block: Block) -> str:
    return f"line-{block.line}"


def test_shell(tmp_path: Path) -> None:
    """A shell understands every block, and ShellCheck sees no mistake in it."""
    for block in SH:
        assert block.how in ("", "elsewhere", "watch") or re.fullmatch(r"code=\d+", block.how), block.how
        (tmp_path / f"{name(block)}.sh").write_text(block.text)
    checker = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run(
        [checker, "--shell=bash", "--exclude=SC2164", *sorted(tmp_path.iterdir())],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_are_such_as_exist(page: Path) -> None:
    shell = [block for block in blocks(page) if block.kind == "sh"]
    wrong = [
        f"{page.name}:{block.line}: {said}" for block in shell for words in commands(block.text)
        if "…" not in words and (said := check_call(words))
    ]  # fmt: skip
    assert not wrong, "\n".join(wrong)


def test_a_call_that_does_not_exist_is_found() -> None:
    script = "cd x && sudo -u headrace /opt/bin/headrace scale workers=2 --fast; A=1 headrace prune # headrace no\n"
    calls = list(commands(script))
    assert calls == [["scale", "workers=2", "--fast"], ["prune"]]
    assert all(check_call(words) for words in calls)
    assert check_call(["scale", "workers=2"]) == ""


@pytest.mark.parametrize("block", [one for one in SH if one.how == "elsewhere"], ids=name)
def test_what_it_names_is_there(block: Block) -> None:
    """Programs that are started as modules, and files of this repository."""
    for module in re.findall(r"python3? -m ([\w.]+)", block.text):
        assert module == "venv" or importlib.util.find_spec(module), module
    for path in re.findall(r"(?<![\w/])deploy/[\w./@-]+", block.text):
        assert (ROOT / path).exists(), path


def test_most_of_it_is_run() -> None:
    run = [block for block in SH if block.how != "elsewhere"]
    assert len(run) >= 20
    verbs = {words[0] for block in run for words in commands(block.text)}
    assert verbs >= {
        "init", "check", "up", "status", "scale", "restart", "reload", "logs", "top", "streams", "keys",
        "down",
    }  # fmt: skip


def test_every_key_of_the_status_is_explained() -> None:
    model, roles = Model(1), list(ROLES)
    parts = {part.program: part for part in parts_of(FLEET, roles, [])}
    model.configure(FLEET, State(run="r", file="/f", roles=roles), parts, 0.0)
    snapshot = model.snapshot(0.0, 0.0)
    keys = {*snapshot, *snapshot["parts"][0], *snapshot["streams"][0], *snapshot["streams"][0]["picture"]}
    section = OPERATIONS.read_text(encoding="utf-8").partition("## `headrace status --json`\n")[2]
    assert not keys - set(re.findall(r"\w+", " ".join(re.findall(r"`[^`\n]+`", section))))


@pytest.mark.parametrize(
    ("shown", "there", "fits"),
    [
        ("worker-1  ready  1703  5 s", "worker-1  ready  88  2 min   ", True),
        ("worker-1  ready  1703  5 s", "worker-1  fatal  88  2 min", False),
        ("folder   …/fleet/.headrace", "folder   /tmp/x/fleet/.headrace", True),
        ("street  running     116  97%       12.0", "street  running 4  100%  9.1  3", True),
    ],
)
def test_shapes(shown: str, there: str, fits: bool) -> None:
    assert bool(shape(shown).search(there)) == fits
