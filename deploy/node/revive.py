"""Supervisor gives a part up that fails at each start. What it needs may come later: it is tried again, ever more
seldom. Pure: time is an argument."""

from __future__ import annotations

from collections.abc import Iterable

from deploy.node.supervisor import Process

#: First pause before a part that was given up is tried again, in seconds; doubled each time up to the maximum.
PAUSE_S, PAUSE_MAX_S = 5.0, 300.0
#: One that has run so long, in seconds, begins with the first pause again.
STEADY_S = 60.0


class Revive:
    def __init__(self) -> None:
        self._parts: dict[str, tuple[float, float]] = {}  # program → when it is due, the pause
        self._running: dict[str, float] = {}

    def due(self, processes: Iterable[Process], now: float) -> list[str]:
        """Programs to start now."""
        due = []
        there = set()
        for process in processes:
            there.add(process.program)
            if process.state == "RUNNING":
                if now - self._running.setdefault(process.program, now) > STEADY_S:
                    self._parts.pop(process.program, None)
                continue
            self._running.pop(process.program, None)
            if process.state != "FATAL":
                continue
            at, pause = self._parts.get(process.program, (None, PAUSE_S / 2))
            if at is None or at == float("inf"):
                pause = min(PAUSE_MAX_S, pause * 2)
                self._parts[process.program] = (now + pause, pause)
            elif now >= at:
                self._parts[process.program] = (float("inf"), pause)
                due.append(process.program)
        for program in (self._parts.keys() | self._running.keys()) - there:
            self._parts.pop(program, None)
            self._running.pop(program, None)
        return due
