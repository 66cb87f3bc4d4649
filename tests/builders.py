"""Headers with sensible values, for tests that care about one or two fields only. One stream ``s``, epoch 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common import messages as m

STREAM, EPOCH, MODEL = "s", 1, "echo"
#: Ticks of one frame: 25 frames a second at a time base of 1/12800 s.
TICK = 512


def frame(index: int, **fields: Any) -> m.Frame:
    known = {"stream": STREAM, "epoch": EPOCH, "model": MODEL, "sink": "sink", "source": (64, 48), "size": (64, 48)}
    return m.Frame(**{**known, "index": index, **fields})


def notice(index: int, fate: m.Fate = "sent", **fields: Any) -> m.Notice:
    out = fields.pop("out", index * TICK)
    known = {"stream": STREAM, "epoch": EPOCH, "link": index + 1, "pts": out, "packet": index + 1, "duration": TICK}
    return m.Notice(**{**known, "index": index, "fate": fate, "out": out, **fields})


def result(index: int, *labels: str, **fields: Any) -> m.Result:
    found = [m.Detection(label, 0.5, (1.0, 2.0, 30.0, 40.0)) for label in labels]
    return m.Result(**{"stream": STREAM, "epoch": EPOCH, "index": index, "worker": "w", "detections": found, **fields})


def gave_up(index: int, reason: str = "poison", epoch: int = EPOCH) -> m.GaveUp:
    return m.GaveUp(stream=STREAM, epoch=epoch, index=index, reason=reason)


def expired(index: int, epoch: int = EPOCH) -> m.Expired:
    return m.Expired(stream=STREAM, epoch=epoch, index=index)


def ack(
    received: Sequence[tuple[int, int]] = (), resolved: int = -1, link: int = 0, durable: int = -1, late: int = 0
) -> m.Ack:
    return m.Ack(
        stream=STREAM, epoch=EPOCH, link=link, received=list(received), resolved=resolved, durable=durable, late=late
    )


def news(*held: tuple[int, int], incarnation: str = "a", number: int = 1, epoch: int = EPOCH) -> m.News:
    return m.News(incarnation=incarnation, number=number, held={STREAM: (epoch, list(held))})


def end(link: int, last: int) -> m.End:
    return m.End(stream=STREAM, epoch=EPOCH, link=link, last=last)
