"""A model of the user's that goes wrong: its frames fail with a reason, the others do not, and the run ends."""

from __future__ import annotations

import textwrap
import zipfile
from pathlib import Path

import pytest
import torch

from tests.integration.test_bad_input import PROMPT_S, refused, said_last
from tests.marks import slow
from tests.support import NUMBER_BITS, NUMBER_ROW, Place, ledger, lines, numbered_clip, numbers

FRAMES = 24
#: A model that reads the number in each picture, so that it can go wrong at a certain one. ``{body}`` sees ``picture``
#: and its number ``n``, and may return something else than Findings.
SOURCE = """
import os, signal, sys, threading, time
import numpy as np
from workers.model import Detection, Findings, InputSpec

class Model:
    input = InputSpec(width=320, height=180)

    def setup(self, device):
        {setup}

    def predict(self, pictures):
        found = []
        for picture in pictures:
            row = picture[int(picture.shape[0] * {row})]
            n = sum(int(row[int((bit + 0.5) * row.shape[0] / {bits}), 0] > 127) << bit for bit in range({bits}))
            result = Findings([Detection("number", 0.5, (0, 0, 10, n + 1))])
{body}
            found.append(result)
        {after}
        return found
"""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return numbered_clip(tmp_path_factory.mktemp("clip") / "clip.mkv", FRAMES)


def write_model(place: Place, body: str = "pass", setup: str = "pass", after: str = "pass") -> None:
    text = SOURCE.format(
        body=textwrap.indent(textwrap.dedent(body).strip(), " " * 12),
        setup=setup,
        after=after,
        row=NUMBER_ROW,
        bits=NUMBER_BITS,
    )
    (place.folder / "mine.py").write_text(text)


def check_all_but(place: Place, bad: dict[int, str]) -> None:
    """Every frame is written once, in order; those of ``bad`` failed for their reason, the others show their number."""
    told = lines(place.folder / "out.jsonl")
    assert [line["index"] for line in told] == list(range(FRAMES))
    assert {line["index"]: line.get("reason") for line in told if line["state"] != "annotated"} == bad
    for line in told:
        if line["state"] == "annotated":
            (found,) = line["detections"]
            assert found["box"][3] == line["index"] + 1, "the findings are another frame's"
    assert numbers(place.folder / "out.mp4") == list(range(FRAMES))
    assert ledger(place.folder / "out.mp4")["frames"] == FRAMES


OUTPUTS = ("-o", "out.mp4", "-o", "out.jsonl", "--model", "mine:Model")


def test_a_model_that_is_only_noisy(place: Place, clip: Path) -> None:
    """It prints, logs, warns, and leaks threads: the run is as good as any, and its end is prompt."""
    write_model(
        place,
        body="print('picture', n, flush=True)",
        setup="[threading.Thread(target=time.sleep, args=(600,)).start() for _ in range(3)]; print('{\"message\": 5}')",
        after="sys.stderr.write('no line end'); import warnings; warnings.warn('look out')",
    )
    ran = place.run("run", clip, *OUTPUTS, timeout=PROMPT_S)
    assert ran.code == 0, ran
    check_all_but(place, {})
    assert "picture" not in ran.out, "standard output is the ledger's"
    assert "picture 7" in ran.err  # perhaps after what has no end of its line: both go through one pipe


def test_frames_that_raise_or_get_nonsense(place: Place, clip: Path) -> None:
    """Each way to go wrong fails its own frame alone, and the message comes once, not once a frame."""
    write_model(
        place,
        """
        if n == 2: raise ValueError("boom\\nat picture two")
        if n == 4: result = Findings([Detection("a", float("nan"), (0, 0, 1, 1))])
        if n == 6: result = Findings([Detection("a", 0.5, (900, 900, 950, 950))])
        if n == 8: found.append(result)
        if n == 10: result = "nothing"
        if n == 12: result = Findings([Detection("a", "high", (0, 0, 1, 1))])
        if n == 14: result = Findings(["a"])
        if n == 16: sys.exit("enough")
        if n == 18: raise KeyboardInterrupt
        if n == 20: result = Findings([Detection("a", 0.5, np.array([[0, 0], [1, 1]]))])
        """,
    )
    ran = place.run("run", clip, *OUTPUTS)
    assert ran.code == 1, ran
    check_all_but(place, dict.fromkeys(range(2, 21, 2), "model_error"))
    assert said_last(ran) == "headrace: 10 failed of 24 frames (model_error 10)"
    assert ran.err.count("failed: model_error") == 1, ran.err
    assert "sink: frame 2 failed: model_error: model mine:Model raised ValueError: boom at picture two" in ran.err
    assert "died" not in ran.err, "no worker was lost over it"


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), signal.SIGKILL)", slow("os.abort()")])
def test_poison(place: Place, clip: Path, end: str) -> None:
    """A frame that kills its worker is given up after three attempts; the worker is started again each time."""
    write_model(place, f"if n == 7: {end}")
    ran = place.run("run", clip, *OUTPUTS)
    assert ran.code == 1, ran
    check_all_but(place, {7: "poison"})
    assert said_last(ran) == "headrace: 1 failed of 24 frames (poison 1)"
    # A worker that dies within microseconds may take its word that it has started with it: that attempt is not counted.
    assert 3 <= ran.err.count("worker-1 died") <= 6, ran.err
    assert "frame 7 failed: poison" in ran.err


@pytest.mark.slow
def test_a_model_that_kills_every_worker(place: Place, clip: Path) -> None:
    """The run does not try for ever."""
    write_model(place, "os._exit(3)")
    ran = place.run("run", clip, *OUTPUTS)
    assert ran.code == 5, ran
    assert "died 6 times without having worked, the last time: exit code 3" in said_last(ran)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("raise OSError('no weights here')", "importing mine failed: OSError: no weights here"),
        slow("raise SystemExit('leave')", "leave"),
        slow("class Model:\n  def setup(self, device): pass", "lacks predict()"),
        ("class Model:\n  def __init__(self): 1/0\n  setup = predict = __init__", "Model() failed: ZeroDivisionError"),
    ],
)
def test_a_module_that_is_no_model(place: Place, clip: Path, text: str, words: str) -> None:
    (place.folder / "mine.py").write_text(text)
    ran = place.run("run", clip, *OUTPUTS, timeout=PROMPT_S)
    assert ran.code == 5, ran
    (last,) = [line for line in ran.err.splitlines() if line.startswith("headrace: ")]
    assert last.startswith("headrace: model 'mine:Model'"), last
    assert words in last
    assert "Traceback" not in ran.err
    assert not list(place.folder.glob("out.*")), "no output was begun"


@pytest.mark.parametrize("what", ["raise RuntimeError('no\\nmemory')", slow("sys.exit('no memory')")])
def test_setup_fails(place: Place, clip: Path, what: str) -> None:
    write_model(place, setup=what)
    ran = place.run("run", clip, *OUTPUTS, timeout=PROMPT_S)
    assert ran.code == 5, ran
    (last,) = [line for line in ran.err.splitlines() if line.startswith("headrace: ")]
    assert "model 'mine:Model' cannot be set up" in last
    assert "memory" in last
    assert not list(place.folder.glob("out.*")), "no output was begun"


def test_files_that_are_no_program(place: Place, clip: Path) -> None:
    """Refused before anything starts, each with what it is, and none is unpickled."""
    torch.save(torch.nn.Linear(2, 2).state_dict(), place.folder / "weights.pt")
    with zipfile.ZipFile(place.folder / "some.pt2", "w") as archive:
        archive.writestr("a.txt", "a")
    (place.folder / "noise.pt2").write_bytes(bytes(range(256)) * 20)
    for name, words in {
        "weights.pt": "pickled by torch.save",
        "some.pt2": "a zip archive without",
        "noise.pt2": "not an exported program",
        ".": "is a folder",
    }.items():
        ran = place.run("run", clip, "-o", "out.mp4", "--model", f"torch:{name}", timeout=PROMPT_S)
        refused(ran, 5, f"torch:{name}", words)
