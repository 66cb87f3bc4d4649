"""Is that file an ONNX model? A look at the outermost layer of its protobuf; no onnxruntime here, no weights read.

An ONNX file is data: a graph of named operators and tensors. Opening it runs no code of its own, unlike a pickle.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import BinaryIO

from common.errors import ModelError

#: What to do where the package is missing.
INSTALL = "pip install 'headrace[onnx]', or onnxruntime-gpu for NVIDIA GPUs"
#: What to do instead, for every file that is refused.
_HOW = "export the network with torch.onnx.export, or a converter of its library"

#: Numbers of ModelProto's fields (onnx.proto) that matter here, and the wire types that protobuf gives lengths by.
_IR_VERSION, _GRAPH = 1, 7
_VARINT, _EIGHT, _LENGTH, _FOUR = 0, 1, 2, 5
#: Most fields of the outermost layer: metadata and functions are one each.
_MAX_FIELDS = 100_000

_STARTS = {
    b"\x80": "a pickle, which could run any code and is not opened",
    b"PK\x03\x04": "a zip archive (of torch.save or torch.export?)",
    b"\x89HDF": "an HDF5 file (of Keras?)",
    b"ORTM": "a bare ORT file",
    b"version https://git-lfs": "a pointer of git-lfs; fetch the file itself with git lfs pull",
}


def check_package() -> None:
    """Raises ModelError where onnxruntime is not installed."""
    if importlib.util.find_spec("onnxruntime") is None:
        raise ModelError(f"models of the kind onnx:FILE need the package onnxruntime: {INSTALL}")


def check_file(path: str) -> None:
    """Raises ModelError where ``path`` is missing, or is no whole ONNX model."""
    file = Path(path)
    if not file.is_file():
        reason = "is a folder" if file.is_dir() else "does not exist"
        raise ModelError(f"model onnx:{path}: the file {reason}; {_HOW}")
    if not os.access(file, os.R_OK):
        raise ModelError(f"model onnx:{path}: may not be read; change its permissions")
    with file.open("rb") as data:
        problem = _problem(data, file.stat().st_size)
    if problem:
        raise ModelError(f"model onnx:{path}: {problem}; {_HOW}")


def _problem(data: BinaryIO, size: int) -> str:
    """What is wrong, or nothing."""
    start = data.read(32)
    for magic, what in _STARTS.items():
        if start.startswith(magic):
            return f"not an ONNX file but {what}"
    if start[4:8] == b"TFL3":
        return "not an ONNX file but one of TFLite"
    if b"{" in start[8:10]:
        return "not an ONNX file but safetensors, weights without a network"
    data.seek(0)
    try:
        found = _fields(data, size)
    except ValueError as error:
        return f"not an ONNX file ({error})"
    if not found:
        return "not an ONNX file (it is empty)"
    return "" if {_IR_VERSION, _GRAPH} <= found else "not an ONNX file (it holds no graph)"


def _fields(data: BinaryIO, size: int) -> set[int]:
    """The numbers of the outermost fields. Raises ValueError where they do not fill the file."""
    found: set[int] = set()
    for _ in range(_MAX_FIELDS):
        if data.tell() == size:
            return found
        number, kind = divmod(_varint(data), 8)
        if kind == _VARINT:
            _varint(data)
        elif kind in (_EIGHT, _FOUR):
            data.seek(8 if kind == _EIGHT else 4, os.SEEK_CUR)
        elif kind == _LENGTH:
            data.seek(min(_varint(data), size + 1), os.SEEK_CUR)
        else:
            raise ValueError("its bytes are no protobuf")
        if data.tell() > size:
            raise ValueError("it ends too early: was it copied in full?" if _IR_VERSION in found else "no protobuf")
        found.add(number)
    raise ValueError("too many fields")


def _varint(data: BinaryIO) -> int:
    value = 0
    for shift in range(0, 64, 7):
        byte = data.read(1)
        if not byte:
            raise ValueError("it ends too early: was it copied in full?")
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return value
    raise ValueError("its bytes are no protobuf")
