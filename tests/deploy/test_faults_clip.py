"""Numbered clips can be made, damaged and read back, and the tail of a file of lines sees what is written when."""

from __future__ import annotations

import itertools
import json
import os
import random
from pathlib import Path

import numpy as np
import pytest

from deploy.faults.cases_streams import damage
from deploy.faults.clip import Clip, join, make, numbers, size, times
from deploy.faults.number import BITS, number_in, write_number
from deploy.faults.watch import Lines, weight


@pytest.mark.parametrize("shape", [(180, 320), (90, 160), (181, 321), (720, 1280)])
def test_number(shape: tuple[int, int]) -> None:
    for number in (0, 1, 12345, 2**BITS - 1):
        luma = np.full(shape, 96, np.uint8)
        write_number(luma, number)
        assert number_in(luma) == number


@pytest.mark.parametrize("kind", ["mp4", "ts", "mkv"])
def test_clip(tmp_path: Path, kind: str) -> None:
    path = make(tmp_path / f"clip.{kind}", Clip(frames=30, first=1000, noise=32))
    assert numbers([path]) == list(range(1000, 1030))
    found = times(path)
    assert [round(float(b - a), 3) for a, b in itertools.pairwise(found)] == [0.04] * 29


def test_other_pictures(tmp_path: Path) -> None:
    turned = make(tmp_path / "turned.mp4", Clip(frames=5, turn=90, sound=False))
    assert size(turned) == (320, 180), "the turn is for players"
    odd = make(tmp_path / "odd.mp4", Clip(frames=5, size=(321, 181), pixels="yuv444p"))
    assert (size(odd), numbers([odd])) == ((321, 181), [0, 1, 2, 3, 4])


def test_parts_and_joins(tmp_path: Path) -> None:
    one, two = (make(tmp_path / f"{first}.ts", Clip(frames=10, first=first)) for first in (0, 10))
    assert numbers([one, two]) == numbers([join(tmp_path / "all.ts", one, two)]) == list(range(20))


def test_damage() -> None:
    data = bytes(range(256)) * 40
    spoilt = damage(data, 0.01, random.Random(1))
    assert spoilt == damage(data, 0.01, random.Random(1))
    changed = [at for at, (a, b) in enumerate(zip(data, spoilt, strict=True)) if a != b]
    assert 50 < len(changed) <= len(data) // 100
    assert min(changed) >= len(data) // 10


def line(index: int, epoch: int = 1) -> str:
    return json.dumps({"epoch": epoch, "index": index, "state": "annotated", "detections": []}) + "\n"


def test_tail(tmp_path: Path) -> None:
    """Half lines wait, further parts are found, and a file that was cut back is gone on with."""
    lines, path = Lines(tmp_path), tmp_path / "out.jsonl"
    lines.look(0.0)
    path.write_text(line(0) + line(1)[:10])
    lines.look(1.0)
    with path.open("a") as file:
        file.write(line(1)[10:] + "nonsense\n" + line(2))
    lines.look(2.0)
    (tmp_path / "out.part2.jsonl").write_text(line(3))
    lines.look(3.0)
    assert [(one.index, one.at) for one in lines.seen] == [(0, 1.0), (1, 2.0), (2, 2.0), (3, 3.0)]
    assert lines.broken == 1
    os.truncate(path, len(line(0)))
    lines.look(4.0)
    with path.open("a") as file:
        file.write(line(1, epoch=2))
    lines.look(5.0)
    assert [(one.index, one.epoch) for one in lines.seen[4:]] == [(1, 2)]
    lines.close()


def test_weight() -> None:
    assert weight(os.getpid()) > 10 * 2**20
    assert weight(2**22 + 1) == 0
