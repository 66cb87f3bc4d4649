"""What is done to a running node: workers more or fewer, streams added, removed and paused, a changed file applied.

Each function holds the folder's lock, checks first and changes then; what it returns is said to whoever asked.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from common import config
from common.config import MAX_WORKERS
from common.errors import LinkError, ModelError, UsageError
from deploy.manage import MAX_STREAMS
from deploy.node.folder import State
from deploy.node.node import Node
from deploy.node.plan import Part, program_of
from deploy.node.ready import look
from deploy.places import Places
from deploy.streams import part_of

#: The sink's word that it has forgotten a stream is waited for so many seconds.
FORGET_S = 5.0


def scale(node: Node, workers: int, relative: bool = False) -> str:
    """So many workers on this node, or so many more. Raises HeadraceError."""
    with node.folder.changing():
        state, fleet = node.state, node.fleet()
        workers += fleet.workers.count if relative else 0
        if not 0 <= workers <= MAX_WORKERS:
            raise UsageError(f"workers = {workers}: 0 to {MAX_WORKERS} are possible")
        if "workers" not in state.roles:
            raise UsageError("no workers run on this node: its roles are " + ", ".join(state.roles))
        before = fleet.workers.count
        fleet = _with_workers(fleet, workers)
        node.follow(fleet, msgspec.structs.replace(state, workers=workers))
    return f"{_workers(before)} before, {_workers(workers)} now"


def add(node: Node, new: Sequence[config.Stream]) -> str:
    """Serve these too. Raises HeadraceError."""
    with node.folder.changing():
        state, fleet = node.state, node.fleet()
        _check_new(node, state, fleet, new)
        names = {stream.name for stream in new}
        state = msgspec.structs.replace(
            state,
            added=[*(one for one in state.added if one.name not in names), *new],
            removed=[name for name in state.removed if name not in names],
            ended={name: end for name, end in state.ended.items() if name not in names},
        )
        node.follow(msgspec.structs.replace(fleet, streams=[*fleet.streams, *new]), state)
    return f"added {', '.join(stream.name for stream in new)}"


def remove(node: Node, name: str, seconds: float) -> str:
    """End a stream: what is under way gets ``seconds`` to be finished, its outputs are closed. Raises HeadraceError."""
    with node.folder.changing():
        state, fleet = node.state, node.fleet()
        fleet.stream(name)
        of_file = name not in {stream.name for stream in state.added}
        state = msgspec.structs.replace(
            state,
            added=[one for one in state.added if one.name != name],
            removed=[*state.removed, name] if of_file else state.removed,
            paused=[one for one in state.paused if one != name],
            ended={stream: end for stream, end in state.ended.items() if stream != name},
        )
        _end(node, fleet, state, [name], seconds)
    return f"removed {name}"


def pause(node: Node, name: str) -> str:
    """Its source is closed, and after a while its outputs, until it is resumed. Raises HeadraceError."""
    with node.folder.changing():
        state, fleet = node.state, node.fleet()
        fleet.stream(name)
        if name in state.ended:
            raise UsageError(f"{name} has ended: there is nothing to pause")
        if name in state.paused:
            return f"{name} is paused already"
        node.follow(fleet, msgspec.structs.replace(state, paused=[*state.paused, name]))
    return f"paused {name}"


def resume(node: Node, name: str) -> str:
    """Go on with a stream that was paused. Raises HeadraceError."""
    with node.folder.changing():
        state, fleet = node.state, node.fleet()
        fleet.stream(name)
        if name not in state.paused:
            return f"{name} is not paused"
        node.follow(fleet, msgspec.structs.replace(state, paused=[one for one in state.paused if one != name]))
    return f"{name} goes on"


def reload(node: Node, of_file: config.Fleet) -> str:
    """Apply the file as it is now. What was added, removed, paused and scaled by hand stays so, but where the file says
    something new of it. Raises HeadraceError."""
    with node.folder.changing():
        state, before = node.state, node.fleet()
        fleet, state = merged(of_file, state)
        old = {stream.name: stream for stream in before.streams}
        new = {stream.name: stream for stream in fleet.streams}
        anew = [name for name in old if name in new and _other_film(old[name], new[name])]
        changed = [name for name in new if name in old and new[name] != old[name]]
        state = msgspec.structs.replace(
            state, ended={name: end for name, end in state.ended.items() if name in new and name not in changed}
        )
        leaving = [name for name in old if name not in new] + anew
        if leaving:
            kept = [stream for stream in before.streams if stream.name not in leaving]
            _end(node, msgspec.structs.replace(before, streams=kept), state, leaving, FORGET_S * 6)
        touched = node.follow(fleet, state)
    done = [*(f"{name} removed" for name in leaving if name not in new), *touched]
    return f"applied: {', '.join(dict.fromkeys(done))}" if done else "nothing has changed"


def merged(of_file: config.Fleet, state: State) -> tuple[config.Fleet, State]:
    """The file, and what was decided since."""
    names = {stream.name for stream in of_file.streams}
    added = [stream for stream in state.added if stream.name not in names]
    removed = [name for name in state.removed if name in names]
    workers = state.workers if state.workers_of_file == of_file.workers.count else None
    streams = [stream for stream in of_file.streams if stream.name not in removed] + added
    known = {stream.name for stream in streams}
    state = msgspec.structs.replace(
        state,
        added=added,
        removed=removed,
        workers=workers,
        workers_of_file=of_file.workers.count,
        paused=[name for name in state.paused if name in known],
        ended={name: end for name, end in state.ended.items() if name in known},
    )
    fleet = msgspec.structs.replace(of_file, run=of_file.run or state.run, streams=streams)
    return (fleet if workers is None else _with_workers(fleet, workers)), state


def _with_workers(fleet: config.Fleet, workers: int) -> config.Fleet:
    return msgspec.structs.replace(fleet, workers=msgspec.structs.replace(fleet.workers, count=workers))


def _workers(count: int) -> str:
    return f"{count} worker" + ("s" if count != 1 else "")


def _other_film(old: config.Stream, new: config.Stream) -> bool:
    """Whether going on at the frame that was reached would make no sense."""
    return old.source != new.source and "lossless" in (old.mode, new.mode)


def _end(node: Node, fleet: config.Fleet, state: State, names: Sequence[str], seconds: float) -> None:
    """Bring streams to their end, and have the sink forget them. ``fleet``: with or without them."""
    parts = node.parts()
    producers: list[Part] = [parts[program] for name in names if (program := program_of(part_of(name))) in parts]
    node.finish(producers, seconds)
    without = [stream for stream in fleet.streams if stream.name not in names]
    node.follow(msgspec.structs.replace(fleet, streams=without), state)
    if "sink" in state.roles:
        deadline = time.monotonic() + FORGET_S
        while time.monotonic() < deadline and set(names) & set(look(node.folder).get("sink_knows", [])):
            time.sleep(0.1)


def _check_new(node: Node, state: State, fleet: config.Fleet, new: Sequence[config.Stream]) -> None:
    if "producers" not in state.roles:
        raise UsageError("no producers run on this node: its roles are " + ", ".join(state.roles))
    if len(fleet.streams) + len(new) > MAX_STREAMS:
        raise UsageError(f"a node has at most {MAX_STREAMS} streams, this one has {len(fleet.streams)}: remove some")
    places = Places(fleet.streams)
    for stream in new:
        if problem := places.add(stream):
            ended = "; it has ended: headrace streams remove it first" if stream.name in state.ended else ""
            raise UsageError(problem + ended)
    served = {fleet.workers.model} if "workers" in state.roles else set()
    broker = look(node.folder).get("broker") or {}
    served.update(broker.get("models") or ())
    for stream in new:
        if served and stream.model not in served:
            raise ModelError(f"no worker of this fleet serves {stream.model!r}, but {', '.join(sorted(served))}")


def check_running(node: Node) -> None:
    """Raises LinkError where nothing runs."""
    if not node.folder.running:
        raise LinkError(f"no fleet runs in {node.folder.path}: headrace up")
