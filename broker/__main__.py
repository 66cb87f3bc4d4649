"""``python -m broker -c FILE``"""

from __future__ import annotations

import argparse
from pathlib import Path

from broker.service import Broker
from common import config, log
from common.lifecycle import Stopper, run_part
from common.status import open_status


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m broker", description="Hand frames to whichever worker is free.")
    parser.add_argument("-c", "--config", type=Path, required=True, help="the fleet's configuration file")
    parser.add_argument("--status-fd", type=int, help="file descriptor for progress lines (JSON)")
    options = parser.parse_args()
    log.setup("broker")

    def body(stopper: Stopper) -> int:
        return Broker(config.load(options.config), open_status(options.status_fd, "broker"), stopper).run()

    run_part("broker", body)


if __name__ == "__main__":
    main()
