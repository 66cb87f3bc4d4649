"""Who may speak to one listening socket: asked at each message, since a connection outlives a permission. No sockets.

A ROUTER's peers are remembered by their routes, so that nothing is sent to one whose key is no longer let in either.
"""

from __future__ import annotations

from typing import Protocol

#: Most peers of one socket that are remembered; the ones beyond, the oldest first, are told to come again.
MAX_ROUTES = 8192
#: A peer is told at most this often, in seconds, that it is refused.
TELL_S = 1.0


class Asked(Protocol):
    """A :class:`common.keys.Gate`."""

    def cuts(self, name: str) -> int: ...
    def admits(self, public: str, name: str) -> bool: ...
    def refuse(self, name: str, public: str, address: str) -> None: ...


class Guard:
    """Of the socket ``name``."""

    def __init__(self, gate: Asked, name: str) -> None:
        self._gate, self._name = gate, name
        self._cuts = gate.cuts(name)
        self._routes: dict[bytes, str] = {}  # route → public key
        self._told: dict[bytes, float] = {}  # route → when

    def admits(self, public: str) -> bool:
        """Whether a message of this key may come in."""
        return self._gate.admits(public, self._name)

    def refuse(self, public: str, address: str) -> None:
        """It may not."""
        self._gate.refuse(self._name, public, address)

    def came(self, route: bytes, public: str) -> None:
        """A message that came in was of this peer."""
        if self._routes.get(route) != public:
            self._routes[route] = public
            if len(self._routes) > MAX_ROUTES:
                del self._routes[next(iter(self._routes))]

    def reaches(self, route: bytes) -> bool:
        """Whether something may be sent to this peer."""
        public = self._routes.get(route)
        return public is not None and self._gate.admits(public, self._name)

    def forget(self, route: bytes) -> None:
        """The peer is gone."""
        self._routes.pop(route, None)

    def tell(self, route: bytes, now: float) -> bool:
        """A message of this peer was refused: whether it is to be told so now."""
        self.forget(route)
        if now - self._told.get(route, -TELL_S) < TELL_S:
            return False
        if len(self._told) >= MAX_ROUTES:
            self._told.clear()
        self._told[route] = now
        return True

    def cut(self) -> bool:
        """Whether a key that could speak to this socket has lost that since the last call."""
        before, self._cuts = self._cuts, self._gate.cuts(self._name)
        return self._cuts != before

    def cut_off(self) -> list[bytes]:
        """The peers whose keys are no longer let in; they are counted, and to be told."""
        found = [(route, public) for route, public in self._routes.items() if not self._gate.admits(public, self._name)]
        for _, public in found:
            self._gate.refuse(self._name, public, "")
        return [route for route, _ in found]

    def check(self) -> None:
        assert len(self._routes) <= MAX_ROUTES
        assert len(self._told) <= MAX_ROUTES
