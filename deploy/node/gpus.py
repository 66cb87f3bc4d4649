"""Which GPUs workers of this node may have, without loading torch for the question."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping

#: The driver's program answers within so many seconds, or is broken.
ANSWER_S = 20.0
QUERY = ("--query-gpu=index,uuid", "--format=csv,noheader")


def visible_gpus(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Names for CUDA_VISIBLE_DEVICES, one a GPU; empty where there is none, or no driver."""
    program = shutil.which("nvidia-smi", path=environment.get("PATH"))
    if program is None:
        return []
    try:
        done = subprocess.run([program, *QUERY], capture_output=True, text=True, timeout=ANSWER_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return choose(done.stdout, environment.get("CUDA_VISIBLE_DEVICES"))


def choose(listed: str, allowed: str | None) -> list[str]:
    """``listed``: lines of index and UUID. ``allowed``: as CUDA_VISIBLE_DEVICES reads it, where the first name that is
    not known hides all that follow (CUDA C++ Programming Guide, "Environment Variables")."""
    there = [tuple(part.strip() for part in line.split(",")) for line in listed.splitlines() if "," in line]
    if allowed is None:
        return [uuid for _, uuid in there]
    chosen: list[str] = []
    for name in (one.strip() for one in allowed.split(",")):
        found = [uuid for index, uuid in there if name == index or (name and uuid.startswith(name))]
        if not found and name.startswith("MIG-"):
            found = [name]  # a slice of a GPU has a name of its own, which the list does not tell
        if not found:
            break
        chosen.append(found[0])
    return list(dict.fromkeys(chosen))
