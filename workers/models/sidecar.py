"""What an ONNX file does not say of itself: a ``.model.toml`` beside it, and the metadata that ultralytics puts in.

Metadata are other people's text: read as literals, bounded, and left out where they make no sense.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from common.errors import ModelError
from common.messages import MAX_SIDE
from workers.models.labels import Labels

#: Largest sidecar, and longest entry of metadata that is read, in bytes.
MAX_BYTES = 1 << 20

Side = Annotated[int, msgspec.Meta(ge=1, le=MAX_SIDE)]
Channels = Annotated[tuple[float, ...], msgspec.Meta(min_length=1, max_length=3)]
Form = Literal["tags", "boxes", "rows", "anchors", "objectness"]
Corners = Literal["xyxy", "yxyx", "xywh", "cxcywh"]


class Sidecar(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of ``.model.toml``; docs/models.md explains them. ``None``: found out from the file."""

    size: tuple[Side, Side] | None = None
    colours: Literal["rgb", "bgr"] = "rgb"
    #: What a pixel of 255 becomes, before ``mean`` is taken off and ``std`` divides.
    scale: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    mean: Channels = (0.0,)
    std: Channels = (1.0,)
    letterbox: bool = True
    form: Form | None = None
    boxes: Corners | None = None
    #: Boxes are parts of the input's sides, not pixels.
    relative: bool | None = None
    #: Overlap (intersection over union) from which two boxes of a class are one thing.
    nms: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    #: Keypoints of a detection, and numbers for each: x, y, perhaps how visible it is.
    points: tuple[Annotated[int, msgspec.Meta(ge=0, le=64)], Annotated[int, msgspec.Meta(ge=2, le=3)]] | None = None


def read_sidecar(model: str, path: Path) -> Sidecar:
    """The file's keys, or the defaults where there is no such file. Raises ModelError, which names ``model``."""
    if not path.is_file():
        return Sidecar()
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES} bytes")
        side = msgspec.toml.decode(path.read_bytes(), type=Sidecar)
        if len(side.mean) == 2 or len(side.std) == 2:
            raise ValueError("`mean` and `std` have one number, or three")
        if not all(side.std):
            raise ValueError("`std` divides: no zero")
    except (ValueError, OSError) as error:  # msgspec's are ValueErrors
        raise ModelError(f"model {model}: {path}: {' '.join(str(error).split())}") from None
    return side


@dataclass(frozen=True, slots=True)
class Facts:
    """What a file's metadata say (ultralytics' exporter's keys). Each may be missing."""

    task: str = ""
    labels: Labels | None = None
    #: Width and height, pixels.
    size: tuple[int, int] | None = None
    #: Open sides have to be multiples of it.
    stride: int = 32
    points: tuple[int, int] | None = None

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> Facts:
        names = _literal(metadata.get("names", ""))
        if isinstance(names, list):
            names = dict(enumerate(names))
        labels = Labels(names) if isinstance(names, dict) and all(type(key) is int for key in names) else None
        size, stride = _pair(metadata.get("imgsz", ""), MAX_SIDE), _literal(metadata.get("stride", ""))
        return cls(
            task=metadata.get("task", "")[:40],
            labels=labels,
            size=(size[1], size[0]) if size else None,  # written as height, width
            stride=stride if type(stride) is int and 1 <= stride <= 256 else 32,
            points=_pair(metadata.get("kpt_shape", ""), 64),
        )


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text) if 0 < len(text) <= MAX_BYTES else None
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None


def _pair(text: str, largest: int) -> tuple[int, int] | None:
    """``[a, b]``, or ``a`` for both."""
    found = _literal(text)
    both = [found, found] if type(found) is int else found
    if not isinstance(both, list | tuple) or len(both) != 2:
        return None
    return (both[0], both[1]) if all(type(one) is int and 1 <= one <= largest for one in both) else None
