"""What is asked before a run begins, and what its end is called."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from common.errors import HeadraceError, LinkError, ModelError


def check_model(spec: str, folder: Path | None = None) -> None:
    """Ask the workers' own check (it imports no torch), in ``folder``. Raises ModelError."""
    done = subprocess.run(
        [sys.executable, "-m", "workers", "--check", spec],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,  # the terminal's SIGINT is for us
    )
    if done.returncode:
        raise ModelError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"unknown model {spec!r}")


def error_of(code: int, message: str) -> HeadraceError:
    """The error that has this exit code."""
    for kind in HeadraceError.__subclasses__():
        if int(kind.exit_code) == code:
            return kind(message)
    return LinkError(message)
