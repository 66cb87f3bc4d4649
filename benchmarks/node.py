"""``python -m benchmarks.node``: what it costs a lossless stream that its fleet is changed under way.

Workers 2 → 6 → 2 and a rolling restart of every part, while a clip goes through: how long each step takes, how long the
output stands still, and that no frame is lost. A node's own interface for tests does the asking (tests/node.py).
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.faults.report import machine
from deploy.node.ready import look
from tests.integration.test_node_hosts import cut_off, three_hosts
from tests.integration.test_node_scaling import until_ended
from tests.node import TestNode, a_node
from tests.support import ledger, lines, numbered_clip, part_files

RATE = 25
FILE = """
[workers]
model = "{model}"
count = 2
batch = 8

[[streams]]
name = "clip"
source = "clip.mp4"
outputs = ["out.mp4", "out.jsonl"]
realtime = true
encoding = {{preset = "ultrafast"}}
"""


@dataclass(slots=True)
class Watch:
    """Looks at the node all the time. ``seen``: (time, frames of the stream, {worker: frames done}, ready parts)."""

    node: TestNode
    seen: list[tuple[float, int, dict[str, int], set[str]]] = field(default_factory=list)
    over: bool = False

    def __call__(self) -> None:
        while not self.over:
            found = look(self.node.folder)
            if found:
                frames = found["streams"][0]["frames"] if found["streams"] else 0
                done = {one["name"]: one["done"] for one in found["workers"]}
                ready = {one["name"] for one in found["parts"] if one["ready"]}
                self.seen.append((time.monotonic(), frames, done, ready))
            time.sleep(0.05)

    def stall(self, since: float, until: float) -> float:
        """The longest time, in seconds, within which the stream came no further."""
        marks = [(at, frames) for at, frames, _, _ in self.seen if since <= at <= until]
        longest, last = 0.0, since
        for (_, before), (at, frames) in itertools.pairwise(marks):
            if frames != before:
                longest, last = max(longest, at - last), at
        return max(longest, until - last)

    def effective(self, worker: str) -> float | None:
        """From the moment at which a new worker has its model to its first frame, in seconds."""
        ready = next((at for at, _, _, names in self.seen if worker in names), None)
        first = next((at for at, _, done, _ in self.seen if done.get(worker)), None)
        return None if ready is None or first is None else max(0.0, first - ready)


def measure(model: str, seconds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as home, a_node(Path(home)) as node:
        numbered_clip(node.home / "clip.mp4", seconds * RATE)
        node.write(FILE.format(model=model))
        node.do("up")
        watch = Watch(node)
        thread = threading.Thread(target=watch)
        thread.start()
        try:
            steps = [_step(node, watch, *words) for words in (["scale", "workers=6"], ["scale", "workers=2"])]
            steps += [_step(node, watch, "restart", name) for name in node.pids()]
            node.until(lambda now: now["streams"][0]["state"] == "ended", "the stream's end", 10 * seconds)
        finally:
            watch.over = True
            thread.join()
        found = ledger(node.home / "out.mp4")
        told = [line["index"] for path in part_files(found, node.home, "out.jsonl") for line in lines(path)]
        effective = {name: watch.effective(name) for name in (f"worker-{number}" for number in range(3, 7))}
        node.do("down")
    return {
        "model": model,
        "frames": found["frames"],
        "states": found["states"],
        "in_order": told == list(range(found["frames"])),
        "steps": steps,
        "first_frame_after_model_s": {name: round(at, 2) for name, at in effective.items() if at is not None},
    }


def measure_hosts(seconds: float) -> dict[str, Any]:
    """A host of two with workers is cut off for so long."""
    with tempfile.TemporaryDirectory() as home, three_hosts(Path(home)) as fleet:
        fleet.up()
        stall, back = cut_off(fleet, seconds)
        until_ended(fleet.head)
        found = ledger(fleet.head.home / "out.mp4")
    return {
        "cut_off_s": seconds,
        "longest_stall_s": round(stall, 2),
        "back_after_s": round(back, 2),
        "states": found["states"],
    }


def _step(node: TestNode, watch: Watch, *words: str) -> dict[str, Any]:
    before, began = node.pids(), time.monotonic()
    node.do(*words)
    ended, after = time.monotonic(), node.pids()
    kept = all(after[name] == pid for name, pid in before.items() if name in after)
    return {
        "command": " ".join(words),
        "seconds": round(ended - began, 2),
        "longest_stall_s": round(watch.stall(began, ended), 2),
        "other_pids_kept": kept if words[0] == "scale" else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.node", description=__doc__)
    parser.add_argument("--model", default="echo:20")
    parser.add_argument("--seconds", type=int, default=40, help="length of the clip, at most 40")
    parser.add_argument(
        "--hosts", action="store_true", help="instead: a host of workers is cut off for 10 s (needs root)"
    )
    options = parser.parse_args()
    found = measure_hosts(10.0) if options.hosts else measure(options.model, options.seconds)
    print(json.dumps({"machine": machine(), **found}, indent=2))


if __name__ == "__main__":
    main()
