"""The worker's two threads: payloads in, findings in source pixels out, and no model can take the worker down."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from common import messages as m
from common.codec import Planes, encode_i420, encode_jpeg
from common.errors import ModelError
from tests.builders import frame
from tests.support import wait_for
from workers.engine import Decoded, Engine, Event, Inferred, Job, Refused, TooLarge, canvas_of
from workers.model import Detection, Findings, InputSpec
from workers.models.echo import Echo


def payload(width: int, height: int, codec: str = "jpeg") -> bytes:
    half = ((height + 1) // 2, (width + 1) // 2)
    y = np.tile(np.arange(width, dtype=np.uint8), (height, 1))
    planes = Planes(y, np.full(half, 128, np.uint8), np.full(half, 128, np.uint8), 2, 5)
    return encode_jpeg(planes, 95) if codec == "jpeg" else encode_i420(planes)


def job(lease: int, **fields: Any) -> Job:
    return Job(m.Work(incarnation="a", lease=lease, frame=frame(lease, **fields)), 0.0)


class Model:
    """A user's model: ``predict`` is given."""

    def __init__(self, predict: Callable[[NDArray[np.uint8]], Any], spec: InputSpec | None = None) -> None:
        self.input = spec or InputSpec(64, 64)
        self.predict = predict
        self.seen: list[NDArray[np.uint8]] = []

    def setup(self, device: str) -> None: ...


def centre(pictures: NDArray[np.uint8]) -> list[Findings]:
    """The middle half of each picture."""
    height, width = pictures.shape[1:3]
    box = (width / 4, height / 4, width * 3 / 4, height * 3 / 4)
    return [Findings([Detection("x", 0.5, box)]) for _ in pictures]


class Bench:
    def __init__(self, model: Any) -> None:
        self.woken = threading.Event()
        self.engine = Engine("test", model, self.woken.set)

    def events(self, count: int) -> list[Event]:
        got: list[Event] = []

        def enough() -> bool:
            got.extend(self.engine.events())
            return len(got) >= count

        wait_for(enough, 10, f"{count} events")
        assert self.woken.is_set()
        assert len(got) == count
        return got

    def decode(self, *work: tuple[Job, bytes]) -> list[Event]:
        for one, data in work:
            self.engine.decode(one, data)
        return self.events(len(work))

    def infer(self, jobs: list[Job]) -> Inferred:
        self.engine.infer(jobs)
        assert self.engine.busy
        (event,) = self.events(1)
        assert not self.engine.busy
        assert isinstance(event, Inferred)
        return event

    def through(self, *work: tuple[Job, bytes]) -> Inferred:
        jobs = [event.job for event in self.decode(*work) if isinstance(event, Decoded)]
        assert len(jobs) == len(work)
        return self.infer(jobs)


@pytest.mark.parametrize("codec", ["jpeg", "i420"])
@pytest.mark.parametrize(("source", "size"), [((192, 96), (64, 32)), ((96, 192), (32, 64)), ((64, 64), (64, 64))])
def test_findings_come_back_in_source_pixels(codec: str, source: tuple[int, int], size: tuple[int, int]) -> None:
    """The middle half of a letterboxed square, clipped to the source, whatever its shape."""
    done = Bench(Model(centre)).through((job(1, source=source, size=size, codec=codec), payload(*size, codec)))
    assert done.error == ""
    ((detection,),) = [found.detections for found in done.findings]
    side = max(source)
    want = []
    for length in source:
        bar = (side - length) / 2
        want.append((max(0.0, side / 4 - bar), min(float(length), side * 3 / 4 - bar)))
    assert detection.box == pytest.approx((want[0][0], want[1][0], want[0][1], want[1][1]))


def test_the_model_gets_the_batch_in_order_and_letterboxed() -> None:
    model = Model(centre)
    model.predict = lambda pictures: model.seen.append(pictures) or centre(pictures)  # type: ignore[func-returns-value]
    bench = Bench(model)
    done = bench.through(
        *[(job(n, source=(64, 32), size=(64, 32), codec="i420"), payload(64, 32, "i420")) for n in range(3)]
    )
    assert [one.work.lease for one in done.jobs] == [0, 1, 2]
    (pictures,) = model.seen
    assert (pictures.shape, pictures.dtype) == ((3, 64, 64, 3), np.uint8)
    assert (pictures[:, :16] == 0).all()
    assert (pictures[:, 48:] == 0).all()
    assert np.abs(pictures[0, 20, :, 1].astype(int) - np.arange(64)).max() <= 2, "RGB, full range, left to right"
    assert done.seconds > 0


def test_a_larger_picture_makes_a_larger_canvas() -> None:
    assert canvas_of(frame(0, size=(100, 50)), 64, 64) == (100, 64)
    done = Bench(Model(centre)).through((job(1, source=(200, 200), size=(200, 200)), payload(200, 200)))
    assert done.findings[0].detections[0].box == pytest.approx((50, 50, 150, 150))


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        (b"", {}),
        (b"\xff\xd8\xff\xe0 no jpeg", {}),
        (payload(64, 48)[:100], {}),
        (payload(64, 48), {"size": (64, 64)}),
        (payload(64, 48), {"codec": "i420"}),
        (payload(64, 48, "i420")[:-1], {"codec": "i420"}),
        (payload(64, 48), {"size": (16384, 16384)}),
    ],
)
def test_a_payload_that_cannot_be_decoded_is_refused_and_the_next_is_not(data: bytes, fields: dict[str, Any]) -> None:
    bench = Bench(Model(centre))
    bad, good = bench.decode((job(1, **fields), data), (job(2), payload(64, 48)))
    assert isinstance(bad, Refused)
    assert bad.reason
    assert isinstance(good, Decoded)


def fails(pictures: NDArray[np.uint8]) -> Any:
    raise RuntimeError("CUDA out of memory" + "!" * 5000)


def refuses(pictures: NDArray[np.uint8]) -> Any:
    raise ModelError("no weights")


@pytest.mark.parametrize(
    ("predict", "said"),
    [
        (fails, "out_of_memory: not even one picture fits: model test raised RuntimeError: CUDA out of memory"),
        (refuses, "no weights"),
        (lambda pictures: None, "returned None"),
        (lambda pictures: [], "0 results for 1 pictures"),
        (lambda pictures: [Findings([Detection("x", float("nan"), (0, 0, 1, 1))])], "nan"),
        (lambda pictures: [Findings([Detection("x", 0.5, (9, 9, 1, 1))])], "reversed"),
    ],
)
def test_a_model_that_fails_is_told_and_the_next_batch_runs(predict: Callable[..., Any], said: str) -> None:
    model = Model(predict)
    bench = Bench(model)
    done = bench.through((job(1), payload(64, 48)))
    assert said in done.error
    assert len(done.error) <= 1000
    assert done.findings == []
    model.predict = centre
    assert bench.through((job(2), payload(64, 48))).error == ""


def test_a_batch_that_does_not_fit_is_no_failure_of_its_frames() -> None:
    """It comes back whole; what is smaller goes through, and of one picture it is an error."""
    room = 2

    def predict(pictures: NDArray[np.uint8]) -> list[Findings]:
        if len(pictures) > room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2.00 GiB")
        return centre(pictures)

    bench = Bench(Model(predict))
    jobs = [one.job for one in bench.decode(*[(job(n), payload(64, 48)) for n in range(4)]) if isinstance(one, Decoded)]
    bench.engine.infer(jobs)
    (event,) = bench.events(1)
    assert isinstance(event, TooLarge)
    assert event.jobs == jobs
    assert event.reason == "model test raised OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"
    assert len(bench.infer(jobs[:2]).findings) == 2
    room = 0
    assert bench.infer(jobs[:1]).error.startswith("out_of_memory: not even one picture fits: model test raised")


def test_two_batches_at_a_time_are_our_bug() -> None:
    gate = threading.Event()
    bench = Bench(Model(lambda pictures: gate.wait(10) and centre(pictures)))
    (event,) = bench.decode((job(1), payload(64, 48)))
    assert isinstance(event, Decoded)
    bench.engine.infer([event.job])
    with pytest.raises(AssertionError):
        bench.engine.infer([event.job])
    # Decoding goes on while the model is busy.
    assert isinstance(bench.decode((job(2), payload(64, 48)))[0], Decoded)
    gate.set()
    assert isinstance(bench.events(1)[0], Inferred)


def test_leases_of_two_brokers_are_told_apart() -> None:
    one = job(1)
    assert one.key == ("a", 1)
    assert Job(m.Work(incarnation="b", lease=1, frame=frame(1)), 0.0).key != one.key


def test_the_shipped_fake() -> None:
    done = Bench(Echo()).through((job(1, source=(1280, 720), size=(640, 360)), payload(640, 360)))
    assert [found.label for found in done.findings[0].detections] == ["echo", "echo"]
    assert done.findings[0].detections[0].box == pytest.approx((512, 144, 614.4, 360))
