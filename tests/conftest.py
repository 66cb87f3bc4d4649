"""Fixtures for all tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import psutil
import pytest

from tests.support import Place, wait_for

#: The tests start hundreds of processes, each of which would compile the same modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

#: A change is judged by the same examples as the one before; the long form looks for new ones.
hypothesis.settings.register_profile("same", derandomize=True)


def pytest_configure(config: pytest.Config) -> None:
    if config.option.markexpr == "not slow":
        hypothesis.settings.load_profile("same")


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


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Where runs take place. A run that leaves a process, a socket or a folder behind fails the test."""
    place = Place(tmp_path, Path(tempfile.mkdtemp(prefix="hr-")))  # short: sockets lie in it
    yield place
    try:
        wait_for(lambda: not place.leftovers(), 10, f"everything gone (left: {place.leftovers()})")
    finally:
        for process in place.parts():
            process.kill()
        shutil.rmtree(place.runtime, ignore_errors=True)
