"""Names of a network's classes, from a text file beside it or from what the file says of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from common.errors import ModelError
from common.messages import MAX_NAME

#: Largest labels file, bytes.
MAX_BYTES = 1 << 20


class Labels:
    """``labels[number]`` is a name for any number: ``class N`` where there is none."""

    def __init__(self, names: Sequence[str] | Mapping[int, str] = ()) -> None:
        pairs = names.items() if isinstance(names, Mapping) else enumerate(names)
        self._names = {number: text for number, name in pairs if (text := _clean(name))}

    def __getitem__(self, number: int) -> str:
        return self._names.get(number) or f"class {number}"

    def __len__(self) -> int:
        """How many classes are known."""
        return max(self._names, default=-1) + 1


def read_labels(model: str, path: Path) -> Labels | None:
    """The lines of ``path``, or ``None`` where there is no such file. Raises ModelError, which names ``model``."""
    if not path.is_file():
        return None
    if path.stat().st_size > MAX_BYTES:
        raise ModelError(f"model {model}: has labels in {path} of more than {MAX_BYTES} bytes")
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"model {model}: has labels in {path} that cannot be read: {error}") from None
    return Labels(lines)


def _clean(name: object) -> str:
    """One line of printable characters that a message takes."""
    return "".join(char if char.isprintable() else " " for char in str(name)).strip()[:MAX_NAME]
