"""``python -m tests.fuzz``: fuzz for as long as is asked, from a seed that is printed. Ends with 1 at a find."""

from __future__ import annotations

import argparse
import random
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from common.media import UncarriedCodec
from tests.fuzz.headers import Headers
from tests.fuzz.media import BAD, Media, Sink, counts_in, honest
from tests.fuzz.memory import settled
from tests.fuzz.pictures import Pictures
from tests.fuzz.speech import Speech, speech_of
from tests.support import make_clip

#: Name → how ffmpeg makes the picture, and the sound.
CLIPS = {
    "h264.mp4": ("-c:v libx264 -bf 2 -g 8 -pix_fmt yuv420p", "-c:a aac"),
    "h264-422-10.mkv": ("-c:v libx264 -pix_fmt yuv422p10le -g 8", "-c:a libvorbis"),
    "h264-444.mkv": ("-c:v libx264 -pix_fmt yuv444p", "-c:a pcm_mulaw -ar 8000"),
    "hevc.mkv": ("-c:v libx265 -x265-params log-level=none:keyint=8", "-c:a ac3"),
    "mpeg2.ts": ("-c:v mpeg2video -bf 2", "-c:a mp2"),
    "vp9.webm": ("-c:v libvpx-vp9 -cpu-used 8", "-c:a libopus"),
    "vp8.webm": ("-c:v libvpx -cpu-used 8", "-c:a libopus"),
    "mjpeg.avi": ("-c:v mjpeg -pix_fmt yuvj422p", "-c:a pcm_s16le"),
    "mpeg4.avi": ("-c:v mpeg4 -bf 2", "-c:a libmp3lame"),
    "prores.mov": ("-c:v prores_ks", "-c:a pcm_s24le"),
    "ffv1.mkv": ("-c:v ffv1", "-c:a flac"),
    "png.mov": ("-c:v png", "-c:a alac"),
}
MIB = 2**20


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, help="repeat a run")
    parser.add_argument("--only", choices=("headers", "pictures", "media"))
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    runs: dict[str, Callable[[int, float], None]] = {"headers": _headers, "pictures": _pictures, "media": _media}
    chosen = [options.only] if options.only else list(runs)
    for name in chosen:
        try:
            runs[name](seed, time.monotonic() + options.minutes * 60 / len(chosen))
        except Exception:  # noqa: BLE001  whatever it is, it is the find
            traceback.print_exc()
            print(f"found by: python -m tests.fuzz --only {name} --seed {seed}", flush=True)
            return 1
    return 0


def _headers(seed: int, end: float) -> None:
    target = Headers(seed)
    _repeat("headers", lambda: target.throw(20_000), settled, end)
    print(dict(target.counts))


def _pictures(seed: int, end: float) -> None:
    target = Pictures(seed)
    _repeat("pictures", lambda: target.throw(4_000), settled, end)
    print(dict(target.counts), f"slowest {target.slowest:.3f} s of CPU")


def _media(seed: int, end: float) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        speeches = _speeches(folder)
        sink = Sink(folder)
        try:
            target = Media(seed, sink, speeches)
            _repeat("media", lambda: target.throw(40), lambda: sink.memory, end)
            closed = honest(sink, speeches[0], "last")
            assert closed.states == {"annotated": speeches[0].frames}, closed
        finally:
            sink.close()
        assert sink.process.returncode == 0, sink.process.returncode
        print(dict(target.counts), dict(counts_in(sink.log)))


def _speeches(folder: Path) -> list[Speech]:
    made = []
    for name, (video, sound) in CLIPS.items():
        try:
            clip = make_clip(folder / name, *video.split(), seconds=1, size="96x64", sound=sound)
            made.append(speech_of(clip, BAD))
        except UncarriedCodec as error:
            print(f"{name} is left out: {error}")
    return made


def _repeat(name: str, throw: Callable[[], None], memory: Callable[[], int], end: float) -> None:
    throw()
    first = memory()
    while time.monotonic() < end:
        throw()
        now = memory()
        print(f"{name}: {now // MIB} MiB, {(now - first) / MIB:+.0f} since the first round", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
