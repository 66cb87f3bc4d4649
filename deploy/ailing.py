"""The troubles of all parts of a run, as their status lines name them. Pure: time is an argument."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

#: What several parts may name, each under its own name; and what the producer waits for then.
ABOUT = {
    "no_worker": "worker",
    "no_worker_yet": "worker",
    "broker_away": "broker",
    "broker_silent": "broker",
    "broker_full": "broker",
    "sink_away": "sink",
    "sink_silent": "sink",
    "sink_silent_yet": "sink",
}
#: A part that says nothing this long, in seconds, has no troubles: it was started again.
SILENT_S = 3.0
#: Most troubles in one line.
MAX_TROUBLES = 4
#: A trouble is cut to this width at the least, in characters, whatever the terminal's is.
LEAST = 24

Trouble = dict[str, Any]


class Ailing:
    """``hear`` takes in what a part says, ``words`` tells it to a person."""

    def __init__(self) -> None:
        self._parts: dict[str, tuple[float, list[Trouble]]] = {}

    def hear(self, child: str, troubles: object, now: float) -> None:
        """``troubles`` of a status record: a list of {"name", "text", "since"}; it replaces the child's last one."""
        self._parts[child] = (now, [one for one in troubles if _is_trouble(one)] if isinstance(troubles, list) else [])

    def forget(self, child: str) -> None:
        """The child does not come back."""
        self._parts.pop(child, None)

    def about(self, now: float) -> set[str]:
        """What the troubles are about: ``worker``, ``broker``, ``sink``, or a trouble's own name."""
        return {str(ABOUT.get(one["name"], one["name"])) for _, one in self._current(now)}

    def words(self, now: float) -> list[str]:
        """One trouble each, the newest first: ``no worker serves face (12 s)``; what several parts name counts once."""
        return _words((_about(one, child), one) for child, one in self._current(now))

    def words_of(self, stream: str, child: str, now: float) -> list[str]:
        """The same of one stream: what its producer ``child`` alone can name, but that the source is away (its state
        says that), and what the sink names after it, ``disk_full NAME`` or ``output_away NAME …``."""
        found = [
            (one["name"], one)
            for by, one in self._current(now)
            if (by == child and one["name"] not in ABOUT and one["name"] != "source_away")
            or f"{one['name'].partition(' ')[2]} ".startswith(f"{stream} ")
        ]
        return _words(found)

    def _current(self, now: float) -> list[tuple[str, Trouble]]:
        return [
            (child, one) for child, (at, troubles) in self._parts.items() if now - at < SILENT_S for one in troubles
        ]


def fit(words: list[str], room: int | None) -> str:
    """As many of ``words`` as ``room`` characters hold (None: no limit), at least the first one, cut to ``LEAST``."""
    shown = words[:MAX_TROUBLES]
    if room is not None and shown:
        room = max(room, LEAST)
        while len(shown) > 1 and len("; ".join(shown)) > room:
            shown.pop()
        if len(shown[0]) > room:
            shown[0] = shown[0][: room - 1] + "…"
    return "; ".join(shown)


def _words(troubles: Iterable[tuple[str, Trouble]]) -> list[str]:
    found: dict[str, Trouble] = {}
    for about, one in sorted(troubles, key=lambda pair: -pair[1]["since"]):
        found.setdefault(about, one)
    return [f"{printable(one['text'])} ({one['since']:.0f} s)" for one in reversed(found.values())]


def printable(text: str) -> str:
    """``text`` without what would move a terminal's cursor."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _is_trouble(one: object) -> bool:
    return (
        isinstance(one, dict)
        and isinstance(one.get("name"), str)
        and isinstance(one.get("text"), str)
        and isinstance(one.get("since"), int | float)
    )


def _about(trouble: Trouble, child: str) -> str:
    return ABOUT.get(trouble["name"]) or f"{child} {trouble['name']}"
