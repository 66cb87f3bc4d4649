"""Makes itself known to the sink, again and again where that has to be. Time is an argument."""

from __future__ import annotations

from common import messages as m

#: Seconds between two Hellos while no Welcome came.
HELLO_S = 0.3
#: The sink speaks every 0.1 s. After this long a silence, in seconds, it is greeted again: it may have been restarted,
#: or know us under the name of a broken connection.
AGAIN_S = 1.0

#: A Hello and the carriers of its tracks.
Hello = tuple[m.Hello, bytes]


class Greeter:
    """What the sink knows of this producer. Set ``hello`` before anything is sent."""

    hello: Hello

    def __init__(self, now: float) -> None:
        self.unknown = True  #: the sink does not know us (yet)
        self.heard = now  #: when it spoke last
        self.known = now  #: when it last knew us
        self._next = 0.0
        self._greeted: list[Hello] = []  # since the last Welcome: one of them was answered

    def spoke(self, now: float) -> None:
        """The sink has said something."""
        self.heard = now

    def tick(self) -> None:
        """Call once a turn, after what was received."""
        if not self.unknown:
            self.known = self.heard

    def due(self, now: float) -> Hello | None:
        """What is to be sent now: to a sink that does not know us, or does not speak to us."""
        if now < self._next or not (self.unknown or now > self.heard + AGAIN_S):
            return None
        self._next = now + HELLO_S
        if self.hello not in self._greeted:
            self._greeted = [*self._greeted[-1:], self.hello]  # two are as good as many
        return self.hello

    def welcomed(self) -> Hello | None:
        """A Welcome came for a new epoch. Returns what the sink may not have begun with: of several Hellos nobody
        knows which one it was."""
        untold = None if self._greeted == [self.hello] else self.hello
        self._greeted.clear()
        return untold
