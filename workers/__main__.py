"""``python -m workers -c FILE`` runs one worker; ``--models`` and ``--check SPEC`` answer questions about models."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from common import config, log
from common.errors import ModelError, one_line
from common.lifecycle import Stopper, run_part
from common.status import open_status
from workers.model import Model
from workers.models import NAMES, check_spec, load

#: glibc gives large blocks back to the kernel at once and asks for them again for the next batch, which halves the
#: speed of batched inference; these settings keep them. They are read when a process starts.
MALLOC = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(8 * 2**30),
    "MALLOC_TOP_PAD_": str(64 * 2**20),
}

#: OpenMP's threads wait asleep. By default they spin between the many small layers of a network, and take the cores
#: from the decoder and the encoder beside them: with two threads on two busy cores that costs twice the CPU.
THREADS = {"OMP_WAIT_POLICY": "PASSIVE"}
#: Cores that are left to the producer and the sink.
RESERVED = 2


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m workers", description="Infer frames for a broker.")
    parser.add_argument("-c", "--config", type=Path, help="the fleet's configuration file")
    parser.add_argument("--name", help="the worker's name in logs and status; default: host and pid")
    parser.add_argument("--status-fd", type=int, help="file descriptor for progress lines (JSON)")
    parser.add_argument("--models", action="store_true", help="print the known models as JSON and leave")
    parser.add_argument("--check", metavar="SPEC", help="say whether a model can be named so, and leave")
    options = parser.parse_args()
    if options.models:
        print(json.dumps([{field: getattr(entry, field) for field in entry.__slots__} for entry in NAMES]))
        return
    if options.check is not None:
        _check(options.check)
        return
    if options.config is None:
        parser.error("-c FILE is needed")
    log.setup("worker")

    def body(stopper: Stopper) -> int:
        fleet = config.load(options.config)
        _restart_with_settings(fleet.workers)
        from workers.service import Worker

        try:
            with stopper.at_once():
                model = load(fleet.workers.model, fleet.workers.threshold)
                device = _resolve(fleet.workers.device, model)
                model.setup(device)
        except ModelError:
            raise
        except (Exception, SystemExit) as error:
            raise ModelError(f"model {fleet.workers.model!r} cannot be set up: {one_line(error, 500)}") from error
        return Worker(fleet, model, device, options.name, open_status(options.status_fd, "worker"), stopper).run()

    run_part("worker", body)


def _resolve(device: str, model: Model) -> str:
    """``auto`` is what the model says itself, or the first GPU that its own torch can use, else the CPU."""
    if device != "auto":
        return device
    if callable(best := getattr(model, "best_device", None)):
        return str(best())
    torch = sys.modules.get("torch")  # not imported here: a model without torch shall not wait for it
    return "cuda:0" if torch is not None and torch.cuda.is_available() else "cpu"


def _check(spec: str) -> None:
    try:
        if note := check_spec(spec):
            print(f"note: {note}")
    except ModelError as error:
        print(error, file=sys.stderr)
        sys.exit(int(error.exit_code))


def _restart_with_settings(settings: config.Workers) -> None:
    """Start this process anew with the settings that are only read at its start, unless they are there."""
    threads = settings.threads or max(1, ((os.cpu_count() or 1) - RESERVED) // max(1, settings.count))
    wanted = MALLOC | THREADS | {"OMP_NUM_THREADS": str(threads)}
    missing = {name: value for name, value in wanted.items() if name not in os.environ}
    if missing:
        os.execve(sys.executable, [sys.executable, "-m", "workers", *sys.argv[1:]], os.environ | missing)


if __name__ == "__main__":
    main()
