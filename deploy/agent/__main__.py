"""``python -m deploy.agent FOLDER``"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path

from common import log
from common.errors import Exit, HeadraceError
from deploy.agent.service import Agent
from deploy.node.folder import NodeFolder


def main() -> None:
    log.setup("agent")

    async def body() -> None:
        code = await Agent(NodeFolder(Path(sys.argv[1]))).run()
        logging.shutdown()
        os._exit(code)  # a thread may wait for somebody who waits for our end

    try:
        asyncio.run(body())
        return
    except HeadraceError as error:
        logging.getLogger(__name__).error("%s", error, extra={"fatal": True, "exit": int(error.exit_code)})
        code = int(error.exit_code)
    except KeyboardInterrupt:
        code = int(Exit.INTERRUPTED)
    sys.exit(code)


if __name__ == "__main__":
    main()
