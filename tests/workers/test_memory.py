"""Which errors say that memory was short: the real ones, raised by the libraries themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from common.errors import ModelError
from tests.workers.onnx_graphs import Graph
from workers.models.memory import is_out_of_memory, release
from workers.models.onnx_file import onnxruntime

#: More than any machine has, and than 48 bits of address can name.
MUCH = 1 << 50


def by_onnxruntime(folder: Path) -> None:
    graph = Graph((1,))
    size = graph.constant([MUCH], np.int64)
    path = graph.save(folder / "x.onnx", graph.add("Expand", graph.x, size, name="y"))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    session.run(None, {"images": np.zeros(1, np.float32)})


def wrapped(folder: Path) -> None:
    try:
        torch.empty(MUCH)
    except RuntimeError:
        raise ModelError("model x: failed") from None


def twice(folder: Path) -> None:
    try:
        wrapped(folder)
    except ModelError as error:
        raise ValueError("the model does not answer") from error


def gpu(folder: Path) -> None:
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")


def cublas(folder: Path) -> None:
    raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


@pytest.mark.parametrize(
    "act",
    [
        lambda folder: torch.empty(MUCH),
        lambda folder: np.empty(MUCH, np.uint8),
        lambda folder: bytearray(MUCH),
        lambda folder: cv2.copyMakeBorder(np.zeros((1, 1), np.uint8), 0, 2**30, 0, 2**30, cv2.BORDER_CONSTANT),
        by_onnxruntime,
        wrapped,
        twice,
        gpu,
        cublas,
    ],
)
def test_memory_that_was_short_is_known_as_such(tmp_path: Path, act: Callable[[Path], object]) -> None:
    with pytest.raises(Exception) as caught:
        act(tmp_path)
    assert is_out_of_memory(caught.value), repr(caught.value)


def unlike() -> list[BaseException]:
    found: list[BaseException] = []
    for act in (
        lambda: torch.zeros(2) @ torch.zeros(3),
        lambda: np.zeros(2) + np.zeros(3),
        lambda: Path("/nowhere/at/all").read_text(),
        lambda: onnxruntime.InferenceSession(b"no model"),
        lambda: cv2.resize(np.zeros((0, 0), np.uint8), (3, 3)),
    ):
        with pytest.raises(Exception) as caught:
            act()
        found.append(caught.value)
    return [*found, SystemExit("out of memory"), KeyboardInterrupt(), ModelError("no weights")]


def test_other_errors_are_not() -> None:
    for error in unlike():
        assert not is_out_of_memory(error), repr(error)


def test_a_chain_without_an_end_is_looked_at_for_a_while() -> None:
    one, other = ValueError("a"), ValueError("b")
    one.__cause__, other.__cause__ = other, one
    assert not is_out_of_memory(one)


def test_giving_back_does_no_harm_without_a_gpu() -> None:
    release()
