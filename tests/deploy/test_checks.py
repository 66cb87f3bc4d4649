"""The check of a model in a process of its own, which the terminal does not reach."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from common.errors import ModelError
from deploy.checks import check_model


def becomes(what: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check's process runs a line of shell."""
    program = folder / "program"
    program.write_text(f"#!/bin/sh\n{what}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


@pytest.mark.parametrize("number", ["INT", "HUP"])
def test_the_terminal_does_not_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    """Ctrl-C may come while it is being born: then the model was called unknown."""
    becomes(f"kill -{number} $$; exit 0", tmp_path, monkeypatch)
    check_model("face")


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("kill -KILL $$", "model 'face' cannot be checked: killed by SIGKILL"),
        ("exit 3", "model 'face' cannot be checked: exit code 3"),
        ("echo one >&2; echo two >&2; exit 5", "two"),
    ],
)
def test_one_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, words: str) -> None:
    becomes(what, tmp_path, monkeypatch)
    with pytest.raises(ModelError) as caught:
        check_model("face")
    assert str(caught.value) == words


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(ModelError, match="unknown model 'fase': did you mean face"):
        check_model("fase")
