"""What a file's mistakes do not show, and files that are beyond what Python holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import UsageError
from deploy.fleetfile import FleetFile
from deploy.roles import ALL


def test_mistakes_around_secrets_do_not_show_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what is filled in nor what stands there, however deep below the wrong key."""
    monkeypatch.setenv("PAGE_TOKEN", "correct-horse-battery")
    monkeypatch.setenv("KEY", "hunterkeyhunterkey")
    path = tmp_path / "headrace.toml"
    for text in (
        '[[page]]\ntoken = "${PAGE_TOKEN}"',
        '[streams]\nsource = "rtmp://h/live/${KEY}"',
        '[[streams]]\nsource = "a"\noutputs = {path = "rtmp://h/live/${KEY}"}',
        '[page]\ntoken = ["${PAGE_TOKEN}"]',
    ):
        path.write_text(text)
        with pytest.raises(UsageError) as caught:
            FleetFile(path).node(tmp_path / "n", ALL, 0)
        assert "horse" not in str(caught.value)
        assert "hunter" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["a" + ".a" * 1500 + " = 1", "[workers]\ncount = 0x" + "F" * 4000, f'[broker]\nnews = "tcp://h:{"1" * 5000}"'],
)
def test_what_python_cannot_hold_is_a_mistake_like_others(tmp_path: Path, text: str) -> None:
    path = tmp_path / "headrace.toml"
    path.write_text(text)
    with pytest.raises(UsageError):
        FleetFile(path).node(tmp_path / "n", ALL, 0)
