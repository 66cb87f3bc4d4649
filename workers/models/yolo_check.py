"""What can be said of a file of ultralytics' before it is opened. Neither torch nor ultralytics is imported here."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from common.errors import ModelError

#: Kinds of files that are handed to ultralytics; of others it would guess, or download something.
ENDINGS = (".pt", ".onnx", ".engine", ".torchscript")

#: How a .pt file begins: a zip archive, or a bare pickle.
_STARTS = (b"PK\x03\x04", b"\x80")


def check_package() -> None:
    """Raises ModelError where ultralytics is not installed."""
    if importlib.util.find_spec("ultralytics") is None:
        raise ModelError("models of the kind yolo:FILE need the package ultralytics: pip install 'headrace[yolo]'")


def check_file(path: str) -> None:
    """Raises ModelError where ``path`` is missing, or is no file that ultralytics opens by itself."""
    file = Path(path)
    if not file.is_file():
        reason = "is a folder" if file.is_dir() else "does not exist (nothing is downloaded here)"
        raise ModelError(f"model yolo:{path}: the file {reason}: name a file that ultralytics trained or exported")
    if not os.access(file, os.R_OK):
        raise ModelError(f"model yolo:{path}: may not be read; change its permissions")
    if file.suffix not in ENDINGS:
        raise ModelError(f"model yolo:{path}: files that end in {', '.join(ENDINGS)} are taken")
    if file.suffix == ".pt":
        with file.open("rb") as data:
            if not data.read(4).startswith(_STARTS):
                raise ModelError(f"model yolo:{path}: not saved by torch, and so not by ultralytics")


def risk(path: str) -> str:
    """What a person should know before a file of this kind is opened; nothing where it holds no code."""
    if path.endswith(".onnx"):
        return ""
    what = "is a pickle" if path.endswith(".pt") else "holds compiled code"
    but = " (newer versions of ultralytics let only their own classes through)" if path.endswith(".pt") else ""
    return f"yolo:{path} {what}, which may run anything when it is opened{but}: use files of people you trust, or ONNX"
