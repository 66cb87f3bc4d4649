"""Faults of the network between parts: late, cut, mute, damaged; hosts cut off; producers that come and go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from common import config
from deploy.faults import churn, judge, netns
from deploy.faults.bench import Bench, Case
from deploy.faults.clip import Clip
from deploy.faults.links import LINKS, Links, on_tcp
from deploy.faults.require import require_accounted_live, require_annotated
from deploy.faults.trial import Plan, Row, Skipped, Stuck, Trial

#: Lateness of every chunk in each direction, and how much it varies, in seconds.
LATE_S, JITTER_S = 0.05, 0.03
#: How long nothing passes, and a host is cut off, in seconds. A worker is taken for dead after 1.5.
MUTE_S, OFF_S = 3.0, 6.0
#: Share of chunks in which bits are flipped, and where: a damaged acknowledgement on the media link would be believed,
#: as nothing but a key can tell it from a true one.
SPOILT, SPOILT_LINKS = 0.05, ("frames", "work", "results", "verdicts")
#: Where broker and sink listen inside their namespace: nobody else is there.
PORT = 7000


@contextmanager
def linked(bench: Bench, frames: int, workers: int = 2) -> Iterator[tuple[Trial, Links]]:
    """A lossless run over tcp that has begun, each link through a proxy."""
    clip = Clip(frames=frames, rate=50)
    options = {"workers": workers, "model": "echo:20", "mode": "lossless"}
    with bench.begin(Plan(bench.source(clip), clip, bench.folder, options, tweak=on_tcp)) as trial:
        with Links(trial.fleet, bench.chance.randrange(2**31)) as links:
            trial.begin()
            yield trial, links
            trial.until(lambda: trial.over, 120, "the end of the run", alive=False)
            trial.fleet.finish()
        trial.end()


def links_late(bench: Bench) -> Row:
    with linked(bench, 500) as (trial, links):
        for proxy in links:
            proxy.set(delay=LATE_S, jitter=JITTER_S)
    trial.require_whole()
    return trial.row(bench.case)


def links_cut(bench: Bench) -> Row:
    """Every link, one after the other in an order of chance, several times."""
    with linked(bench, int(bench.pick(1500, 400))) as (trial, links):
        cuts = 0
        names = [*LINKS] * int(bench.pick(4, 2))
        bench.chance.shuffle(names)
        for name in names:
            if not trial.wait(bench.chance.uniform(0.1, 0.5)):
                break
            cuts += links[name].cut()
    trial.figures["connections cut"] = cuts
    trial.require(judge.at_least("connections cut", cuts, len(LINKS), ""))
    trial.require_whole()
    return trial.row(bench.case)


def links_mute(bench: Bench) -> Row:
    with linked(bench, 600) as (trial, links):
        for proxy in links:
            proxy.hole(MUTE_S)
        trial.until(lambda: not any(proxy.holed for proxy in links), 30, "the partition's end")
    trial.require_whole()
    trial.require_stall(MUTE_S + 2.0)
    return trial.row(bench.case)


def links_spoilt(bench: Bench) -> Row:
    """Without keys nothing tells a damaged payload from another one: a picture may fail or look odd."""
    with linked(bench, 500) as (trial, links):
        for name in SPOILT_LINKS:
            links[name].set(corrupt=SPOILT)
    spoilt = sum(counts["corrupted"] for counts in links.counts().values())
    trial.figures["chunks spoilt"] = spoilt
    trial.require(judge.at_least("chunks spoilt", spoilt, 10, ""))
    trial.require_accounted()
    trial.require(judge.complete(judge.order([line.index for line in trial.told], trial.clip.frames), "lines"))
    ended = {name: codes for name, codes in trial.fleet.codes.items() if codes != [0]}
    trial.require(judge.Check("no part died", not ended, f"{ended}" if ended else ""))
    return trial.row(bench.case)


def worker_host_cut(bench: Bench) -> Row:
    with spread(bench, "worker-2") as (trial, hosts):
        hosts.cut(1)
        since = trial.now()
        trial.wait(OFF_S)
        trial.require_named(since, "silent", "worker-2", parts=("broker",))
        hosts.join(1)
    trial.require_whole()
    trial.require_stall(3.0)
    return trial.row(bench.case)


def producer_host_cut(bench: Bench) -> Row:
    with spread(bench, "producer") as (trial, hosts):
        hosts.cut(1)
        trial.wait(OFF_S)
        trial.require(judge.Check("the run waits", not trial.over))
        hosts.join(1)
    trial.require_whole()
    trial.require_stall(OFF_S + 4.0)
    return trial.row(bench.case)


def producer_host_cut_live(bench: Bench) -> Row:
    with spread(bench, "producer", "live") as (trial, hosts):
        trial.wait(1)
        hosts.cut(1)
        trial.wait(OFF_S)
        back = trial.now()
        hosts.join(1)
    require_accounted_live(trial)
    require_annotated(trial, back, 10, "its return")
    return trial.row(bench.case)


@contextmanager
def spread(bench: Bench, away: str, mode: str = "lossless") -> Iterator[tuple[Trial, netns.Hosts]]:
    """A run with the part ``away`` on host 1 and all others on host 0, that has begun. Raises Skipped."""
    if why := netns.available():
        raise Skipped(why)
    clip = Clip(frames=600, rate=50) if mode == "lossless" else Clip(frames=int(bench.pick(30, 16) * 25))
    options = {"workers": 2, "model": "echo:20", "mode": mode}
    with netns.Hosts(2) as hosts:
        tweak = at_address(hosts.address(0))
        with bench.begin(Plan(bench.source(clip), clip, bench.folder, options, tweak=tweak)) as trial:
            for name in trial.fleet.names:
                with hosts.inside(int(name == away)):
                    trial.fleet.start(name)
            trial.begin(*trial.fleet.names)
            yield trial, hosts
            trial.finish(120)


def at_address(address: str) -> Callable[[config.Fleet], config.Fleet]:
    """A tweak: broker and sink at ``address``, without keys."""

    def tweak(fleet: config.Fleet) -> config.Fleet:
        places = [f"tcp://{address}:{PORT + number}" for number in range(5)]
        broker = msgspec.structs.replace(fleet.broker, frames=places[0], workers=places[1], news=places[2])
        sink = msgspec.structs.replace(fleet.sink, media=places[3], results=places[4])
        return msgspec.structs.replace(fleet, broker=broker, sink=sink, security=config.Security(insecure=True))

    return tweak


def producers_come_and_go(bench: Bench) -> Row:
    waves, per_wave = (4, 50) if not bench.short else (2, 20)
    try:
        found = churn.run(waves, per_wave, bench.folder, bench.seed)
    except (AssertionError, TimeoutError) as error:
        raise Stuck(str(error)) from error
    leaks = found.leaks()
    checks = [
        judge.at_least("producers", found.producers, waves * per_wave, ""),
        judge.Check("no leak of descriptors, threads or memory", not leaks, "; ".join(leaks)),
        judge.Check("each that stayed was told its own counts", not found.wrong, f"{found.wrong} were not"),
        judge.Check("each real one that stayed ended with 0", not found.failed, f"{found.failed} did not"),
    ]
    figures = {"producers": float(found.producers), "deaths": float(found.deaths), "real": float(found.real)}
    for part, after in found.after.items():
        before = found.before[part]
        figures[f"{part}: descriptors more"] = after.descriptors - before.descriptors
        figures[f"{part}: MB more"] = round((after.memory - before.memory) / 1e6, 1)
    memory = round(sum(one.memory for one in found.after.values()) / 1e6, 1)
    return Row(
        bench.case, verdict=judge.verdict(checks), memory_mb=memory, seconds=found.seconds, figures=figures
    )  # fmt: skip


CASES = (
    Case(
        "links-late", "every link over tcp, 50 ms ± 30 late in each direction",
        "0 lost, doubled, out of order", links_late,
    ),
    Case(
        "links-cut", "every link reset (RST) 4 times at random moments, with what is under way",
        "0 lost, doubled, out of order", links_cut, short=True,
    ),
    Case(
        "links-mute", "nothing passes on any link for 3 s, no connection ends",
        "0 lost; stall ≤ 5 s", links_mute,
    ),
    Case(
        "links-spoilt", "bits flipped in 5 % of the chunks on all links of broker and workers, without keys",
        "no part dies, all frames accounted for", links_spoilt,
    ),
    Case(
        "worker-host-cut", "the host of one of 2 workers is cut off for 6 s (network namespaces)",
        "0 lost, named within 2 s; stall ≤ 3 s", worker_host_cut,
    ),
    Case(
        "producer-host-cut", "lossless: the producer's host is cut off for 6 s",
        "waits, goes on; 0 lost; stall ≤ 10 s", producer_host_cut,
    ),
    Case(
        "producer-host-cut-live", "live: the producer's host is cut off for 6 s",
        "all frames accounted for, annotates again", producer_host_cut_live,
    ),
    Case(
        "producers-come-and-go", "200 producers start and stop at one broker and sink, half of them die",
        "no leak of descriptors, threads or memory; each that stays is told its own counts", producers_come_and_go,
    ),
)  # fmt: skip
