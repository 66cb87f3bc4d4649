"""A TCP proxy in front of one endpoint that can delay, slow down, cut, refuse, hold back and corrupt what passes.

One thread with an event loop carries all connections of one link (deploy/faults/medium.py). All controls may be used
from any thread while it runs.
"""

from __future__ import annotations

import asyncio
import math
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from deploy.faults.medium import Counts, Ends, Medium, carry, reset

#: A control takes effect within this long, in seconds, or the proxy is broken.
CONTROL_S = 10.0

T = TypeVar("T")


class Proxy:
    """Listens at ``address``, a loopback port, and dials ``target`` (``tcp://host:port`` or ``ipc:///path``).

    ``seed`` decides on jitter and on what is corrupted. Raises OSError where no port can be had.
    """

    def __init__(self, target: str, seed: int = 0) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._listener.setblocking(False)
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._medium = Medium(seed)
        self._tasks: set[asyncio.Task[None]] = set()  # one a connection
        self._refuse_until = self._hole_until = -math.inf
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._do(lambda: self._loop.add_reader(self._listener, self._accept))

    # -- controls ------------------------------------------------------------------------------------------------

    @property
    def counts(self) -> Counts:
        """A copy."""
        return replace(self._medium.counts)

    def set(self, **changes: float) -> None:
        """Change some of the :class:`Conditions`, for what arrives from now on."""
        medium = self._medium
        self._do(lambda: setattr(medium, "conditions", replace(medium.conditions, **changes)))

    def cut(self) -> int:
        """Reset (RST) every connection at both ends, with what is under way; returns how many."""
        return asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result(CONTROL_S)

    def refuse(self, seconds: float) -> None:
        """Reset new connections for so long; 0 ends it."""
        self._do(lambda: setattr(self, "_refuse_until", self._loop.time() + seconds))

    def hole(self, seconds: float) -> None:
        """A partition without FIN: for so long, all is accepted and nothing passes; 0 ends it.

        Afterwards, what TCP still has goes on its way, as it does after a real partition.
        """

        def begin() -> None:
            self._hole_until = self._loop.time() + seconds
            self._medium.passing.clear()
            if math.isfinite(seconds):
                self._loop.call_later(seconds, self._mend)

        self._do(begin)

    @property
    def holed(self) -> bool:
        """Whether nothing passes now."""
        return not self._medium.passing.is_set()

    def close(self) -> None:
        """Reset all connections and stop listening. No thread and no descriptor is left."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(CONTROL_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CONTROL_S)
        self._loop.close()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- in the loop ---------------------------------------------------------------------------------------------

    def _do(self, action: Callable[[], T]) -> T:
        async def body() -> T:
            return action()

        return asyncio.run_coroutine_threadsafe(body(), self._loop).result(CONTROL_S)

    def _mend(self) -> None:
        if self._loop.time() >= self._hole_until - 1e-3:  # not where another hole has been asked for meanwhile
            self._medium.passing.set()

    async def _cut(self) -> int:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports close their sockets in the next turn
        self._medium.counts.cuts += len(tasks)
        return len(tasks)

    async def _close(self) -> None:
        self._loop.remove_reader(self._listener)
        self._listener.close()
        await self._cut()

    def _accept(self) -> None:
        try:
            near, _ = self._listener.accept()
        except OSError:  # gone again, or no descriptor is left for it
            return
        if self._loop.time() < self._refuse_until:
            self._medium.counts.refused += 1
            reset(near)
            return
        task = self._loop.create_task(self._carry(near))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: reset(near))

    async def _carry(self, near: socket.socket) -> None:
        """One connection, from its acceptance to its end."""
        counts = self._medium.counts
        await self._medium.passing.wait()
        try:
            far_ends = await self._dial()
        except OSError:
            counts.unreachable += 1
            return
        near.setblocking(False)
        near_ends = await asyncio.open_connection(sock=near)
        counts.connections += 1
        counts.open += 1
        try:
            await carry(self._medium, near_ends, far_ends)
        finally:
            counts.open -= 1

    async def _dial(self) -> Ends:
        scheme, _, rest = self._target.partition("://")
        if scheme == "ipc":
            return await asyncio.open_unix_connection(rest)
        host, _, port = rest.rpartition(":")
        return await asyncio.open_connection(host.strip("[]"), int(port))
