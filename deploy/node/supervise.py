"""``python -m deploy.node.supervise FOLDER HELD``: supervisord for the node in FOLDER, in this process.

The parts follow it into death, however it dies: they know it by its pid, which it puts into their environment first.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from deploy.node.folder import NodeFolder
from deploy.node.start import SUPERVISOR


def main() -> None:
    folder = NodeFolder(Path(sys.argv[1]))
    # Until this process ends: whoever has prepared the folder holds it already, and has handed that on to us.
    os.set_inheritable(int(sys.argv[2]), False)
    os.environ[SUPERVISOR] = str(os.getpid())
    from supervisor import supervisord

    supervisord.main(["-n", "-c", str(folder.supervisor_config)])


if __name__ == "__main__":
    main()
