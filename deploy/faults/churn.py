"""Producers that come and go by the hundred at one broker and one sink: what is left of them there afterwards.

Most are guests (deploy/faults/guest.py), in overlapping waves, each with a stream of its own; half of them die at a
random moment. A few are real processes, some of them killed. Figures are taken after a first wave, when caches and
pools are filled, and again at the end, when what is remembered of quiet streams has run out.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from common import config
from common.lifecycle import PARENT_ENV
from deploy.faults.clip import Clip, make
from deploy.faults.fleet import Fleet
from deploy.faults.guest import Guest, Stage, Visit
from deploy.faults.links import on_tcp
from deploy.spec import RunOptions

#: Frames of one guest.
FRAMES = 6
#: Share of guests that die, and the stages at which they do.
DEATHS = 0.5
DYING = (Stage.GREETING, Stage.SENDING, Stage.ENDING)
#: Real producers beside the guests; every second one is killed. As many are in the first wave, at the same time.
REAL = 4
#: What is remembered of a stream whose producer has gone runs out after so many seconds (they stay longer by default).
FORGET_S = 2.0
#: Longest time for a wave, for the parts to start, and for what is left to go, in seconds.
WAVE_S, START_S, SETTLE_S = 60.0, 60.0, 30.0
#: Nothing has changed for so long, in seconds: it is settled.
STILL_S = FORGET_S + 1.0
#: What may be more at the end than at the start: descriptors and threads of one part, and bytes of memory.
MORE_DESCRIPTORS, MORE_THREADS, MORE_BYTES = 4, 4, 16 * 2**20


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process holds."""

    descriptors: int
    threads: int
    #: Resident, in bytes.
    memory: int


@dataclass(frozen=True, slots=True)
class Churn:
    """The figures."""

    producers: int  #: guests and real ones after the first wave
    deaths: int  #: of these, gone without a word
    real: int  #: of these, processes of their own
    wrong: int  #: guests that stayed to the end and were told other counts than theirs
    failed: int  #: real ones that stayed and did not end with 0
    streams: int  #: that the broker still knows at the end
    seconds: float
    #: Part → what it held after the first wave, and at the end.
    before: dict[str, Usage]
    after: dict[str, Usage]

    def leaks(self) -> list[str]:
        """What is more at the end than at the start, beyond the allowance; empty where all is well."""
        found = [f"the broker still knows {self.streams} streams"] if self.streams else []
        for part, before in self.before.items():
            after = self.after[part]
            for what, old, new, more in (
                ("descriptors", before.descriptors, after.descriptors, MORE_DESCRIPTORS),
                ("threads", before.threads, after.threads, MORE_THREADS),
                ("bytes", before.memory, after.memory, MORE_BYTES),
            ):
                if new > old + more:
                    found.append(f"{part}: {old} → {new} {what}")
        return found


def run(waves: int, per_wave: int, folder: Path, seed: int = 0) -> Churn:
    """``waves`` waves of ``per_wave`` guests each, after a first wave that is not counted. Raises TimeoutError where
    the parts do not start, AssertionError where one of them ends."""
    clip = make(folder / "clip.mp4", Clip(frames=50))
    guests = [f"guest-{number}" for number in range((waves + 1) * per_wave)]
    real = [f"real-{number}" for number in range(2 * REAL)]
    with _fleet(folder, clip, guests + real) as fleet:
        return _Party(fleet, folder, Visit.of(clip), random.Random(seed)).run(guests, real, per_wave)


@contextmanager
def _fleet(folder: Path, clip: Path, names: list[str]) -> Iterator[Fleet]:
    """Broker, sink and a worker that have just begun, for streams of these names."""

    def tweak(whole: config.Fleet) -> config.Fleet:
        whole = on_tcp(whole)
        return msgspec.structs.replace(
            whole,
            streams=[_stream(whole.streams[0], name, folder) for name in names],
            sink=msgspec.structs.replace(whole.sink, producer_timeout=FORGET_S),
            broker=msgspec.structs.replace(whole.broker, forget_stream=FORGET_S),
        )

    options = RunOptions(source=str(clip), outputs=[str(folder / "out.jsonl")], model="echo", batch=4, mode="lossless")
    fleet = Fleet(options, folder / "parts.log", tweak)
    try:
        yield fleet
    finally:
        fleet.close()


def _stream(like: config.Stream, name: str, folder: Path) -> config.Stream:
    """Guests have lines only, real producers a video beside them."""
    kinds = ["jsonl"] if name.startswith("guest") else ["mp4", "jsonl"]
    outputs = [config.Output(path=str(folder / f"{name}.{kind}"), kind=kind) for kind in kinds]  # type: ignore[arg-type]
    return msgspec.structs.replace(like, name=name, outputs=outputs, ledger=str(folder / f"{name}.ledger.json"))


@dataclass(frozen=True, slots=True)
class _Real:
    """A producer's process. ``killed``: as soon as its ``lines`` are there."""

    process: subprocess.Popen[bytes]
    lines: Path
    killed: bool


class _Party:
    """Guests and real producers at one fleet."""

    def __init__(self, fleet: Fleet, folder: Path, visit: Visit, chance: random.Random) -> None:
        self._fleet, self._folder, self._visit, self._chance = fleet, folder, visit, chance
        self._guests: list[Guest] = []
        self._real: list[_Real] = []
        self.deaths = self.wrong = self.failed = 0

    def run(self, guests: list[str], real: list[str], per_wave: int) -> Churn:
        parts = ["broker", "sink", *self._fleet.workers]
        try:
            self._fleet.start(*parts)
            self._until(lambda: self._said("workers") == 1, START_S, "the worker's coming")
            for name in real[:REAL]:
                self._send_real(name, False)
            self._wave(guests[:per_wave])
            self._until(self._empty, WAVE_S, "the first wave's end")
            before = self._settled(parts)
            self.deaths = self.wrong = self.failed = 0
            begun = time.monotonic()
            for number, first in enumerate(range(per_wave, len(guests), per_wave)):
                for at in range(number, REAL, max(1, len(guests) // per_wave - 1)):
                    self._send_real(real[REAL + at], at % 2 == 0)
                self._wave(guests[first : first + per_wave])
            self._until(self._empty, WAVE_S, "the last wave's end")
            after = self._settled(parts)
        finally:
            for guest in self._guests:
                guest.leave()
            for one in self._real:
                one.process.kill()
                one.process.wait()
        return Churn(
            producers=len(guests) - per_wave + REAL,
            deaths=self.deaths,
            real=REAL,
            wrong=self.wrong,
            failed=self.failed,
            streams=int(self._said("streams") or 0),
            seconds=round(time.monotonic() - begun, 1),
            before=before,
            after=after,
        )

    def _wave(self, names: list[str]) -> None:
        """Let these come, and wait until half of them have gone: the next wave meets the rest."""
        config = self._fleet.config
        for name in names:
            dies = self._chance.choice(DYING) if self._chance.random() < DEATHS else None
            guest = Guest(config, name, self._visit, FRAMES, dies)
            self._guests.append(guest)
            self.deaths += dies is not None
            self._step()
        self._until(lambda: len(self._guests) <= len(names) // 2, WAVE_S, "half a wave's end")

    def _send_real(self, name: str, killed: bool) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "producer", "-c", str(self._fleet.folder / "fleet.json"), "--stream", name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {PARENT_ENV: str(os.getpid())},
        )
        self._real.append(_Real(process, self._folder / f"{name}.jsonl", killed))
        self.deaths += killed

    def _step(self) -> None:
        now = time.monotonic()
        for guest in self._guests:
            guest.step(now)
        for guest in [guest for guest in self._guests if guest.over]:
            self._guests.remove(guest)
            if guest.closed is not None:
                self.wrong += sum(guest.closed.states.values()) != FRAMES
        for one in list(self._real):
            if one.killed and one.lines.exists():
                one.process.kill()
            if (code := one.process.poll()) is not None:
                self._real.remove(one)
                self.failed += not one.killed and code != 0

    def _empty(self) -> bool:
        return not self._guests and not self._real

    def _until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            self._fleet.listen(0.01)
            self._step()
            assert not self._fleet.codes, self._fleet.fatal
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what} did not come within {seconds:g} s")

    def _said(self, field: str) -> int | None:
        """A figure of the broker's last status line."""
        for one in reversed(self._fleet.heard):
            if one.child == "broker" and one.kind == "status" and field in one.record:
                return int(one.record[field])
        return None

    def _settled(self, parts: list[str]) -> dict[str, Usage]:
        """What the parts hold once the streams are forgotten and nothing changes any more."""
        deadline = time.monotonic() + SETTLE_S
        usage, since = self._usage(parts), time.monotonic()
        while time.monotonic() < min(deadline, since + STILL_S) or (
            self._said("streams") and time.monotonic() < deadline
        ):
            self._fleet.listen(0.1)
            if _counts(now := self._usage(parts)) != _counts(usage):
                since = time.monotonic()
            usage = now
        return usage

    def _usage(self, parts: list[str]) -> dict[str, Usage]:
        return {part: _usage(self._fleet.pid(part)) for part in parts}


def _counts(usage: dict[str, Usage]) -> list[tuple[int, int]]:
    return [(one.descriptors, one.threads) for one in usage.values()]


def _usage(pid: int) -> Usage:
    """Raises OSError where the process is gone."""
    proc = Path(f"/proc/{pid}")
    pages = int((proc / "statm").read_text().split()[1])
    threads = len(os.listdir(proc / "task"))
    return Usage(len(os.listdir(proc / "fd")), threads, pages * os.sysconf("SC_PAGE_SIZE"))
