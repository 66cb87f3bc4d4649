"""What the page needs of the agent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from common.config import Fleet
from deploy.node.folder import NodeFolder, State


class Planned(Protocol):
    """The node as it is configured (deploy/node/node.py)."""

    @property
    def state(self) -> State: ...
    def fleet(self) -> Fleet: ...


class AgentLike(Protocol):
    """deploy/agent/service.py's Agent."""

    @property
    def folder(self) -> NodeFolder: ...
    @property
    def node(self) -> Planned: ...
    def snapshot(self) -> dict[str, Any]: ...
    def on_picture(self, hear: Callable[[str, bytes], None]) -> None: ...
    def ask(self, part: str, request: dict[str, Any]) -> bool: ...
    async def change(self, function: Callable[..., str], *arguments: object) -> str: ...
