"""What is asked before a run begins, and what its end is called."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from common.errors import HeadraceError, LinkError, ModelError
from common.signals import name_of, not_of_the_terminal


def check_model(spec: str, folder: Path | None = None) -> None:
    """Ask the workers' own check (it imports no torch), in ``folder``. Raises ModelError."""
    with not_of_the_terminal():
        process = subprocess.Popen(
            [sys.executable, "-m", "workers", "--check", spec],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    with process:
        try:
            said = process.communicate()[1].strip()
        except BaseException:
            process.kill()
            raise
    if (code := process.returncode) < 0:
        raise ModelError(f"model {spec!r} cannot be checked: killed by {name_of(-code)}")
    if code:
        raise ModelError(said.splitlines()[-1] if said else f"model {spec!r} cannot be checked: exit code {code}")


def error_of(code: int, message: str) -> HeadraceError:
    """The error that has this exit code."""
    for kind in HeadraceError.__subclasses__():
        if int(kind.exit_code) == code:
            return kind(message)
    return LinkError(message)
