"""Fixtures for tests of the producer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from common import config
from producer.source import Source
from tests.support import wait_for


def stream(source: str | Path, **fields: Any) -> config.Stream:
    """A stream's settings, with an output that nobody writes."""
    outputs = [config.Output(path="x.mkv", kind="mkv")]
    return config.Stream(**{"name": "x", "source": str(source), "outputs": outputs, "model": "echo", **fields})


@pytest.fixture
def opened() -> Iterator[Callable[..., Source]]:
    """Opens a source of an address: ``opened(address, sound="all", notify=…, **fields of the stream)``. All are closed
    in the end, and leave no thread behind."""
    sources: list[Source] = []
    before = set(threading.enumerate())

    def make(
        address: str | Path, sound: str = "all", notify: Callable[[], None] = lambda: None, **fields: Any
    ) -> Source:
        sources.append(Source(stream(address, **fields), notify, sound))
        return sources[-1]

    yield make
    for source in sources:
        source.close()
    wait_for(lambda: set(threading.enumerate()) <= before, 20, "all threads gone")
