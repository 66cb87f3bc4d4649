"""Which program speaks SRT."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import SourceError
from common.srt import FFMPEG, choose


@pytest.fixture
def ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only program there is; it answers when its file ``answer`` is there, and counts in ``asked``."""
    program = tmp_path / "ffmpeg"
    program.write_text(f"#!/bin/sh\necho x >> {tmp_path}/asked\n[ -e {tmp_path}/answer ] || exit 1\necho ' srt'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_a_program_that_could_not_answer_is_asked_again(ffmpeg: Path) -> None:
    """As one that was too slow on a busy machine; once it has answered, that holds."""
    for _ in range(2):
        with pytest.raises(SourceError, match="install one"):
            choose("srt://h:9000", SourceError)
    (ffmpeg / "answer").touch()
    for _ in range(3):
        assert choose("srt://h:9000", SourceError) is FFMPEG
    assert (ffmpeg / "asked").read_text().split() == ["x"] * 3
