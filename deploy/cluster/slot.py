"""The actor of one slot: it keeps one worker, and leaves when that dies, so that Ray starts it again."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
import traceback
from dataclasses import asdict
from typing import Any

from common.errors import Exit
from deploy.cluster.joining import load
from deploy.cluster.keeper import MAX_WHY, Keeper
from deploy.cluster.notebook import Past
from deploy.cluster.order import NOTEBOOK, Order

#: How long a slot waits for the notebook's answer, in seconds. Without one it begins at once.
NOTEBOOK_S = 3.0
#: Rest before leaving where even that failed, in seconds, so that Ray does not start it again in a loop.
REST_S = 1.0


class Slot:
    """``fleet`` is the Ray namespace of its fleet, ``name`` its own name there."""

    def __init__(self, order: Order, fleet: str, name: str) -> None:
        self._ray = load()
        self._fleet, self._name = fleet, name
        context = self._ray.get_runtime_context()
        self._node = context.get_node_id()
        self._host = socket.gethostname()
        self._gpus = [str(one) for one in self._ray.get_gpu_ids()] if order.gpus else []
        self._keeper = Keeper(order, f"{name}@{self._host}")
        threading.Thread(target=self._work, name="worker", daemon=True).start()

    def look(self) -> dict[str, Any]:
        """How the slot is, for ``headrace cluster status``."""
        seen = asdict(self._keeper.look())
        return {"node": self._node, "host": self._host, "gpus": self._gpus, "actor": os.getpid(), **seen}

    def stop(self, seconds: float) -> bool:
        """Drain the worker. The slot stays, without one, until it is removed. Returns whether it ended by itself."""
        return self._keeper.stop(seconds)

    def _work(self) -> None:
        try:
            past: Past | None = self._ask("begun", self._node, self._host)
            why = self._keeper.run(past.pause if past else 0.0)
        except Exception as error:  # noqa: BLE001  told in the status, and Ray tries again
            traceback.print_exc()
            why = f"{type(error).__name__}: {error}"[:MAX_WHY]
            time.sleep(REST_S)
        if self._keeper.told:
            threading.Event().wait()  # this thread has started the child, and ends with the process
        print(f"{self._name}: the worker ended: {why}", file=sys.stderr, flush=True)
        self._ask("ended", why, self._keeper.lived)
        os._exit(Exit.LINK)

    def _ask(self, method: str, *arguments: object) -> Any:
        try:
            notebook = self._ray.get_actor(NOTEBOOK, namespace=self._fleet)
            return self._ray.get(getattr(notebook, method).remote(self._name, *arguments), timeout=NOTEBOOK_S)
        except Exception as error:  # noqa: BLE001  it may be away, or being moved
            print(f"{self._name}: no answer of the notebook: {error}", file=sys.stderr, flush=True)
            return None
