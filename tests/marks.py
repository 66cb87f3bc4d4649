"""Which cases of a family every run of the tests takes, and which wait for a longer look (``-m slow``)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def slow(*values: Any) -> Any:
    """One case that waits."""
    return pytest.param(*values, marks=pytest.mark.slow)


def always(family: Iterable[Any], *some: Any) -> list[Any]:
    """All cases of the family, of which only ``some``, those that hold what is hardest, are taken always."""
    cases = list(family)
    assert set(some) <= set(cases), f"not all of {some} are in {cases}"
    return [case if case in some else slow(case) for case in cases]
