"""Quantiles in bounded memory."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sink.ages import LEAST_S, MOST_S, STEP, Ages


def test_nothing_yet() -> None:
    assert Ages(0.5).summary() == {"p50": 0.0, "p95": 0.0, "p99": 0.0, "count": 0, "within": 1.0}
    assert "within" not in Ages(None).summary()


def test_a_hundred() -> None:
    ages = Ages(0.95)
    for number in range(100, 0, -1):
        ages.add(number / 100)
    told = ages.summary()
    assert told["count"] == 100
    assert told["within"] == 0.95, "the bound itself is within"
    for share in (50, 95, 99):
        assert share / 100 <= told[f"p{share}"] <= share / 100 * STEP + 1e-4


@given(st.lists(st.floats(LEAST_S, MOST_S), min_size=1, max_size=50), st.sampled_from((0.01, 0.5, 0.95, 1.0)))
def test_a_quantile_is_never_too_low_and_hardly_too_high(seconds: list[float], share: float) -> None:
    ages = Ages(None)
    for one in seconds:
        ages.add(one)
    ages.check()
    true = sorted(seconds)[math.ceil(share * len(seconds)) - 1]
    assert true * (1 - 1e-9) <= ages.quantile(share) <= true * STEP * (1 + 1e-9)


def test_memory_does_not_grow_with_the_number() -> None:
    ages = Ages(1.0)
    for number in range(20_000):
        ages.add(number * 1e9 if number % 3 else -1.0)
    ages.check()
    assert ages.count == 20_000
    assert ages.quantile(1.0) == pytest.approx(MOST_S, rel=STEP - 1)
