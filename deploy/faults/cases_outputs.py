"""Faults behind the sink: a full disk, a slow reader, an encoder and a media link that are too slow."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from common import config
from deploy.faults import judge
from deploy.faults.bench import Bench, Case
from deploy.faults.clip import Clip
from deploy.faults.pipe import PipeReader
from deploy.faults.proxy import Proxy
from deploy.faults.require import NAMED_S, require_accounted_live, require_annotated, require_goes_on
from deploy.faults.small_disk import small_disk
from deploy.faults.trial import Plan, Row, Trial

#: Noise makes pictures of some 20 kB, so that disks and pipes fill.
NOISE = 96
#: Size of the small disk, and what is left of it, in bytes.
DISK, LEFT = 64 * 2**20, 2**20
#: How long the disk is full, and the reader pauses, in seconds.
FULL_S, PAUSE_S = 5.0, 3.0


def disk_full(bench: Bench) -> Row:
    """Lossless: the video lies on a disk that is full for some seconds."""
    clip = Clip(frames=int(bench.pick(500, 300)), rate=50, noise=NOISE)
    with (
        small_disk(bench.folder / "disk", DISK) as disk,
        bench.trial(clip, outputs=("out.jsonl", "disk/out.mp4"), model="echo:20", mode="lossless") as trial,
    ):
        disk.fill(LEFT)
        trial.begin(lines=1)
        trial.until(lambda: disk.free < 65536 or full_is_said(trial), 60, "the full disk")
        since = time.monotonic()
        trial.wait(bench.pick(FULL_S, PAUSE_S))
        at = trial.fleet.named(trial.started, "no space")
        named = None if at is None else max(0.0, at - (since - trial.started))
        trial.require(judge.at_most("the log names it after", named, NAMED_S, "s"))
        trial.require(judge.Check("the run waits", not trial.over))
        before = len(list((bench.folder / "disk").iterdir()))
        trial.require(judge.at_most("files on the full disk", before, 6, ""))
        disk.clear()
        require_goes_on(trial, time.monotonic(), 15)
        trial.finish()
        trial.require_whole()
        row = trial.row(bench.case)
    return row


def full_is_said(trial: Trial) -> bool:
    """Whether any part has named the full disk."""
    return trial.fleet.named(trial.started, "no space") is not None


def disk_full_live(bench: Bench) -> Row:
    """Live: that output fails and is named; the others go on at full rate."""
    clip = Clip(frames=int(bench.pick(20, 8) * 25), noise=NOISE)
    outputs = ("out.mp4", "out.jsonl", "disk/full.mp4")
    with small_disk(bench.folder / "disk", DISK) as disk, bench.trial(
        clip, outputs=outputs, model="echo:10", mode="live"
    ) as trial:  # fmt: skip
        disk.fill(LEFT)
        trial.begin(lines=1)
        trial.until(lambda: disk.free < 65536 or full_is_said(trial), 60, "the full disk")
        since = time.monotonic()
        trial.finish()
        at = trial.fleet.named(trial.started, "no space", "full.mp4")
        named = None if at is None else max(0.0, at - (since - trial.started))
        trial.require(judge.at_most("the log names it after", named, NAMED_S, "s"))
        require_accounted_live(trial)
        trial.require(judge.at_least("pictures", len(trial.shown), 0.99 * clip.frames, ""))
        trial.require_exit("sink")
    return trial.row(bench.case)


def slow_reader(bench: Bench) -> Row:
    """Lossless: the output is a pipe whose reader pauses."""
    clip = Clip(frames=500, rate=50, noise=NOISE)
    with piped(bench, clip, "lossless") as trial:
        reader = PipeReader(bench.folder / "out.ts", bench.folder / "copy.ts")
        try:
            trial.begin(lines=100)
            since = time.monotonic()
            reader.pause()
            trial.wait(bench.pick(10, PAUSE_S))
            require_named_output(trial, since)
            reader.resume()
            require_goes_on(trial, time.monotonic(), 2)
            trial.until(lambda: trial.over, 60, "the end of the run", alive=False)
            trial.fleet.finish()
        finally:
            reader.close()
        trial.end()
        trial.require_whole()
    return trial.row(bench.case)


def slow_reader_live(bench: Bench) -> Row:
    """Live: the source goes on, what cannot be written is lost and counted, memory stays bounded."""
    clip = Clip(frames=int(bench.pick(30, 12) * 25), noise=NOISE)
    with piped(bench, clip, "live") as trial:
        reader = PipeReader(bench.folder / "out.ts", bench.folder / "copy.ts")
        try:
            trial.begin()
            trial.wait(2)
            since = time.monotonic()
            reader.pause()
            trial.wait(bench.pick(10, PAUSE_S))
            require_named_output(trial, since)
            back = time.monotonic()
            reader.resume()
            trial.until(lambda: trial.over, clip.seconds + 30, "the end of the run", alive=False)
            trial.fleet.finish()
        finally:
            reader.close()
        trial.end()
        require_accounted_live(trial)
        require_not_held_up(trial)
        require_annotated(trial, back + 2, 1, "the pause")
    return trial.row(bench.case)


def slow_encoder(bench: Bench) -> Row:
    """Live: the preset is far too slow for this machine."""
    clip = Clip(frames=int(bench.pick(20, 10) * 30), rate=30, size=(1280, 720), noise=NOISE)
    with bench.trial(clip, model="echo", mode="live", preset="slower", latency=1.0) as trial:
        trial.begin()
        trial.finish(clip.seconds + 60)
        require_accounted_live(trial)
        require_not_held_up(trial)
        require_lost(trial, "sink_overload")
        trial.require(judge.at_least("pictures", len(trial.shown), 5, ""))
        trial.require(judge.flat(trial.watch.sizes(trial.lines[0].at, trial.lines[-1].at), 0.10))
    return trial.row(bench.case)


def slow_media_link(bench: Bench) -> Row:
    """Live: the link from producer to sink carries a third of what the stream has."""
    clip = Clip(frames=int(bench.pick(30, 12) * 25), noise=NOISE)
    source = bench.source(clip)
    rate = source.stat().st_size / clip.seconds / 3
    with bench.trial(clip, source, model="echo:10", mode="live") as trial:
        proxy = Proxy(trial.fleet.config.sink.media, bench.seed)
        try:
            trial.fleet.rewire("producer", media_through(proxy.address))
            trial.begin(lines=10)
            since = time.monotonic()
            proxy.set(rate=rate)
            trial.until(lambda: trial.over, clip.seconds + 90, "the end of the run", alive=False)
            trial.figures["seconds after the source's end"] = round(time.monotonic() - since - clip.seconds, 1)
            trial.fleet.finish()
        finally:
            proxy.close()
        trial.end()
        require_accounted_live(trial)
        require_lost(trial, "gap")
        trial.require(judge.at_least("pictures", len(trial.shown), 25, ""))
        trial.require(judge.at_most("memory", trial.watch.peak / 1e6, 600, "MB"))
    return trial.row(bench.case)


def piped(bench: Bench, clip: Clip, mode: str) -> Trial:
    """A run whose video goes into the pipe ``out.ts``; ``copy.ts`` is judged."""
    options = {"model": "echo:10", "mode": mode}
    outputs = ("out.jsonl", "out.ts")
    copy = bench.folder / "copy.ts"
    return bench.begin(Plan(bench.source(clip), clip, bench.folder, options, outputs, video=copy))


def media_through(address: str) -> Callable[[config.Fleet], config.Fleet]:
    """A tweak: the media link goes through ``address``."""

    def tweak(fleet: config.Fleet) -> config.Fleet:
        return msgspec.structs.replace(fleet, sink=msgspec.structs.replace(fleet.sink, media=address))

    return tweak


def require_named_output(trial: Trial, since: float) -> None:
    """The sink says within 2 s, in the log, that an output takes nothing; filling the pipe comes on top."""
    trial.require_named(since, "output", "takes nothing", parts=("sink",), within=NAMED_S + 0.5)


def require_lost(trial: Trial, reason: str) -> None:
    """Some frames are lost, all for ``reason``."""
    states, reasons = (trial.entry or {}).get("states", {}), (trial.entry or {}).get("reasons", {})
    ok = states.get("lost", 0) > 0 and states.get("lost") == reasons.get(reason)
    found = "" if ok else f"{states} {reasons}"
    trial.require(judge.Check(f"frames lost: {reason}, none for another reason", ok, found))
    out, shown = trial.clip.frames - states.get("lost", 0), len(trial.shown)
    found = "" if shown == out else f"{shown} of {out}"
    trial.require(judge.Check("every frame that is not lost has its picture", shown == out, found))


def require_not_held_up(trial: Trial) -> None:
    """Live: the run is not longer than its source."""
    if trial.lines:
        took = trial.lines[-1].at - trial.lines[0].at
        trial.require(judge.at_most("the source is not held up: lines over", took, trial.clip.seconds + 3, "s"))


CASES = (
    Case(
        "disk-full", "lossless: the video's disk is full for 5 s, then there is space",
        "named within 2 s, waits, goes on within 15 s; 0 lost, doubled, out of order over the parts",
        disk_full, short=True,
    ),
    Case(
        "disk-full-live", "live: one of two videos lies on a disk that fills up",
        "named within 2 s; the other one whole", disk_full_live,
    ),
    Case(
        "slow-reader", "lossless: the output is a pipe whose reader pauses for 10 s",
        "named within 2 s, waits, goes on within 2 s; 0 lost", slow_reader,
    ),
    Case(
        "slow-reader-live", "live: the output is a pipe whose reader pauses for 10 s",
        "named within 2 s; the source not held up, all frames accounted for, annotates again", slow_reader_live,
    ),
    Case(
        "slow-encoder", "live: 720p30 of noise with the preset slower, far too slow",
        "lost: sink_overload; the source not held up, memory flat ± 10 %", slow_encoder,
    ),
    Case(
        "slow-media-link", "live: the media link carries a third of the stream",
        "lost: gap; all frames accounted for, no picture doubled or out of order, memory ≤ 600 MB", slow_media_link,
    ),
)  # fmt: skip
