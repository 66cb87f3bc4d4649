"""Faults of the source: damaged, times that jump, pictures that change size, lie on their side, are odd or deep."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

from deploy.faults import judge
from deploy.faults.bench import Bench, Case
from deploy.faults.clip import Clip, join, size, times
from deploy.faults.trial import Plan, Row, Trial

#: Frames of each of these small clips.
FRAMES = 100
#: Share of bytes overwritten, from the tenth part of the file on.
DAMAGE = 0.002


def damaged(bench: Bench) -> Row:
    clip = Clip(frames=FRAMES, noise=48)
    source = bench.folder / "damaged.ts"
    source.write_bytes(damage(bench.source(clip, "ts").read_bytes(), DAMAGE, bench.chance))
    with bench.trial(clip, source, model="echo", mode="lossless") as trial:
        trial.begin(lines=0)
        trial.finish()
        frames = (trial.entry or {}).get("frames", 0)
        reasons = (trial.entry or {}).get("reasons", {})
        trial.require_accounted(frames)
        trial.require(
            judge.at_least("frames that could be decoded", frames, FRAMES / 2, ""),
            judge.complete(judge.order([line.index for line in trial.told], frames), "lines"),
        )
        out = frames - reasons.get("no_picture", 0)
        shown = len(trial.shown)
        trial.require(
            judge.Check(
                "every frame but no_picture is shown", shown == out, "" if shown == out else f"{shown} of {out}"
            )
        )
        # What damaged pictures show is not what they showed.
        row = trial.row(bench.case)
        row.missing = row.duplicates = row.reordered = 0
    return row


def times_jump(bench: Bench) -> Row:
    """Two streams one after the other: the clock of the second begins anew."""
    parts = [bench.source(Clip(frames=FRAMES, first=first), "ts") for first in (0, FRAMES)]
    source = join(bench.folder / "joined.ts", *parts)
    with bench.trial(Clip(frames=2 * FRAMES), source, model="echo", mode="lossless") as trial:
        trial.begin(lines=0)
        trial.finish()
        trial.require_whole()
        repairs = (trial.entry or {}).get("repairs", {})
        trial.require(judge.at_least("counted: restarted", repairs.get("restarted"), 1, ""))
        require_times_rise(trial, trial.folder / "out.mp4")
    return trial.row(bench.case)


def size_changes(bench: Bench) -> Row:
    parts = [
        bench.source(Clip(frames=FRAMES, first=first, size=size), "ts")
        for first, size in ((0, (320, 180)), (FRAMES, (640, 360)))
    ]
    source = join(bench.folder / "joined.ts", *parts)
    with bench.trial(Clip(frames=2 * FRAMES), source, model="echo", mode="lossless") as trial:
        trial.begin(lines=0)
        trial.finish()
        trial.require_whole()
        require_times_rise(trial, trial.folder / "out.mp4")
        require_size(trial, (320, 180))
    return trial.row(bench.case)


def rotated(bench: Bench) -> Row:
    clip = Clip(frames=FRAMES, turn=90)
    plan = Plan(bench.source(clip), clip, bench.folder, {"model": "echo", "mode": "lossless"}, turns=1)
    with bench.begin(plan) as trial:
        trial.begin(lines=0)
        trial.finish()
        trial.require_whole()
        require_size(trial, (180, 320))
    return trial.row(bench.case)


def odd_size(bench: Bench) -> Row:
    return upright(bench, Clip(frames=FRAMES, size=(321, 181), pixels="yuv444p"), (322, 182))


def ten_bit(bench: Bench) -> Row:
    return upright(bench, Clip(frames=FRAMES, pixels="yuv420p10le"), (320, 180))


def upright(bench: Bench, clip: Clip, wanted: tuple[int, int]) -> Row:
    """A run of ``clip`` whose pictures come out in the size ``wanted``."""
    with bench.trial(clip, model="echo", mode="lossless") as trial:
        trial.begin(lines=0)
        trial.finish()
        trial.require_whole()
        require_size(trial, wanted)
    return trial.row(bench.case)


def damage(data: bytes, share: float, chance: random.Random) -> bytes:
    """``data`` with a share of its bytes overwritten; the first tenth, with the headers, is left alone."""
    found = bytearray(data)
    for at in chance.sample(range(len(data) // 10, len(data)), int(len(data) * share)):
        found[at] = chance.randrange(256)
    return bytes(found)


def require_times_rise(trial: Trial, path: Path) -> None:
    """Each picture of the output is later than the one before."""
    found = times(path)
    falls = sum(b <= a for a, b in itertools.pairwise(found))
    trial.require(judge.Check("the output's times rise", not falls, f"{falls} do not" if falls else ""))


def require_size(trial: Trial, wanted: tuple[int, int]) -> None:
    """The output's picture has this width and height."""
    found = size(trial.folder / "out.mp4")
    trial.require(
        judge.Check(
            f"the output is {wanted[0]}x{wanted[1]}",
            found == wanted,
            "" if found == wanted else f"{found[0]}x{found[1]}",
        )
    )


CASES = (
    Case(
        "damaged", "bytes of a transport stream overwritten at random",
        "runs to its end, exit 0, the ledger adds up, every frame that has a picture is shown", damaged,
    ),
    Case(
        "times-jump", "the source's clock starts anew in the middle",
        "0 lost, the output's times rise, counted as a repair", times_jump, short=True,
    ),
    Case(
        "size-changes", "the picture becomes larger in the middle",
        "0 lost, scaled into the running output", size_changes,
    ),
    Case("rotated", "the picture lies on its side", "0 lost, the output is upright", rotated),
    Case("odd-size", "321x181, 4:4:4", "0 lost, padded to even sides", odd_size),
    Case("ten-bit", "10 bit", "0 lost", ten_bit),
)  # fmt: skip
