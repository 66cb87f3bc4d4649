"""The model without a model: two fixed boxes in every picture. For tests and for measuring the transport."""

from __future__ import annotations

import time

from workers.model import Detection, Findings, InputSpec, Pictures

#: The boxes, ``(x0, y0, x1, y1)`` relative to the picture. Near the middle, so that even a 9:16 source shows both.
BOXES = ((0.40, 0.20, 0.48, 0.50), (0.52, 0.50, 0.60, 0.80))
#: Their scores.
SCORES = (0.9, 0.8)


class Echo:
    """Answers every picture with ``BOXES``, labelled ``echo``.

    ``seconds``: time to wait for each picture of a batch, to imitate a slow model without burning a core.
    """

    input = InputSpec(width=640, height=360)

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds

    def setup(self, device: str) -> None:
        """Nothing to load; any device will do."""

    def predict(self, pictures: Pictures) -> list[Findings]:
        count, height, width = pictures.shape[:3]
        if self._seconds:
            time.sleep(self._seconds * count)
        detections = [
            Detection(label="echo", score=score, box=(x0 * width, y0 * height, x1 * width, y1 * height))
            for (x0, y0, x1, y1), score in zip(BOXES, SCORES, strict=True)
        ]
        return [Findings(detections=list(detections)) for _ in range(count)]
