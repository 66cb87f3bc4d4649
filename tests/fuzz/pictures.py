"""Hostile pictures at a worker's decoder: each is decoded or refused with a reason, in bounded time."""

from __future__ import annotations

import io
import random
import threading
import time
from collections import Counter
from typing import Any

import numpy as np
from PIL import Image  # scikit-image brings it; it writes JPEGs that the product's encoder cannot

from common import messages as m
from tests.builders import frame
from tests.fuzz.mutate import mutate, noise
from tests.support import wait_for
from workers.engine import Decoded, Engine, Inferred, Job, Refused
from workers.models.echo import Echo

SIZE = (96, 64)
#: What honest headers say, and what no picture has.
SIZES = (SIZE, SIZE, SIZE, (64, 96), (1, 1), (16384, 1), (1, 16384), (16384, 16384), (7680, 4320), (65535, 65535))
#: Pictures thrown before the answers are looked at.
VOLLEY = 16


def _picture(chance: random.Random) -> Image.Image:
    small = np.frombuffer(chance.randbytes(6 * 4 * 3), np.uint8).reshape(4, 6, 3)
    return Image.fromarray(small).resize(SIZE, Image.Resampling.BILINEAR)


def jpegs(chance: random.Random) -> list[bytes]:
    """Sound JPEGs of :data:`SIZE` in all kinds, most of which no producer of ours makes."""
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("RGB", {"quality": 80}),
        ("RGB", {"quality": 30, "subsampling": 0, "optimize": True}),
        ("RGB", {"progressive": True}),
        ("RGB", {"restart_marker_blocks": 1}),
        ("RGB", {"comment": b"\xff\xda\xff\xd8" * 100, "icc_profile": chance.randbytes(3000)}),
        ("L", {"quality": 80}),
        ("L", {"progressive": True}),
        ("CMYK", {"quality": 80}),
    ]
    made = []
    for mode, options in kinds:
        buffer = io.BytesIO()
        _picture(chance).convert(mode).save(buffer, "JPEG", **options)
        made.append(buffer.getvalue())
    return made


def frame_segment(data: bytes) -> int:
    """Where the segment with the size begins: SOF0, SOF1 or SOF2."""
    return min(place for kind in (0xC0, 0xC1, 0xC2) if (place := data.find(bytes([0xFF, kind]))) >= 0)


def with_size(data: bytes, width: int, height: int) -> bytes:
    """The same JPEG under another size."""
    at = frame_segment(data) + 5
    return data[:at] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + data[at + 4 :]


def with_components(data: bytes, count: int) -> bytes:
    """The same JPEG, whose header names another number of colours."""
    at = frame_segment(data) + 9
    return data[:at] + bytes([count]) + data[at + 1 :]


def with_scans(data: bytes, count: int) -> bytes:
    """The same JPEG with its last scan ``count`` times more."""
    start = data.rindex(b"\xff\xda")
    return data[:-2] + data[start:-2] * count + data[-2:]


class Pictures:
    """Throws pictures at a real engine; ``counts`` says what became of them, ``slowest`` is in CPU seconds."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._engine = Engine("echo", Echo(), self._notify)
        self._news = threading.Event()
        self._lease = 0
        self._sound = jpegs(self._chance)
        self.counts: Counter[str] = Counter()
        self.slowest = 0.0

    def _notify(self) -> None:
        self._news.set()

    def throw(self, count: int) -> None:
        """Decode ``count`` hostile pictures, and an honest one after each volley."""
        for _ in range(0, count, VOLLEY):
            thrown = [self._hostile() for _ in range(VOLLEY)]
            for header, payload in thrown:
                assert isinstance(self._decode(header, payload), Decoded | Refused)
            self.honest()

    def honest(self) -> None:
        """A sound picture still goes all the way."""
        answer = self._decode(frame(0, size=SIZE, source=SIZE), self._sound[0])
        assert isinstance(answer, Decoded), answer
        self._engine.infer([answer.job])
        done = self._answer()
        assert isinstance(done, Inferred)
        assert not done.error

    def _decode(self, header: m.Frame, payload: bytes) -> Decoded | Refused:
        self._lease += 1
        started = time.process_time()
        self._engine.decode(Job(m.Work(incarnation="a", lease=self._lease, frame=header), 0.0), payload)
        answer = self._answer()
        self.slowest = max(self.slowest, time.process_time() - started)
        assert answer.job.work.lease == self._lease
        if isinstance(answer, Refused):
            assert 0 < len(answer.reason) <= 1000
            self.counts[f"refused: {answer.reason.split(':')[0]}"] += 1
        else:
            assert answer.job.picture is not None
            self.counts["decoded"] += 1
        return answer

    def _answer(self) -> Any:
        events: list[Any] = []

        def came() -> bool:
            self._news.wait(0.05)
            self._news.clear()
            events.extend(self._engine.events())
            return bool(events)

        wait_for(came, 60, "an answer of the engine")
        (event,) = events
        return event

    def _hostile(self) -> tuple[m.Frame, bytes]:
        chance = self._chance
        size = chance.choice(SIZES[:-1])
        header = frame(self._lease, size=size, source=chance.choice(SIZES[:-1]))
        sound = chance.choice(self._sound)
        how = chance.randrange(12)
        if how == 0:
            return header, noise(chance, 3000)
        if how == 1:
            return header, sound[:2] + noise(chance, 3000)
        if how == 2:
            return header, with_size(sound, *chance.choice(SIZES))
        if how == 3:
            return header, with_size(sound, *size)
        if how == 4:
            return header, with_components(sound, chance.choice((0, 1, 2, 3, 4, 5, 255)))
        if how == 5:
            return header, with_scans(sound, chance.choice((1, 5, 40, 3000)))
        if how == 6:
            return header, sound + noise(chance, 5000)
        if how == 7:
            return header, sound[: chance.randint(0, len(sound))]
        if how == 8:
            raw = frame(self._lease, size=size, codec="i420", source=SIZE)
            return raw, noise(chance, 20_000) if chance.random() < 0.5 else bytes(SIZE[0] * SIZE[1] * 3 // 2)
        return header, mutate(sound, chance, chance.choice(self._sound))
