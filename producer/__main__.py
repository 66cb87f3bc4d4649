"""``python -m producer -c FILE --stream NAME``"""

from __future__ import annotations

import argparse
from pathlib import Path

from common import config, log
from common.lifecycle import Stopper, run_part
from common.status import open_status
from producer.service import Producer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m producer", description="Decode one stream and feed the fleet.")
    parser.add_argument("-c", "--config", type=Path, required=True, help="the fleet's configuration file")
    parser.add_argument("--stream", required=True, help="name of the stream in the file")
    parser.add_argument("--status-fd", type=int, help="file descriptor for progress lines (JSON)")
    parser.add_argument("--again", action="store_true", help="it has died: wait for its source, which was there before")
    options = parser.parse_args()
    log.setup("producer")
    log.always(stream=options.stream)

    def body(stopper: Stopper) -> int:
        fleet = config.load(options.config)
        status = open_status(options.status_fd, "producer")
        return Producer(fleet, fleet.stream(options.stream), status, stopper, options.again).run()

    run_part("producer", body)


if __name__ == "__main__":
    main()
