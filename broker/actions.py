"""What the dispatcher is told, and what it asks of its shell."""

from __future__ import annotations

from dataclasses import dataclass

from common.messages import Expired, Frame, GaveUp, ToBroker, Who, Work

# -- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Arrived:
    """A producer sent a frame."""

    frame: Frame
    payload: bytes


@dataclass(frozen=True, slots=True)
class Heard:
    """The worker behind ``route`` (a routing id) said something."""

    route: bytes
    message: ToBroker


@dataclass(frozen=True, slots=True)
class Gone:
    """Nobody is behind ``route`` any more."""

    route: bytes


@dataclass(frozen=True, slots=True)
class Unsent:
    """A SendWork could not be done, since the queue to the worker is full."""

    lease: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Time goes by; several a second."""


Event = Arrived | Heard | Gone | Unsent | Tick

# -- actions ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SendWork:
    route: bytes
    work: Work
    payload: bytes


@dataclass(frozen=True, slots=True)
class SendWho:
    route: bytes
    who: Who


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell the sink of that name."""

    sink: str
    message: GaveUp | Expired


@dataclass(frozen=True, slots=True)
class Log:
    """For the log; what happens often is only counted."""

    text: str
    worker: str | None = None
    stream: str | None = None
    warning: bool = False
    epoch: int | None = None
    index: int | None = None


Action = SendWork | SendWho | Tell | Log
