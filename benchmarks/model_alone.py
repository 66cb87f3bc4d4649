"""CPU of the face model by itself, with a worker's settings, on real pictures: ``python -m benchmarks.model_alone 16``.

Prints CPU ms a picture at that batch size.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

#: Batches before the clock starts, and batches that are timed.
WARM, TIMED = 3, 20


def measured(batch: int) -> float:
    """CPU ms a picture, in a process of its own."""
    from workers.__main__ import MALLOC, RESERVED, THREADS

    threads = max(1, (os.cpu_count() or 1) - RESERVED)
    environment = os.environ | MALLOC | THREADS | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.model_alone", str(batch)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(done.stdout)


def main() -> None:
    import cv2
    import numpy as np
    from skimage.data import astronaut

    from workers.models import load

    batch = int(sys.argv[1])
    model = load("face")
    model.setup("cpu")
    pictures = np.stack([cv2.resize(astronaut(), (256, 256), interpolation=cv2.INTER_AREA)] * batch)
    for _ in range(WARM):
        model.predict(pictures)
    start = time.process_time()
    for _ in range(TIMED):
        model.predict(pictures)
    print((time.process_time() - start) / (TIMED * batch) * 1000)


if __name__ == "__main__":
    main()
