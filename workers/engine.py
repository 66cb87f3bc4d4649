"""The two threads behind a worker's sockets: one decodes payloads, one runs the model. They overlap.

No sockets here. What goes in is bounded by the worker's credit; what comes out is fetched with :meth:`results`.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.codec import decode_rgb
from common.errors import ModelError, PeerError
from common.messages import Frame, Work
from workers.letterbox import Placement
from workers.model import Findings, Model
from workers.models.memory import is_out_of_memory, release
from workers.results import check_results

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """One frame on its way through the worker."""

    work: Work
    received: float
    canvas: tuple[int, int] = (0, 0)
    picture: NDArray[np.uint8] | None = None
    decoded: float = 0.0

    @property
    def key(self) -> tuple[str, int]:
        """Lease ids are only unique within one incarnation of the broker."""
        return self.work.incarnation, self.work.lease


@dataclass(frozen=True, slots=True)
class Decoded:
    job: Job


@dataclass(frozen=True, slots=True)
class Refused:
    """The payload cannot be decoded."""

    job: Job
    reason: str


@dataclass(frozen=True, slots=True)
class Inferred:
    """A batch is through. ``findings`` are in source pixels; ``error`` where the model failed."""

    jobs: list[Job]
    findings: list[Findings]
    error: str
    started: float
    seconds: float


@dataclass(frozen=True, slots=True)
class TooLarge:
    """Memory did not suffice for these pictures together; nothing is said of each of them."""

    jobs: list[Job]
    reason: str


Event = Decoded | Refused | Inferred | TooLarge


def canvas_of(frame: Frame, width: int, height: int) -> tuple[int, int]:
    """The model's picture for this frame: its input size, or larger where the producer sent more (``--send-size``)."""
    return max(width, frame.size[0]), max(height, frame.size[1])


class Engine:
    """Decodes and infers. ``notify`` is called when an event can be fetched."""

    def __init__(self, name: str, model: Model, notify: Callable[[], None]) -> None:
        self._name, self._model, self._notify = name, model, notify
        self._to_decode: queue.SimpleQueue[tuple[Job, bytes] | None] = queue.SimpleQueue()
        self._to_infer: queue.SimpleQueue[list[Job] | None] = queue.SimpleQueue()
        self._events: deque[Event] = deque()
        self.busy = False  # a batch is in the model; set and cleared by the socket thread only
        for target, name in ((self._decode_all, "decode"), (self._infer_all, "infer")):
            threading.Thread(target=target, name=name, daemon=True).start()

    def decode(self, job: Job, payload: bytes) -> None:
        self._to_decode.put((job, payload))

    def infer(self, jobs: list[Job]) -> None:
        assert not self.busy
        self.busy = True
        self._to_infer.put(jobs)

    def events(self) -> list[Event]:
        """What has happened since the last call."""
        events: list[Event] = []
        while self._events:
            event = self._events.popleft()
            if isinstance(event, Inferred | TooLarge):
                self.busy = False
            events.append(event)
        return events

    def _tell(self, event: Event) -> None:
        self._events.append(event)
        self._notify()

    def _decode_all(self) -> None:
        while (one := self._to_decode.get()) is not None:
            self._tell(self._decode(*one))

    def _decode(self, job: Job, payload: bytes) -> Event:
        frame, spec = job.work.frame, self._model.input
        canvas = canvas_of(frame, spec.width, spec.height)
        try:
            placement = Placement.of(frame.source, frame.size, canvas, spec.letterbox)
            sent = decode_rgb(payload, frame.codec, frame.size)  # first: it refuses unreasonable sizes
            picture: NDArray[np.uint8] = np.empty((canvas[1], canvas[0], 3), np.uint8)
            placement.paste(sent, picture)
        except (PeerError, ValueError) as error:
            return Refused(job, str(error))
        except Exception as error:  # noqa: BLE001  e.g. out of memory: it costs this frame, not the thread
            return Refused(job, f"{type(error).__name__}: {error}"[:1000])
        return Decoded(Job(job.work, job.received, canvas, picture, time.monotonic()))

    def _infer_all(self) -> None:
        while (jobs := self._to_infer.get()) is not None:
            self._tell(self._infer(jobs))

    def _infer(self, jobs: list[Job]) -> Inferred | TooLarge:
        started = time.monotonic()
        findings: list[Findings] = []
        error, full = "", False
        try:
            pictures = np.stack([job.picture for job in jobs if job.picture is not None])
            height, width = pictures.shape[1:3]
            answer = self._model.predict(pictures)
            checked = check_results(self._name, answer, len(jobs), width, height)
            findings = [
                self._placement(job).to_source(found)[0] for job, found in zip(jobs, checked.findings, strict=True)
            ]
        except ModelError as failure:
            error, full = str(failure), is_out_of_memory(failure)
        except BaseException as failure:  # noqa: BLE001  a user's model may raise anything, SystemExit too
            error = f"model {self._name} raised {type(failure).__name__}: {' '.join(str(failure).split())}"
            full = is_out_of_memory(failure)
        if full:
            release()  # not before here, where the error's frames no longer hold what they had allocated
            if len(jobs) > 1:
                return TooLarge(jobs, error[:1000])
            error = f"out_of_memory: not even one picture fits: {error}"
        return Inferred(jobs, findings, error[:1000], started, time.monotonic() - started)

    def _placement(self, job: Job) -> Placement:
        frame = job.work.frame
        return Placement.of(frame.source, frame.size, job.canvas, self._model.input.letterbox)
