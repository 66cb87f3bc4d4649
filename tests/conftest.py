"""Fixtures for all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import psutil
import pytest


@pytest.fixture(autouse=True)
def no_child_left() -> Iterator[None]:
    """A test that leaves a process behind fails, and the process is ended."""
    before = {child.pid for child in psutil.Process(os.getpid()).children(recursive=True)}
    yield
    left = [child for child in psutil.Process(os.getpid()).children(recursive=True) if child.pid not in before]
    named = [f"{child.pid} {' '.join(child.cmdline()[:6])}" for child in left if child.status() != psutil.STATUS_ZOMBIE]
    for child in left:
        child.kill()
    assert not named, f"processes left behind: {named}"
