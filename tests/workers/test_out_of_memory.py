"""A device that is too small for a batch: real parts, and models that raise what torch raises.

There is no GPU here: the model plays one that holds so many pictures and no more.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import Place, ledger, lines, numbered_clip

FRAMES = 48
#: A model that has room for ``{room}`` pictures and otherwise does ``{fail}``; it notes the size of each batch.
SOURCE = """
import numpy as np
import torch
from workers.model import Detection, Findings, InputSpec

class Model:
    input = InputSpec(width=320, height=180)

    def setup(self, device):
        pass

    def predict(self, pictures):
        with open("batches.txt", "a") as file:
            print(len(pictures), file=file)
        if len(pictures) > {room}:
            {fail}
        return [Findings([Detection("x", 0.5, (0, 0, 10, 10))]) for _ in pictures]
"""
TORCH = 'raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")'


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return numbered_clip(tmp_path_factory.mktemp("clip") / "clip.mkv", FRAMES)


def write_model(place: Place, room: int, fail: str) -> None:
    (place.folder / "mine.py").write_text(SOURCE.format(room=room, fail=fail))


def test_batches_are_halved_and_no_frame_is_the_worse_for_it(place: Place, clip: Path) -> None:
    """From 16 to 8 to 4, said each time, and 3 at most go in from there on as 2; nothing fails, nothing is lost."""
    write_model(place, 3, TORCH)
    batches = ("--batch", "16", "--wait", "0.5s", "--workers", "1")
    ran = place.run("run", clip, "-o", "out.jsonl", "--model", "mine:Model", *batches, "-v")
    assert ran.code == 0, ran.err
    told = lines(place.folder / "out.jsonl")
    assert [line["index"] for line in told] == list(range(FRAMES))
    assert ledger(place.folder / "out.jsonl")["states"] == {"annotated": FRAMES}
    sizes = [int(line) for line in (place.folder / "batches.txt").read_text().split()]
    assert max(sizes) > 3, "nothing was ever too large"
    last = max(at for at, size in enumerate(sizes) if size > 3)
    assert last < 4, f"the size that did not fit was tried again: {sizes}"
    assert 2 in sizes[last:], "frames of a batch that did not fit count as failed: each was tried alone"
    if " leases" not in ran.err:  # else the broker took them back: the machine is too busy
        assert sum(size for size in sizes if size <= 3) == FRAMES, "a frame was inferred twice"
    assert "out of memory with" in ran.err
    assert "at a time" in ran.err
    assert "failed" not in ran.err


def test_a_picture_that_does_not_fit_alone_fails_with_its_reason(place: Place, clip: Path) -> None:
    write_model(place, 0, TORCH)
    ran = place.run("run", clip, "-o", "out.jsonl", "--model", "mine:Model", "--workers", "1")
    assert ran.code == 1, ran.err
    assert ledger(place.folder / "out.jsonl")["states"] == {"failed": FRAMES}
    assert "failed: model_error: out_of_memory: not even one picture fits: model mine:Model raised" in ran.err
