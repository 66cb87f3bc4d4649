"""systemd's unit files of deploy/systemd, as tests read them."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "deploy" / "systemd"
#: The one for one fleet, and the template for several.
UNITS = (FOLDER / "headrace.service", FOLDER / "headrace@.service")


def read_unit(path: Path) -> dict[str, list[str]]:
    """All keys, whatever their section: no key of ours stands in two."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            found[key].append(value)
    return dict(found)
