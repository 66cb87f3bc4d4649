"""Model names and how they become models. Importing this module, and ``check_spec``, never imports torch.

A spec is a name from ``NAMES`` or an explicit ``torch:FILE`` or ``package.module:Class``; nothing is searched for.
Whatever is wrong with it ends as one ModelError line that says what and what to do.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.machinery
import importlib.util
import os
import sys
from dataclasses import dataclass

from common.errors import ModelError
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
    Entry("package.module:Class", "your class with input, setup() and predict()", "the class's", "yours"),
)

_BUILT_IN = ("echo", "face", "objects")


def load(spec: str, threshold: float | None = None) -> Model:
    """Construct the model that ``spec`` names; its ``setup(device)`` is still to be called.

    ``threshold``: least score of a finding, 0…1, for ``face`` and ``objects``; ``None`` is the model's own.
    Raises ModelError.
    """
    kind, rest = _parse(spec)
    if threshold is not None and kind not in ("face", "objects"):
        raise ModelError(f"model {spec!r} takes no threshold: only face and objects do")
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
    return _load_class(spec)


def check_spec(spec: str) -> None:
    """The cheap check before anything starts: no torch, and no module of the user's, is imported.

    Raises ModelError where the name is unknown, the file is missing or no exported program, or no such module is found.
    """
    kind, rest = _parse(spec)
    if kind == "echo":
        _echo_seconds(rest)
    elif kind == "torch":
        from workers.models.pt2_archive import check_file

        check_file(rest)
    elif kind == "class":
        module = spec.partition(":")[0]
        if not _module_exists(module):
            raise ModelError(f"model {spec!r}: no module {module!r} here or among the installed packages")


def _parse(spec: str) -> tuple[str, str]:
    """``spec`` → kind (``echo``, ``face``, ``objects``, ``torch``, ``class``) and what follows its colon."""
    name, colon, rest = spec.partition(":")
    if name in ("face", "objects") and colon:
        raise ModelError(f"model {spec!r}: {name} takes nothing after a colon; write {name!r}")
    if name in _BUILT_IN:
        return name, rest
    if name == "torch" and colon:
        if not rest:
            raise ModelError("model 'torch:' lacks its file: write torch:FILE, a program saved with torch.export.save")
        return "torch", rest
    if colon and rest and all(part.isidentifier() for part in [*name.split("."), *rest.split(".")]):
        return "class", rest
    if name.endswith((".pt2", ".pt", ".pth")):
        raise ModelError(f"unknown model {spec!r}: to run a file, write torch:{spec}")
    close = difflib.get_close_matches(name, [*_BUILT_IN, "torch"], n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join('torch:FILE' if n == 'torch' else n for n in close)}? " if close else ""
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
        raise ModelError(f"model {spec!r}: importing {module_name} failed: {_one_line(error)}") from error
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
        raise ModelError(f"model {spec!r}: {class_name}() failed: {_one_line(error)}") from error
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


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
