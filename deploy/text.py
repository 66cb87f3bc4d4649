"""What is typed must be text: the parts tell each other paths and names as UTF-8."""

from __future__ import annotations

from common.errors import UsageError


def is_text(text: str) -> bool:
    """Whether ``text`` can be told as UTF-8. Of the names of files, Linux lets in all bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_text(text: str) -> str:
    """``text`` itself. Raises UsageError where it is none."""
    if not is_text(text):
        shown = text.encode(errors="backslashreplace").decode()
        raise UsageError(f"{shown} is not UTF-8, which names must be here: rename it")
    return text
