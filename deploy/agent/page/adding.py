"""A stream as the page, or another program, asks for it: checked like one that is typed or stands in the file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from common import config
from common.errors import UsageError
from deploy import spec
from deploy.file.streams import from_base
from deploy.fleetfile import SCALED
from deploy.outputs import output_of, share_segment
from deploy.text import check_text

#: Most outputs of one stream.
MAX_OUTPUTS = 16
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
#: Seconds, or text such as ``300ms``.
Time = Annotated[str, msgspec.Meta(max_length=32)] | Annotated[float, msgspec.Meta(ge=0)]


class NewStream(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is left out is chosen to suit the source and the fleet, as with ``headrace streams add``."""

    source: Text
    outputs: Annotated[list[Text], msgspec.Meta(min_length=1, max_length=MAX_OUTPUTS)]
    name: config.Title | None = None
    model: config.Title | None = None
    mode: Literal["lossless", "live"] | None = None
    latency: Time | None = None
    every: config.Positive | None = None
    fps: config.Rate | None = None
    realtime: bool = False
    loop: bool = False
    placeholder: bool = False
    transport: Literal["tcp", "udp"] | None = None
    segment: Time | None = None


def stream_of(asked: NewStream, fleet: config.Fleet, roles: list[str], base: Path, folder: Path) -> config.Stream:
    """Paths start at ``base``; what nobody else is to see of the stream lies in ``folder``. Looks at files.

    Raises HeadraceError.
    """
    if asked.source == "-":
        raise UsageError("a node has no standard input: name a file or an address")
    raw: dict[str, Any] = {key: value for key, value in msgspec.to_builtins(asked).items() if value is not None}
    for text in (asked.source, *asked.outputs):
        check_text(text)
        if not text.isprintable():
            raise UsageError(f"{text!r} holds characters that cannot be shown")
    texts = raw.pop("outputs")
    segment = _seconds(raw.pop("segment", None))
    if "latency" in raw:
        raw["latency"] = _seconds(raw["latency"])
    placed = from_base({**raw, "outputs": [{"path": text} for text in texts]}, base)
    writes = "sink" in roles
    outputs = [output_of(one["path"], writes=writes) for one in placed.pop("outputs")]
    # Room for workers that come later: it cannot be changed while the stream runs.
    workers = msgspec.structs.replace(fleet.workers, count=max(SCALED, fleet.workers.count))
    try:
        return spec.complete(placed, share_segment(outputs, segment), workers, folder, "producers" in roles, writes)
    except msgspec.ValidationError as error:
        raise UsageError(str(error)) from None


def _seconds(given: str | float | None) -> float | None:
    return spec.seconds(given) if isinstance(given, str) else given
