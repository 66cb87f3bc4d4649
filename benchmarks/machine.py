"""What a figure was measured on, and how processes are measured: whole process trees, from the outside."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of a command and all its descendants."""

    wall: float  #: seconds
    cpu: float  #: seconds, user and system, of the whole tree
    peak: int  #: bytes, the largest sum of proportional set sizes that was seen
    samples: list[int]  #: bytes, the sums themselves, a quarter second apart


def measure(command: list[str], watch_memory: bool = False) -> Measured:
    """Run ``command``; raises CalledProcessError where it fails."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    samples: list[int] = []
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, samples, done), daemon=True)
    if watch_memory:
        watcher.start()
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    done.set()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, stderr=errors)
    # wait4 counts the descendants that were waited for, which is all of them in both programs.
    cpu = usage.ru_utime + usage.ru_stime
    return Measured(time.monotonic() - started, cpu, max(samples, default=0), samples)


def _watch(pid: int, samples: list[int], done: threading.Event) -> None:
    while not done.wait(0.25):
        total = 0
        try:
            root = psutil.Process(pid)
            for one in [root, *root.children(recursive=True)]:
                try:
                    total += one.memory_full_info().pss
                except psutil.Error:
                    continue
        except psutil.Error:
            return
        samples.append(total)
