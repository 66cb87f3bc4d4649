"""Pictures that models can be asked about without a clip."""

from __future__ import annotations

import numpy as np


def plain() -> np.ndarray:
    """Five pictures of one colour each: red, green, blue, white, black."""
    pictures = np.zeros((5, 32, 48, 3), np.uint8)
    for number in range(3):
        pictures[number, ..., number] = 255
    pictures[3] = 255
    return pictures
