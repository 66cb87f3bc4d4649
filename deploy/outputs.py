"""Where an annotated stream goes, as it is typed: files by their ending, addresses by their scheme."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from msgspec import structs

from common import config
from common.errors import OutputError, UsageError
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
#: Kinds of files that can be cut into segments.
FILES = ("mp4", "mkv", "ts")
#: Shortest segment, in seconds: outputs have a keyframe every two.
LEAST_SEGMENT_S = 1.0


def output_of(
    text: str,
    segment: float | None = None,
    kind: config.FileKind | config.SentKind | None = None,
    writes: bool = True,
) -> config.Output:
    """An output as it is typed: a file, a folder for HLS, an address. ``kind``: not what its ending says. ``writes``:
    this machine writes it, and the disk is looked at.

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
    _check_segment(segment)
    if kind == "hls" and writes:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"the folder {path.parent} cannot be made: {error.strerror}") from None
    if writes and "%" not in str(path.parent):
        check_output_file(path)
    if kind == "jsonl":
        segment = None
    return config.Output(path=str(path), kind=kind, segment=segment)


def share_segment(outputs: Sequence[config.Output], segment: float | None) -> list[config.Output]:
    """``segment`` is given for all ``outputs`` that have none of their own: it is the length of files, and of HLS only
    where there are no files. Players wait for a whole segment, and recordings are cut into long ones.

    Raises UsageError.
    """
    _check_segment(segment)
    kinds = FILES if any(output.kind in FILES for output in outputs) else ("hls",)
    return [
        structs.replace(output, segment=segment) if output.segment is None and output.kind in kinds else output
        for output in outputs
    ]


def _check_segment(segment: float | None) -> None:
    if segment is not None and segment < LEAST_SEGMENT_S:
        raise UsageError(f"a segment must be at least {LEAST_SEGMENT_S:.0f} s")
