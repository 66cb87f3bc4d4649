"""Families of metrics as JSON-able data, cut to what one message to the node's agent may hold. Pure.

A family is ``{"name", "kind", "help", "labels": [names], "rows"}``. A row of a gauge or counter is ``[[values of the
labels], value]``; a histogram has ``"bounds"`` as well, and rows ``[[values], [values in each bucket], sum]``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

#: Most bytes of the families of one message, as JSON.
CHUNK = 90_000

Data = dict[str, Any]


def pack(families: Iterable[Data], most: int) -> list[list[Data]]:
    """The families in lists of at most ``most`` bytes each. A large family is cut in several with rows of their own;
    a row that is longer by itself is left out."""
    chunks: list[list[Data]] = [[]]
    free = most
    for family in families:
        for piece, size in _cut(family, most):
            if size > free and chunks[-1]:
                chunks.append([])
                free = most
            chunks[-1].append(piece)
            free -= size
    return chunks


def _cut(family: Data, most: int) -> Iterator[tuple[Data, int]]:
    """Pieces and their sizes in bytes."""
    size = len(json.dumps(family, ensure_ascii=False).encode(errors="replace")) + 2
    if size <= most:
        yield family, size
        return
    rows = family["rows"]
    if len(rows) > 1:
        middle = len(rows) // 2
        for half in (rows[:middle], rows[middle:]):
            yield from _cut({**family, "rows": half}, most)
