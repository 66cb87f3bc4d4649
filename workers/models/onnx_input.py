"""What a network of ONNX wants to be fed, and pictures brought into that form. Pure: numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.messages import MAX_SIDE
from workers.model import Pictures
from workers.models.sidecar import Facts, Sidecar

#: ONNX's names of the types that pictures can be given in.
DTYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
}
#: Side where neither the file nor its sidecar names one, in pixels.
OPEN_SIDE = 640

WANTED = "one picture tensor N x 3 x H x W or N x H x W x 3 of float32, float16 or uint8 is wanted"


class FormError(Exception):
    """The network's input or output is of no form that is known here."""


@dataclass(frozen=True, slots=True)
class Feed:
    """The network's one input. ``batch``, ``width``, ``height``: ``None`` where any will do."""

    name: str
    dtype: type[np.generic]
    channels_first: bool
    batch: int | None
    width: int | None
    height: int | None
    #: Open sides are filled up to multiples of it.
    stride: int
    bgr: bool
    #: Pixels are multiplied by ``factor`` and ``offset`` is taken off, each 3, in the input's order of colours.
    factor: tuple[float, ...]
    offset: tuple[float, ...]

    @classmethod
    def of(cls, inputs: Sequence[tuple[str, str, Sequence[Any]]], side: Sidecar, facts: Facts) -> Feed:
        """``inputs``: name, type and shape of each (text or ``None``: an open dimension). Raises FormError."""
        if len(inputs) != 1:
            names = ", ".join(name for name, _, _ in inputs)[:200]
            raise FormError(f"takes {len(inputs)} inputs ({names}): {WANTED}")
        name, kind, raw = inputs[0]
        shape = [size if isinstance(size, int) and size > 0 else None for size in raw]
        said = f"takes {kind.removeprefix('tensor(').removesuffix(')')} of shape ({', '.join(map(str, raw))})"
        if kind not in DTYPES or len(shape) != 4:
            raise FormError(f"{said}: {WANTED}")
        channels_first = shape[1] == 3 or (shape[3] != 3 and shape[1] is None)
        if shape[1 if channels_first else 3] not in (3, None):
            raise FormError(f"{said}: {WANTED}")
        height, width = shape[2:] if channels_first else shape[1:3]
        if max(height or 1, width or 1) > MAX_SIDE:
            raise FormError(f"{said}: a side may have {MAX_SIDE} pixels")
        dtype = DTYPES[kind]
        factor, offset = _normalisation(side)
        if dtype is np.uint8 and (side.scale, side.mean, side.std) != (1.0, (0.0,), (1.0,)):
            raise FormError("takes bytes: scale, mean and std of the sidecar have no meaning there")
        stride = 1 if facts.task == "classify" else facts.stride
        return cls(name, dtype, channels_first, shape[0], width, height, stride, side.colours == "bgr", factor, offset)

    def size(self, side: Sidecar, facts: Facts) -> tuple[int, int]:
        """Width and height of the pictures to ask for. Raises FormError where the sidecar contradicts the file."""
        wanted = side.size or facts.size or (OPEN_SIDE, OPEN_SIDE)
        width, height = self.width or wanted[0], self.height or wanted[1]
        if side.size and side.size != (width, height):
            raise FormError(f"takes {width}x{height} pictures, and its sidecar says {side.size[0]}x{side.size[1]}")
        return width, height

    def takes(self, width: int, height: int) -> bool:
        return self.width in (width, None) and self.height in (height, None)

    def prepare(self, pictures: Pictures, count: int) -> NDArray[Any]:
        """N pictures → ``count`` ≥ N in the network's form; open sides are filled up with black, right and below."""
        _, height, width = pictures.shape[:3]
        tall = height if self.height is not None else -(-height // self.stride) * self.stride
        wide = width if self.width is not None else -(-width // self.stride) * self.stride
        shape = (count, 3, tall, wide) if self.channels_first else (count, tall, wide, 3)
        out = np.zeros(shape, self.dtype)
        for to in range(3):
            plane = out[:, to] if self.channels_first else out[..., to]
            source = pictures[..., 2 - to if self.bgr else to]
            inside = plane[: len(pictures), :height, :width]
            if self.dtype is np.uint8:
                inside[:] = source
                continue
            np.multiply(source, np.float32(self.factor[to]), out=inside, casting="same_kind")
            if self.offset[to]:
                plane -= plane.dtype.type(self.offset[to])  # of the black around too
        return out


def _normalisation(side: Sidecar) -> tuple[tuple[float, ...], tuple[float, ...]]:
    mean, std = (values * 3 if len(values) == 1 else values for values in (side.mean, side.std))
    factor = tuple(side.scale / 255 / one for one in std)
    return factor, tuple(m / s for m, s in zip(mean, std, strict=True))
