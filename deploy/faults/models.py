"""Models that misbehave on chosen pictures: ``--model deploy.faults.models:Name``. A picture shows its number.

The one place of ``deploy`` that imports from ``workers``: a worker loads it as it loads any user's model.
"""

from __future__ import annotations

import os
import signal
import threading

import numpy as np

from common.messages import Detection, InputSpec
from deploy.faults.number import BAD, number_in
from workers.model import Findings, Pictures

#: Time that a picture takes, in seconds.
PACE_S = 0.01


class Reads:
    """Behaves, and labels each picture with its number."""

    input = InputSpec(width=320, height=180)

    def setup(self, device: str) -> None:
        """Nothing to load."""

    def predict(self, pictures: Pictures) -> list[Findings]:
        found = [number_in(np.ascontiguousarray(picture[:, :, 1])) for picture in pictures]
        threading.Event().wait(PACE_S * len(found))
        for number in found:
            if number in BAD:
                self.misbehave()
        return [Findings([Detection(str(number), 0.9, (10.0, 10.0, 60.0, 60.0))]) for number in found]

    def misbehave(self) -> None:
        """What happens on a bad picture."""


class Poison(Reads):
    """The process dies, as by a fault in native code."""

    def misbehave(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Raises(Reads):
    """A Python error."""

    def misbehave(self) -> None:
        raise RuntimeError("this picture is too much for the model")


class Hangs(Reads):
    """Never returns, while the worker's heartbeats go on."""

    def misbehave(self) -> None:
        threading.Event().wait()
