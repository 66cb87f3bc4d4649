"""``python -m sink -c FILE``"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
from pathlib import Path

from common import config, log
from common.lifecycle import Stopper, run_part
from common.status import Status
from sink.service import Sink

#: glibc gives every thread a heap of its own (8 for each core) and keeps what was freed in it. Streams that come and
#: go, each with its threads, would leave one after the other filled with holes: after 24 short streams 250 MB, with
#: this many heaps 150 MB (benchmarks: none got slower). mallopt(3), malloc.h: M_ARENA_MAX is -8.
ARENAS, _M_ARENA_MAX = 2, -8


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m sink", description="Put results in order, draw them, encode, write."
    )
    parser.add_argument("-c", "--config", type=Path, required=True, help="the fleet's configuration file")
    parser.add_argument("--status-fd", type=int, help="file descriptor for progress lines (JSON)")
    options = parser.parse_args()
    log.setup("sink")
    with contextlib.suppress(OSError, AttributeError):  # another C library does without
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS)

    def body(stopper: Stopper) -> int:
        return Sink(config.load(options.config), Status(options.status_fd, "sink"), stopper).run()

    run_part("sink", body)


if __name__ == "__main__":
    main()
