"""``python -m deploy.node.supervise FOLDER``: supervisord for the node in FOLDER, in this process.

The parts follow it into death, however it dies: they know it by its pid, which it puts into their environment first.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from common.errors import HeadraceError
from deploy.node.folder import NodeFolder
from deploy.node.start import SUPERVISOR


def main() -> None:
    folder = NodeFolder(Path(sys.argv[1]))
    try:
        folder.hold()  # until this process ends: supervisord gives none of its descriptors to its children
    except HeadraceError as error:
        print(error, file=sys.stderr)
        sys.exit(int(error.exit_code))
    os.environ[SUPERVISOR] = str(os.getpid())
    from supervisor import supervisord

    supervisord.main(["-n", "-c", str(folder.supervisor_config)])


if __name__ == "__main__":
    main()
