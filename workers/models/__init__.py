"""Model names and how they become models. Importing this module, and ``check_spec``, never imports torch.

A spec is a name from ``NAMES``, an explicit ``torch:``, ``onnx:`` or ``yolo:FILE``, or ``package.module:Class``;
nothing is searched for. Whatever is wrong with it ends as one ModelError line that says what and what to do.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.machinery
import importlib.util
import os
import sys
from dataclasses import dataclass

from common.errors import ModelError, one_line
from workers.model import InputSpec, Model

__all__ = ["NAMES", "Entry", "check_spec", "load"]

#: Slowest imitation that ``echo:MS`` accepts, in milliseconds a picture.
MAX_ECHO_MS = 60_000.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of ``headrace models``."""

    name: str
    what: str
    #: Input size as text, pixels.
    size: str
    licence: str


#: What can be named on the command line.
NAMES: tuple[Entry, ...] = (
    Entry("echo", "no inference: two fixed boxes; echo:MS waits MS milliseconds a picture", "640x360", "Apache-2.0"),
    Entry("face", "faces with 6 keypoints (BlazeFace, back camera)", "256x256", "Apache-2.0"),
    Entry("objects", "80 everyday things, COCO names (SSDLite-MobileNetV2)", "300x300", "Apache-2.0"),
    Entry("torch:FILE", "your network, saved with torch.export.save (.pt2)", "the program's", "yours"),
    Entry("onnx:FILE", "your network as an ONNX file (.onnx), run by the package onnxruntime", "the file's", "yours"),
    Entry("yolo:FILE", "a network of the package ultralytics (.pt)", "the file's", "yours; ultralytics: AGPL-3.0"),
    Entry("package.module:Class", "your class with input, setup() and predict()", "the class's", "yours"),
)

_BUILT_IN = ("echo", "face", "objects")
#: Models that are files, and what is wanted for each.
_FILES = {
    "torch": "a program saved with torch.export.save",
    "onnx": "an ONNX model",
    "yolo": "a network of ultralytics (.pt, or exported)",
}
#: Those that take ``threshold``.
_THRESHOLDS = ("face", "objects", "onnx", "yolo")


def load(spec: str, threshold: float | None = None) -> Model:
    """Construct the model that ``spec`` names; its ``setup(device)`` is still to be called.

    ``threshold``: least score of a finding, 0…1, for those of ``_THRESHOLDS``; ``None`` is the model's own.
    Raises ModelError.
    """
    kind, rest = _parse(spec)
    if threshold is not None and kind not in _THRESHOLDS:
        raise ModelError(f"model {spec!r} takes no threshold: only {', '.join(_THRESHOLDS)} do")
    if threshold is not None and not 0.0 < threshold < 1.0:
        raise ModelError(f"threshold {threshold} of model {spec!r} is not between 0 and 1")
    if kind == "echo":
        from workers.models.echo import Echo

        return Echo(_echo_seconds(rest))
    if kind == "face":
        from workers.models.face import Face

        return Face() if threshold is None else Face(threshold)
    if kind == "objects":
        from workers.models.objects import Objects

        return Objects() if threshold is None else Objects(threshold)
    if kind == "torch":
        from workers.models.torch_file import TorchFile

        return TorchFile(rest)
    if kind == "onnx":
        from workers.models.onnx_check import check_package

        check_package()
        from workers.models.onnx_file import OnnxFile

        return OnnxFile(rest, threshold)
    if kind == "yolo":
        from workers.models.yolo_file import YoloFile

        return YoloFile(rest, threshold)
    return _load_class(spec)


def check_spec(spec: str) -> str:
    """The cheap check before anything starts: no torch, and no module of the user's, is imported.

    Returns what a person should know before the model is loaded, as a rule nothing. Raises ModelError where the name is
    unknown, the file is missing or of another kind, a package is missing, or no such module is found.
    """
    kind, rest = _parse(spec)
    if kind == "echo":
        _echo_seconds(rest)
    elif kind == "torch":
        from workers.models.pt2_archive import check_file

        check_file(rest)
    elif kind == "onnx":
        from workers.models import onnx_check

        onnx_check.check_package()
        onnx_check.check_file(rest)
    elif kind == "yolo":
        from workers.models import yolo_check

        yolo_check.check_package()
        yolo_check.check_file(rest)
        return yolo_check.risk(rest)
    elif kind == "class":
        module = spec.partition(":")[0]
        if not _module_exists(module):
            raise ModelError(f"model {spec!r}: no module {module!r} here or among the installed packages")
    return ""


def _parse(spec: str) -> tuple[str, str]:
    """``spec`` → kind (one of ``_BUILT_IN`` or ``_FILES``, or ``class``) and what follows its colon."""
    name, colon, rest = spec.partition(":")
    if name in ("face", "objects") and colon:
        raise ModelError(f"model {spec!r}: {name} takes nothing after a colon; write {name!r}")
    if name in _BUILT_IN:
        return name, rest
    if name in _FILES and colon:
        if not rest:
            raise ModelError(f"model '{name}:' lacks its file: write {name}:FILE, {_FILES[name]}")
        return name, rest
    if colon and rest and all(part.isidentifier() for part in [*name.split("."), *rest.split(".")]):
        return "class", rest
    if name.endswith((".pt2", ".pt", ".pth", ".onnx")):
        kind = "onnx" if name.endswith(".onnx") else "torch"
        other = f", or yolo:{spec} where it is one of ultralytics" if name.endswith(".pt") else ""
        raise ModelError(f"unknown model {spec!r}: to run a file, write {kind}:{spec}{other}")
    close = difflib.get_close_matches(name, [*_BUILT_IN, *_FILES], n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(f'{n}:FILE' if n in _FILES else n for n in close)}? " if close else ""
    known = ", ".join(entry.name for entry in NAMES)
    raise ModelError(f"unknown model {spec!r}: {hint}known are {known}")


def _echo_seconds(text: str) -> float:
    if not text:
        return 0.0
    try:
        milliseconds = float(text)
    except ValueError:
        milliseconds = -1.0
    if not 0.0 <= milliseconds <= MAX_ECHO_MS:
        raise ModelError(f"model 'echo:{text}': write echo:MS with 0 to {MAX_ECHO_MS:.0f} milliseconds")
    return milliseconds / 1000.0


def _load_class(spec: str) -> Model:
    module_name, _, class_name = spec.partition(":")
    if not _module_exists(module_name):
        raise ModelError(f"model {spec!r}: no module {module_name!r} here or among the installed packages")
    _add_here()
    try:
        found: object = importlib.import_module(module_name)
    except Exception as error:
        raise ModelError(f"model {spec!r}: importing {module_name} failed: {one_line(error)}") from error
    for part in class_name.split("."):
        if not hasattr(found, part):
            raise ModelError(f"model {spec!r}: module {module_name} has no class {class_name}{_near(part, found)}")
        found = getattr(found, part)
    if not isinstance(found, type):
        raise ModelError(f"model {spec!r}: {class_name} is a {type(found).__name__}, not a class")
    missing = [name for name in ("setup", "predict") if not callable(getattr(found, name, None))]
    if missing:
        raise ModelError(f"model {spec!r}: class {class_name} lacks {' and '.join(f'{m}()' for m in missing)}")
    try:
        model = found()
    except Exception as error:
        raise ModelError(f"model {spec!r}: {class_name}() failed: {one_line(error)}") from error
    if not isinstance(getattr(model, "input", None), InputSpec):
        raise ModelError(f"model {spec!r}: class {class_name} lacks input = InputSpec(width=…, height=…)")
    return model


def _module_exists(name: str) -> bool:
    """Whether ``name`` can be found. Unlike importlib.util.find_spec on a dotted name, this imports no parent."""
    _add_here()
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
        for i, _part in enumerate(rest):
            if spec is None or spec.submodule_search_locations is None:
                return False
            full = ".".join([top, *rest[: i + 1]])
            spec = importlib.machinery.PathFinder.find_spec(full, list(spec.submodule_search_locations))
    except (ImportError, ValueError):
        return False
    return spec is not None


def _add_here() -> None:
    """Let modules in the working directory be found, as ``python -m`` does; installed programs don't by themselves."""
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)


def _near(name: str, place: object) -> str:
    close = difflib.get_close_matches(name, [n for n in dir(place) if not n.startswith("_")], n=2, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else ""
