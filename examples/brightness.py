"""A model of your own, as small as it gets: is the picture bright, and where is it brightest?

Run it with ``headrace run SOURCE -o OUT --model examples.brightness:Brightness``.
"""

from __future__ import annotations

import numpy as np

from workers.model import Detection, Findings, InputSpec, Pictures, Tag

#: Cells across and down that are compared.
GRID = 8
#: Mean luma above which a picture is called bright, 0…255.
BRIGHT = 110.0


class Brightness:
    """Tags each picture ``bright`` or ``dark`` and boxes its brightest cell."""

    #: What you are sent: RGB pictures of this size. Stretched, so that no letterbox bars darken the mean.
    input = InputSpec(width=320, height=184, letterbox=False)

    def setup(self, device: str) -> None:
        """Called once in the worker. Load weights here."""
        #: BT.601 luma of R, G, B.
        self._luma = np.array([0.299, 0.587, 0.114], np.float32)

    def predict(self, pictures: Pictures) -> list[Findings]:
        """``pictures``: uint8, N × H × W × 3. One Findings for each, boxes in pixels of the picture given."""
        count, height, width = pictures.shape[:3]
        cell_h, cell_w = height // GRID, width // GRID
        luma = pictures[:, : cell_h * GRID, : cell_w * GRID] @ self._luma
        cells = luma.reshape(count, GRID, cell_h, GRID, cell_w).mean((2, 4))
        findings = []
        for grid in cells:
            row, column = divmod(int(grid.argmax()), GRID)
            x, y = column * cell_w, row * cell_h
            brightest = Detection(label="brightest", score=float(grid.max()) / 255, box=(x, y, x + cell_w, y + cell_h))
            mean = float(grid.mean())
            tag = Tag(label="bright" if mean >= BRIGHT else "dark", score=abs(mean - BRIGHT) / 255)
            findings.append(Findings(detections=[brightest], tags=[tag]))
        return findings
