"""When a part that has died is started again, and when that is hopeless. Pure: time is an argument."""

from __future__ import annotations

from dataclasses import dataclass

#: First pause before a dead part is started again, in seconds; doubled each time up to the maximum.
RESTART_S, RESTART_MAX_S = 0.2, 5.0
#: A part that dies so often without having worked in between is not started again.
MAX_DEATHS = 5
#: A part that has lived this long, in seconds, has worked.
STEADY_S = 60.0


@dataclass(slots=True)
class _Record:
    deaths: int = 0
    #: How far its work had come when it died last.
    reached: int = 0
    #: When it is started again; None: it runs, or never comes back.
    due: float | None = None


class Deaths:
    """All parts by name; one that has not died yet is not known here."""

    def __init__(self) -> None:
        self._parts: dict[str, _Record] = {}

    def died(self, name: str, lived: float, reached: int, now: float) -> bool:
        """``name`` has died after ``lived`` seconds. ``reached``: frames that its work had come to, which it does not
        have to do again. True: it is to be started again; False: it has died too often."""
        part = self._parts.setdefault(name, _Record())
        if lived > STEADY_S or reached > part.reached:
            part.deaths = 0  # it does not die of the same frame again
        part.reached = max(part.reached, reached)
        part.deaths += 1
        if part.deaths > MAX_DEATHS:
            return False
        part.due = now + min(RESTART_S * 2 ** (part.deaths - 1), RESTART_MAX_S)
        return True

    def worked(self, name: str) -> None:
        """``name`` has done what it is for."""
        if (part := self._parts.get(name)) is not None:
            part.deaths = 0

    def forget(self, name: str) -> None:
        """``name`` does not come back."""
        self._parts.pop(name, None)

    def knows(self, name: str) -> bool:
        """Whether ``name`` has died before."""
        return name in self._parts

    def waits(self, name: str) -> bool:
        """Whether ``name`` is to be started again."""
        part = self._parts.get(name)
        return part is not None and part.due is not None

    def due(self, now: float) -> list[str]:
        """Those to start now, each once."""
        names = [name for name, part in self._parts.items() if part.due is not None and now >= part.due]
        for name in names:
            self._parts[name].due = None
        return names

    def check(self) -> None:
        for part in self._parts.values():
            assert 0 <= part.deaths <= MAX_DEATHS + 1
            assert part.due is None or part.deaths <= MAX_DEATHS
