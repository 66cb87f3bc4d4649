"""What may be in a torch.export archive (.pt2) before torch opens it. No torch here: a zip file and JSON.

``torch.export.load`` is not safe by itself: it unpickles (and falls back from weights_only=True to False), loads
compiled libraries, looks operators up anywhere under ``torch`` and evaluates text as expressions. What is let through
here holds plain tensors, named operators of aten and prims, and arithmetic on sizes. That closes the ways known for
torch 2.13; it is no sandbox, so run files of people you trust.
"""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from common.errors import ModelError

#: Largest program file, bytes.
MAX_BYTES = 4 << 30
#: Largest of its JSON records, bytes (a ResNet-152's is 4 MB).
MAX_JSON = 256 << 20

#: The program itself, relative to the archive's one top folder; torch.export.save names it "model".
PROGRAM = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
#: The records that a program of plain tensors consists of.
_RECORD = re.compile(
    r"models/model\.json|data/sample_inputs/model\.pt"
    r"|data/weights/(weight_\d+|model_weights_config\.json)"
    r"|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|archive_format|archive_version|byteorder|version|\.data/(version|serialization_id)|extra/.*"
)
#: Operators: aten (but not the one that opens files) and prims, control flow over such, and arithmetic on sizes.
_TARGET = re.compile(
    r"torch\.ops\.(aten|prims)\.(?!from_file\b)\w+\.\w+"
    r"|torch\.ops\.higher_order\.(cond|while_loop|scan|map_impl|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|pos|pow|eq|ne|lt|le|gt|ge|and_|or_)"
    r"|torch\.sym_(int|float|max|min|not|ite|sum)"
    r"|math\.(ceil|floor|trunc|sqrt)"
)
#: Words in expressions on sizes; sympy evaluates these texts as Python.
_WORD = re.compile(
    r"[su]\d+|\d+|Symbol|positive|integer|nonnegative|zero|negative|commutative|True|False|Integer|Float|Rational"
    r"|Add|Mul|Pow|Mod|Max|Min|FloorDiv|ModularIndexing|CleanDiv|CeilDiv|PythonMod|IntTrueDiv|FloatTrueDiv"
    r"|ToFloat|TruncToInt|FloorToInt|CeilToInt|Eq|Ne|Lt|Le|Gt|Ge|Equality|Unequality"
    r"|StrictLessThan|LessThan|StrictGreaterThan|GreaterThan|And|Or|Not|Where|evaluate|oo|int_oo"
)
_EXPRESSION = re.compile(r"[\w\s()+\-*/%,=<>&|~']*|-?\d+\.\d+")

#: What a damaged archive, or JSON of another shape than expected, raises.
_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError),
    *(KeyError, TypeError, AttributeError, ValueError, RecursionError),
)
#: What to do instead, for every refusal.
_HOW = "save it with torch.export.save(torch.export.export(model, (example,)), FILE)"


def read_file(path: str) -> bytes:
    """The bytes of the program at ``path``, after all checks; open *these*, since a file may change meanwhile.

    Raises ModelError.
    """
    data = _existing(path).read_bytes()
    _check(path, io.BytesIO(data))
    return data


def check_file(path: str) -> None:
    """Raises ModelError where ``path`` is missing, is no exported program, or holds what could run code."""
    with _existing(path).open("rb") as file:
        _check(path, file)


def _existing(path: str) -> Path:
    file = Path(path)
    if not file.is_file():
        reason = "is a folder" if file.is_dir() else "does not exist"
        raise ModelError(f"model torch:{path}: the file {reason}; {_HOW}")
    if not os.access(file, os.R_OK):
        raise ModelError(f"model torch:{path}: may not be read; change its permissions")
    if file.stat().st_size > MAX_BYTES:
        raise ModelError(f"model torch:{path}: {file.stat().st_size} bytes, at most {MAX_BYTES} are read")
    return file


def _check(path: str, file: BinaryIO) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            _check_archive(path, archive)
    except _BROKEN as error:
        file.seek(0)
        _check_first_bytes(path, file.read(16))
        raise ModelError(f"model torch:{path}: not an exported program ({error}); {_HOW}") from None


def _check_first_bytes(path: str, start: bytes) -> None:
    """Say more of files that are no zip archive."""
    if start.startswith(b"\x80"):
        raise ModelError(f"model torch:{path}: a pickle, which could run any code and is not opened; {_HOW}") from None
    if b"{" in start[8:10]:
        raise ModelError(f"model torch:{path}: safetensors, weights without a program; {_HOW}") from None
    if start[4:8] == b"TFL3" or start.startswith(b"\x08"):
        raise ModelError(f"model torch:{path}: another library's model (ONNX or TFLite?); {_HOW}") from None


def _check_archive(path: str, archive: zipfile.ZipFile) -> None:
    names = archive.namelist()
    tops = {name.partition("/")[0] for name in names}
    inner = [name.partition("/")[2] for name in names]
    if "serialized_exported_program.json" in names:
        raise ModelError(f"model torch:{path}: saved by torch 2.7 or older; save it again with a newer torch")
    if PROGRAM not in inner:
        if "constants.pkl" in inner:
            raise ModelError(f"model torch:{path}: a TorchScript archive, not an exported program; {_HOW}")
        if "data.pkl" in inner:
            raise ModelError(f"model torch:{path}: pickled by torch.save, which could run any code; {_HOW}")
        raise ModelError(f"model torch:{path}: a zip archive without {PROGRAM}, not an exported program; {_HOW}")
    if len(tops) != 1 or len(set(names)) != len(names):
        raise ModelError(f"model torch:{path}: the archive's records are ambiguous; {_HOW}")
    for name in inner:
        if not _RECORD.fullmatch(name):
            _refuse(path, f"the record {name!r}")
    top = tops.pop()
    for config in (WEIGHTS, CONSTANTS):
        for key, entry in _json(archive, f"{top}/{config}")["config"].items():
            if entry.get("use_pickle") or not re.fullmatch(r"(weight|tensor)_\d+", entry["path_name"]):
                _refuse(path, f"{key!r}, which is not a plain tensor")
    _check_program(path, _json(archive, f"{top}/{PROGRAM}"))


def _check_program(path: str, program: Any) -> None:
    for key, value in _strings(program):
        if key == "target" and not _TARGET.fullmatch(value):
            _refuse(path, f"the operator {value!r}")
        if key == "expr_str" and not _harmless(value):
            _refuse(path, f"the expression {value[:60]!r}")
        if key in ("in_spec", "out_spec") and ("enum" in value.lower() or "namedtuple" in value):
            _refuse(path, "inputs or outputs of a class of its own")


def _harmless(expression: str) -> bool:
    """Whether ``expression`` is arithmetic on sizes alone: no attribute, no text but a symbol's, no other word."""
    if not _EXPRESSION.fullmatch(expression):
        return False
    symbols_gone = re.sub(r"Symbol\('[su]\d+'", "Symbol(s0", expression)
    return "'" not in symbols_gone and all(_WORD.fullmatch(w) for w in re.findall(r"\w+", symbols_gone) if w)


def _strings(value: Any) -> Iterator[tuple[str, str]]:
    """Every ``(key, text)`` in a JSON document."""
    stack = [value]
    while stack:
        one = stack.pop()
        if isinstance(one, dict):
            stack.extend(v for v in one.values() if not isinstance(v, str))
            yield from ((k, v) for k, v in one.items() if isinstance(v, str))
        elif isinstance(one, list):
            stack.extend(one)


def _json(archive: zipfile.ZipFile, name: str) -> Any:
    if archive.getinfo(name).file_size > MAX_JSON:
        raise ValueError(f"{name} is larger than {MAX_JSON} bytes")
    return json.loads(archive.read(name))


def _refuse(path: str, what: str) -> NoReturn:
    raise ModelError(f"model torch:{path}: holds {what}; only programs of plain tensors and aten operators are run")
