"""The tree of errors.

``HeadraceError`` is what a user may see as one line; its ``exit_code`` is the process's.
``PeerError`` is *theirs*: a bad message, counted, logged and dropped. Anything else that is raised is *ours*, a bug:
it crashes the part and its supervisor starts it again.

HeadraceError
├── UsageError      2   the command line or the configuration
├── SourceError     3   the source cannot be opened, read or decoded
├── OutputError     4   an output cannot be opened or written
├── ModelError      5   the model cannot be loaded, or answers nonsense
└── LinkError       6   a peer is away, refuses us, or speaks another version
PeerError               never leaves a part
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes, a contract (DESIGN §9)."""

    OK = 0
    INCOMPLETE = 1  #: the run ended with failed or lost frames
    USAGE = 2
    SOURCE = 3
    OUTPUT = 4
    MODEL = 5
    LINK = 6
    CRASH = 70  #: a bug of ours (EX_SOFTWARE)
    HANDED_OVER = 75  #: left for a successor to go on (EX_TEMPFAIL)
    INTERRUPTED = 130


class HeadraceError(Exception):
    """One clear line that says what went wrong and what to do."""

    exit_code: Exit = Exit.USAGE


class UsageError(HeadraceError):
    exit_code = Exit.USAGE


class SourceError(HeadraceError):
    exit_code = Exit.SOURCE


class OutputError(HeadraceError):
    exit_code = Exit.OUTPUT


class ModelError(HeadraceError):
    exit_code = Exit.MODEL


class LinkError(HeadraceError):
    exit_code = Exit.LINK


class PeerError(Exception):
    """A peer sent something that cannot be accepted; ``kind`` is the name it is counted under."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail


def one_line(error: BaseException, most: int = 300) -> str:
    """What a foreign library has raised, in one line of at most so many characters."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:most]
