"""A small disk of our own (tmpfs) that can be filled and freed. Needs root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.faults.trial import Skipped


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """A mounted folder."""

    folder: Path

    @property
    def _filler(self) -> Path:
        return self.folder / "filler"

    def fill(self, left: int) -> None:
        """Leave so many bytes free."""
        free = self.free
        if free > left:
            self._filler.write_bytes(b"\0" * (free - left))

    def clear(self) -> None:
        """Free what was filled."""
        self._filler.unlink(missing_ok=True)

    @property
    def free(self) -> int:
        """Bytes."""
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[SmallDisk]:
    """Mount a tmpfs of ``size`` bytes at ``folder``, which is made. Raises Skipped where this user may not."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise Skipped(f"a small disk cannot be mounted: {error}") from None
    if done.returncode:
        raise Skipped("a small disk cannot be mounted: this needs root")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)
