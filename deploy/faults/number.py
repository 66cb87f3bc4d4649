"""A picture's number as black and white blocks along its lower edge. Pure: numpy arrays of luma."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Bits of the number: eleven hours at 25 pictures a second, and blocks of 16 pixels in a picture of 320.
BITS = 20
#: The blocks begin at this share of the height, and are read at this one.
TOP, ROW = 0.87, 0.94
#: The pictures on which the kit's models misbehave: late enough that the broker knows how long a batch takes.
BAD = (120, 190)
#: Luma of the two kinds of block (limited range), and what tells them apart.
BLACK, WHITE, LIMIT = 16, 235, 127


def write_number(luma: NDArray[np.uint8], number: int) -> None:
    """Write ``number`` into an H × W picture. The lowest bit is on the left."""
    height, width = luma.shape
    bits = (number >> np.arange(BITS)) & 1
    columns = np.arange(width) * BITS // width
    luma[int(height * TOP) :] = np.where(bits[columns], WHITE, BLACK).astype(np.uint8)


def number_in(luma: NDArray[np.uint8]) -> int:
    """The number in an H × W picture, whatever it was scaled to."""
    height, width = luma.shape
    columns = ((np.arange(BITS) + 0.5) * width / BITS).astype(int)
    return int(((luma[int(height * ROW), columns] > LIMIT).astype(int) << np.arange(BITS)).sum())
