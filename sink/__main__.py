"""``python -m sink -c FILE``"""

from __future__ import annotations

import argparse
from pathlib import Path

from common import config, log
from common.lifecycle import Stopper, run_part
from common.status import open_status
from sink.service import Sink


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m sink", description="Put results in order, draw them, encode, write."
    )
    parser.add_argument("-c", "--config", type=Path, required=True, help="the fleet's configuration file")
    parser.add_argument("--status-fd", type=int, help="file descriptor for progress lines (JSON)")
    options = parser.parse_args()
    log.setup("sink")

    def body(stopper: Stopper) -> int:
        fleet = config.load(options.config)
        return Sink(fleet, open_status(options.status_fd, "sink"), stopper, options.config).run()

    run_part("sink", body)


if __name__ == "__main__":
    main()
