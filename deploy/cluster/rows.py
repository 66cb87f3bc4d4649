"""What is told of a slot: its own word, or what can be known where there is none. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deploy.cluster.notebook import Page
from deploy.cluster.order import Nodes

#: States in which a slot does its work.
WELL = ("running",)


@dataclass(frozen=True, slots=True)
class Row:
    """One slot, for people and programs."""

    slot: str
    state: str
    #: Host name and Ray's own name of the node.
    node: str = ""
    node_id: str = ""
    gpus: list[str] = field(default_factory=list)
    pid: int = 0
    device: str = ""
    done: int = 0
    restarts: int = 0
    #: What is wrong now, or the worker's last error.
    error: str = ""


def row_of(name: str, answer: Mapping[str, Any] | str, page: Page | None, nodes: Nodes) -> Row:
    """What is known of a slot. ``answer``: its own, or why there is none ("": it has not come)."""
    page = page or Page("", "", False, 0, "")
    if isinstance(answer, Mapping):
        return Row(
            slot=name, state=answer["state"], node=answer["host"], node_id=answer["node"], gpus=list(answer["gpus"]),
            pid=answer["pid"], device=answer["device"], done=answer["done"], restarts=page.restarts,
            error=answer["remark"] or page.error,
        )  # fmt: skip
    if answer:
        return Row(slot=name, state="failed", node=page.host, restarts=page.restarts, error=answer)
    if not page.node:
        return Row(slot=name, state="pending", error="not placed yet: where that lasts, no node has room")
    if page.node not in {node["NodeID"] for node in nodes if node["Alive"]}:
        why = f"its node {page.host} was lost" if page.here else page.error
        return Row(slot=name, state="pending", restarts=page.restarts, error=why)
    why = "it does not answer" if page.here else page.error
    return Row(slot=name, state="restarting", node=page.host, restarts=page.restarts, error=why)
