"""What a model is to Headrace. Pure types: numpy and the messages, no torch, no sockets.

A model of your own is a class with these members (an example: examples/brightness.py)::

    class Brightness:
        input = InputSpec(width=320, height=180)      # what you are sent
        def setup(self, device: str) -> None: ...     # once, in the worker; load weights here
        def predict(self, pictures): ...              # N pictures in, N Findings out, in the same order

It is named on the command line as ``package.module:Class`` and constructed without arguments.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from common.messages import Detection, InputSpec, Tag

__all__ = ["Detection", "Findings", "InputSpec", "Model", "Pictures", "Tag"]

#: uint8, N × H × W × 3, RGB, full range; H × W is the model's input size (or ``--send-size``), padded if letterboxed.
Pictures = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Findings:
    """What a model says of one picture. Boxes and points are in pixels of the picture that the model was given."""

    detections: list[Detection] = field(default_factory=list)
    tags: list[Tag] = field(default_factory=list)


@runtime_checkable
class Model(Protocol):
    """The hooks that a model provides."""

    #: What the model wants to be sent.
    input: InputSpec

    def setup(self, device: str) -> None:
        """Load weights and warm up. ``device`` is ``cpu`` or ``cuda:N``. May raise ModelError."""

    def predict(self, pictures: Pictures) -> list[Findings]:
        """One Findings for each picture, in order. Called from one thread only."""
