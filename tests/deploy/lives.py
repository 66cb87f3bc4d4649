"""Streams, and what their parts say, for tests of what the command makes of it."""

from __future__ import annotations

from typing import Any

from common import config
from deploy.ailing import Ailing
from deploy.children import Said
from deploy.display import RunDisplay
from deploy.streams import Streams, part_of

Trouble = dict[str, Any]


def stream(name: str, **fields: Any) -> config.Stream:
    known: dict[str, Any] = {"source": f"rtsp://u:secret@host/{name}", "model": "echo", "mode": "live"}
    outputs = [config.Output(path=f"{name}.mp4", kind="mp4")]
    return config.Stream(**{"name": name, "outputs": outputs, **known, **fields})


def trouble(name: str, text: str = "", since: float = 3.0) -> Trouble:
    return {"name": name, "text": text or name, "since": since}


def result(name: str, frames: int = 9, error: str = "", reasons: dict[str, int] | None = None, **states: int) -> Any:
    """What the sink closes a stream with; where no states are given all are annotated."""
    found = {state: count for state, count in (states or {"annotated": frames}).items() if count}
    return {
        "event": "closed", "stream": name, "frames": frames, "states": found, "reasons": reasons or {}, "repairs": {},
        "parts": [f"{name}.mp4"], "error": error,
    }  # fmt: skip


class Scene:
    """The streams of a run, heard as the run hears them, and a clock that the test moves."""

    def __init__(self, *names: str, display: RunDisplay | None = None, now: float = 100.0, **fields: Any) -> None:
        self.now = now
        self.streams = Streams([stream(name, **fields) for name in names], now)
        self.ailing = Ailing()
        self.display = display

    def say(self, child: str, record: dict[str, Any]) -> None:
        said = Said(child, "status", record)
        if "troubles" in record:
            self.ailing.hear(child, record["troubles"], self.now)
        self.streams.hear(child, record, self.now)
        if self.display is not None:
            self.display.said(said)

    def open(self, name: str, frames: int | None = 100) -> None:
        """The stream's source is open."""
        self.say(part_of(name), {
            "event": "source", "stream": name, "width": 64, "height": 48, "rate": 25.0, "frames": frames, "sound": [],
        })  # fmt: skip

    def produce(self, name: str, *troubles: Trouble, state: str = "up", why: str = "", **fields: Any) -> None:
        source = {"state": state, "why": why, "since": 5.0}
        known = {"stream": name, "source": source, "in_flight": 7, "waits_for": "", "troubles": list(troubles)}
        self.say(part_of(name), {"event": "progress", **known, **fields})

    def show(self, name: str, frames: int, *troubles: Trouble, durable: int = 0, **states: int) -> None:
        """The sink has finished so many frames."""
        known = {"stream": name, "frames": frames, "resolved": frames, "durable": durable, "epoch": 1}
        self.say("sink", {"event": "progress", **known, "states": states or {"annotated": frames},
                          "troubles": list(troubles)})  # fmt: skip

    def part(self, child: str, *troubles: Trouble) -> None:
        self.say(child, {"event": "progress", "troubles": list(troubles)})
