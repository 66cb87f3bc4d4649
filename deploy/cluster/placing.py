"""Fleets on a Ray cluster, from outside: placed, scaled, looked at, removed.

Ray is the only store: a slot is there when there is an actor of its name in the fleet's namespace.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from common.errors import LinkError, UsageError
from deploy.cluster.notebook import Notebook, Page
from deploy.cluster.order import NAMESPACE, NOTEBOOK, Order, free_names, number_of
from deploy.cluster.rows import WELL, Row, row_of
from deploy.cluster.slot import Slot

#: How long an actor's answer is waited for, in seconds; one that is being placed has none.
ANSWER_S = 2.0
#: How long the notebook's place is waited for, in seconds: it is the first process that Ray starts for us.
PLACE_S = 60.0
#: How long a worker may take to be ready, before the next one is replaced all the same, in seconds.
READY_S = 60.0
#: Beyond the time that a worker has for its end, in seconds.
MARGIN_S = 7.0
#: What Ray's head node has of, and no other.
HEAD = "node:__internal_head__"
#: How long Ray may take to forget an actor that was killed, in seconds.
FREE_S = 10.0
#: Calls that an actor takes at the same time: somebody looks while another one stops it.
CALLS = 8


class Placed:
    """One fleet on the cluster that ``ray`` has joined."""

    def __init__(self, ray: Any, fleet: str) -> None:
        self._ray, self.fleet = ray, fleet
        self._space = NAMESPACE + fleet
        self._made: dict[str, Any] = {}

    @property
    def there(self) -> bool:
        return self._handle(NOTEBOOK) is not None

    def names(self) -> list[str]:
        """Slots, by number."""
        every = self._ray.util.list_named_actors(all_namespaces=True)
        ours = [one["name"] for one in every if one["namespace"] == self._space]
        return sorted((name for name in ours if number_of(name)), key=lambda name: number_of(name) or 0)

    def wanted(self) -> list[str]:
        """Slots that are there, or that we have made."""
        return list(dict.fromkeys([*self.names(), *self._made]))

    def order(self) -> Order:
        """What its slots are made of. Raises LinkError."""
        handle = self._handle(NOTEBOOK)
        if handle is None:
            raise LinkError(f"the fleet {self.fleet!r} has lost its notebook: place it again with headrace cluster up")
        try:
            order: Order = self._ray.get(handle.order.remote(), timeout=PLACE_S)
        except Exception as error:
            raise LinkError(f"the notebook of the fleet {self.fleet!r} does not answer: {_first(error)}") from error
        return order

    def open(self, order: Order) -> bool:
        """Have a notebook with ``order``. Returns whether there was one with another order, which is replaced.

        Raises LinkError.
        """
        changed = self.there and self.order() != order
        if changed:
            self._kill(NOTEBOOK)
        # With the head node, what knows of the actors is gone as well.
        self._actor(Notebook, NOTEBOOK, num_cpus=0, resources={HEAD: 0.001}).remote(order)
        self.order()
        return changed

    def scale(self, count: int, seconds: float) -> None:
        """Add slots, or drain and remove those that are too many: the ones that do not work first, then the highest
        numbers. Raises LinkError."""
        names = self.names()
        if len(names) < count:
            order = self.order()
            for name in free_names(names, count - len(names)):
                self._add(order, name)
        elif len(names) > count:
            well = {row.slot for row in self.rows() if row.state in WELL}
            names.sort(key=lambda name: name not in well)  # else by number, as they are
            self._remove(names[count:], seconds)

    def replace(self, names: Sequence[str], seconds: float) -> None:
        """Make ``names`` anew from the notebook's order, each when the one before it works. Raises LinkError."""
        order = self.order()
        for name in names:
            self._remove([name], seconds)
            self._add(order, name)
            self.settle([name], READY_S)

    def settle(self, names: Sequence[str], seconds: float) -> list[Row]:
        """Wait until all ``names`` run, at most so long → their rows."""
        deadline = time.monotonic() + seconds
        while True:
            rows = [row for row in self.rows() if row.slot in names]
            if len(rows) == len(names) and all(row.state in WELL for row in rows):
                return rows
            gone = sorted(set(names) - {row.slot for row in rows})
            if time.monotonic() > deadline or (gone and len(gone) == len(names)):
                return rows + [Row(slot=name, state="failed", error=self._why(name)) for name in gone]
            time.sleep(0.1)

    def down(self, seconds: float) -> int:
        """Drain and remove all. Returns how many slots there were."""
        names = self.names()
        self._remove(names, seconds)
        self._kill(NOTEBOOK)
        return len(names)

    def rows(self) -> list[Row]:
        """Every slot as it is now."""
        asked: dict[str, Any] = {}
        for name in self.names():
            if (handle := self._handle(name)) is not None:
                asked[name] = handle.look.remote()
        notebook = self._handle(NOTEBOOK)
        pages: dict[str, Page] = {}
        wanted = [*asked.values()]
        if notebook is not None:
            wanted.append(paper := notebook.pages.remote())
        if wanted:
            self._ray.wait(wanted, num_returns=len(wanted), timeout=ANSWER_S, fetch_local=False)
        if notebook is not None:
            with contextlib.suppress(Exception):  # it is being moved
                pages = self._ray.get(paper, timeout=0)
        nodes = self._ray.nodes()
        return [row_of(name, self._answer(ref), pages.get(name), nodes) for name, ref in asked.items()]

    def _why(self, name: str) -> str:
        """Why an actor that we have made is not there: Ray removes those that cannot begin."""
        if name not in self._made:
            return "it was removed"
        ref = self._made[name].look.remote()
        self._ray.wait([ref], timeout=ANSWER_S, fetch_local=False)
        answer = self._answer(ref)
        return answer if isinstance(answer, str) and answer else "Ray has removed it"

    def _answer(self, ref: Any) -> Mapping[str, Any] | str:
        try:
            found: dict[str, Any] = self._ray.get(ref, timeout=0)
        except (self._ray.exceptions.GetTimeoutError, self._ray.exceptions.ActorUnavailableError):
            return ""
        except Exception as error:  # noqa: BLE001  whatever it is, it is that slot's state
            return _first(error)
        return found

    def _add(self, order: Order, name: str) -> None:
        share = {"num_cpus": order.cpus, "num_gpus": order.gpus, "scheduling_strategy": "SPREAD"}
        self._made[name] = self._actor(Slot, name, **share).remote(order, self._space, name)

    def _actor(self, kind: type, name: str, **options: Any) -> Any:
        return self._ray.remote(kind).options(
            name=name, namespace=self._space, lifetime="detached", get_if_exists=True,
            max_restarts=-1, max_concurrency=CALLS, **options,
        )  # fmt: skip

    def _remove(self, names: Sequence[str], seconds: float) -> None:
        there = [(name, handle) for name in names if (handle := self._handle(name)) is not None]
        refs = [handle.stop.remote(seconds) for _, handle in there]
        if refs:
            # One that is being placed, or whose node is lost, does not answer, and has nothing to drain.
            deadline = time.monotonic() + seconds + MARGIN_S
            here = self._here([name for name, _ in there])
            waited = [ref for (name, _), ref in zip(there, refs, strict=True) if name in here]
            if waited:
                left = max(0.0, deadline - time.monotonic())
                self._ray.wait(waited, num_returns=len(waited), timeout=left, fetch_local=False)
        for name in names:
            self._kill(name)
            self._made.pop(name, None)
            if (notebook := self._handle(NOTEBOOK)) is not None:
                notebook.forget.remote(name)

    def _here(self, names: Iterable[str]) -> set[str]:
        """Those of ``names`` that answer."""
        wanted = set(names)
        return {row.slot for row in self.rows() if row.slot in wanted and row.pid}

    def _kill(self, name: str) -> None:
        """Returns when its name is free."""
        deadline = time.monotonic() + FREE_S
        while (handle := self._handle(name)) is not None and time.monotonic() < deadline:
            self._ray.kill(handle, no_restart=True)
            time.sleep(0.05)

    def _handle(self, name: str) -> Any:
        """None where there is no such actor."""
        try:
            return self._ray.get_actor(name, namespace=self._space)
        except ValueError:
            return None


def find(ray: Any, fleet: str | None) -> Placed:
    """The fleet of that name, or the only one. Raises UsageError."""
    names = fleets(ray)
    if fleet is None and len(names) == 1:
        return Placed(ray, names[0])
    if not names:
        raise UsageError("no fleet is placed on this cluster: place one with headrace cluster up")
    if fleet is None:
        raise UsageError(f"several fleets are placed here: name one with --fleet, {' or '.join(names)}")
    if fleet not in names:
        raise UsageError(f"no fleet {fleet!r} is placed on this cluster: there is {', '.join(names)}")
    return Placed(ray, fleet)


def fleets(ray: Any) -> list[str]:
    """Names of all fleets that have an actor on the cluster."""
    every = ray.util.list_named_actors(all_namespaces=True)
    return sorted({one["namespace"].removeprefix(NAMESPACE) for one in every if one["namespace"].startswith(NAMESPACE)})


def _first(error: Exception) -> str:
    """Ray's errors have many lines; the last one of a task's tells what was raised."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = lines[-1] if lines and "Error" in lines[-1] else (lines[0] if lines else type(error).__name__)
    return last[:300]
