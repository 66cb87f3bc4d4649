"""How much memory this process has, once everything that can be given back is given back."""

from __future__ import annotations

import gc

import psutil

from sink.memory import give_back


def settled() -> int:
    """Resident bytes after collecting garbage and returning free heap to the system (glibc)."""
    gc.collect()
    give_back()
    return int(psutil.Process().memory_info().rss)
