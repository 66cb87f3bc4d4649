"""``python -m deploy.node.start FOLDER PROGRAM``: become that part. Supervisor starts all of them so.

What a part is called and given stands in ``parts.json``, since not every name can stand in supervisor's files.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

#: Names as in common/lifecycle.py and common/status.py, which take longer to load than this whole program.
PARENT, LEAVE = "HEADRACE_PARENT", "HEADRACE_LEAVE"
NODE, NAME = "HEADRACE_NODE", "HEADRACE_PART"
#: The node's supervisord, as it says itself: who finds another parent has lost it already.
SUPERVISOR = "HEADRACE_SUPERVISOR"


def main() -> None:
    folder, program = Path(sys.argv[1]), sys.argv[2]
    parent = os.environ.get(SUPERVISOR) or str(os.getppid())
    if str(os.getppid()) != parent:
        sys.exit("the node's supervisord is gone")
    parts = json.loads((folder / "parts.json").read_bytes())
    part = next((one for one in parts if one["program"] == program), None)
    if part is None:
        sys.exit(f"{program} is no part of the node in {folder}")
    about = {
        PARENT: parent,
        LEAVE: part.get("stop_signal", "TERM"),
        NODE: str(folder / "node.sock"),
        NAME: part["name"],
        "PYTHONUNBUFFERED": "1",
    }
    where = [str(folder)] if part["module"] == "deploy.agent" else ["-c", str(folder / "fleet.json")]
    command = [sys.executable, "-m", part["module"], *where, *part["arguments"]]
    os.execve(sys.executable, command, {**os.environ, **about, **part.get("environment", {})})


if __name__ == "__main__":
    main()
