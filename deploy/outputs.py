"""Where an annotated stream goes, as it is typed: files by their ending, addresses by their scheme."""

from __future__ import annotations

import os
import re
from pathlib import Path

from common import config
from common.errors import UsageError
from common.files import check_output_file
from common.log import mask

#: Ending → kind of output.
KINDS: dict[str, config.FileKind | config.SentKind] = {
    ".mp4": "mp4", ".m4v": "mp4", ".mov": "mp4", ".mkv": "mkv", ".ts": "ts", ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".m3u8": "hls",
}  # fmt: skip
#: Scheme of an address → kind of output.
SCHEMES: dict[str, config.SentKind] = {
    "rtmp": "rtmp", "rtmps": "rtmp", "rtsp": "rtsp", "rtsps": "rtsp", "srt": "srt", "udp": "udp",
}  # fmt: skip
#: Name of the playlist where an HLS output is given as a folder, ``live/``.
PLAYLIST = "index.m3u8"
#: Shortest segment, in seconds: outputs have a keyframe every two.
LEAST_SEGMENT_S = 1.0


def output_of(
    text: str, source: Path | None, segment: float | None, kind: config.FileKind | config.SentKind | None = None
) -> config.Output:
    """An output as it is typed: a file, a folder for HLS, an address. ``kind``: not what its ending says.

    Raises UsageError, OutputError.
    """
    scheme, separator, _ = text.partition("://")
    if separator:
        sent = SCHEMES.get(scheme.lower())
        if sent is None:
            raise UsageError(f"{mask(text)}: cannot send to {scheme}://, but to {', '.join(SCHEMES)}")
        if kind not in (None, sent):
            raise UsageError(f"{mask(text)} is not of kind {kind!r}: leave the kind out")
        return config.Output(path=text, kind=sent)
    path = Path(text)
    if text.endswith("/") or (os.path.isdir(text) and path.suffix.lower() not in KINDS):
        path /= PLAYLIST
    kind = kind or KINDS.get(path.suffix.lower())
    if kind is None:
        raise UsageError(f"{text}: the ending says nothing known; use one of {', '.join(sorted(KINDS))}")
    if kind in SCHEMES.values():
        raise UsageError(f"{text} is no address, which kind {kind!r} needs: write {kind}://…")
    if segment is not None and segment < LEAST_SEGMENT_S:
        raise UsageError(f"a segment must be at least {LEAST_SEGMENT_S:.0f} s")
    if kind == "hls":
        path.parent.mkdir(parents=True, exist_ok=True)
    if "%" not in str(path.parent):
        check_output_file(path)
    if source is not None and same_place(str(path), str(source)):
        raise UsageError(f"{text} is the source itself: name another output")
    if kind == "jsonl":
        segment = None
    if source is not None and segment is not None and _is_segment(source, path):
        raise UsageError(f"the source {source} is a segment of {text}, and would be written over: name another output")
    return config.Output(path=str(path), kind=kind, segment=segment)


def _is_segment(source: Path, path: Path) -> bool:
    """Whether ``source`` has the name of a numbered segment of ``path``; those named by time never take a used name."""
    name = re.fullmatch(rf"{re.escape(path.stem)}-[0-9]{{6,}}{re.escape(path.suffix)}", source.name)
    return name is not None and same_place(str(source.parent), str(path.parent))


def same_place(one: str, other: str) -> bool:
    """Whether both name one place: one address, or one file, also through links."""
    if "://" in one or "://" in other:
        return one == other
    if os.path.exists(one) and os.path.exists(other):
        return os.path.samefile(one, other)
    return os.path.realpath(one) == os.path.realpath(other)
