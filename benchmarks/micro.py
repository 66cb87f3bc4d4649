"""What each step costs on one thread, in CPU ms a frame of 1080p50 H.264: ``python -m benchmarks.micro``."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2

from benchmarks.chain import SHORT, clip
from common import codec
from common.media import prepare_decoder
from common.messages import Detection, InputSpec
from common.picture import planes_of
from deploy.faults.report import machine
from producer.prepare import Preparer
from sink.annotate import Annotator

#: Every n-th picture is kept for the steps after decoding.
STEP = 10


def timed(action: Callable[[Any], object], items: Iterable[Any], rounds: int = 4) -> float:
    """CPU ms for one item."""
    count, start = 0, time.process_time()
    for _ in range(rounds):
        for item in items:
            action(item)
            count += 1
    return (time.process_time() - start) / count * 1000


def decoding(path: Path, for_model: bool, keep: list[av.VideoFrame] | None = None) -> float:
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        decoder = prepare_decoder(video, 1, for_model)
        count, start = 0, time.process_time()
        for packet in container.demux(video):
            for frame in decoder.decode(packet if packet.size else None):
                count += 1
                if keep is not None and count % STEP == 0:
                    keep.append(frame)
        return (time.process_time() - start) / count * 1000


def main() -> None:
    cv2.setNumThreads(1)
    frames: list[av.VideoFrame] = []
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        path = clip(Path(folder), SHORT)
        rows = [("decode", decoding(path, False, frames)), ("decode for the model", decoding(path, True))]
    for width, height in ((640, 360), (256, 256)):
        prepare = Preparer(InputSpec(width, height), "jpeg", 85)
        payload, _, size = prepare(frames[0])
        rows.append((f"scale, convert and JPEG to {size[0]}x{size[1]} ({len(payload)} bytes)", timed(prepare, frames)))
        rows.append(("decode that JPEG", timed(partial(codec.decode_rgb, codec="jpeg", size=size), [payload] * 20)))
    annotator = Annotator(1920, 1080, 1, 1)
    boxes = [Detection("person", 0.9, (100.0 + 200 * n, 200.0, 250.0 + 200 * n, 600.0)) for n in range(8)]

    def draw(frame: av.VideoFrame) -> None:
        planes = planes_of(frame)
        annotator.draw((planes.y, planes.u, planes.v), boxes)

    rows.append(("draw 8 labelled boxes", timed(draw, frames)))
    print(machine())
    for what, cost in rows:
        print(f"{cost:7.2f} ms  {what}")


if __name__ == "__main__":
    main()
