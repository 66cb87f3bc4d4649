"""Devices, weights and pictures for the torch models: torch's errors become ModelError here."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from common.errors import ModelError
from workers.model import Pictures

#: Folder with the networks' parameters, float16 safetensors; NOTICE names their origin and licences.
WEIGHTS = Path(__file__).resolve().parent.parent / "weights"

#: Pictures that go through a network together on a CPU. More are no faster there, and the layers between take memory
#: for each: batches of 16 cost 200 MB more with ``face``, 500 MB with ``objects``.
CPU_PART = 4

Net = TypeVar("Net", bound=nn.Module)
Found = TypeVar("Found")


def open_device(name: str) -> torch.device:
    """``cpu`` or ``cuda:N`` → the device. Raises ModelError where torch cannot use it."""
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0][:200]
        raise ModelError(f"device {name!r} cannot be used ({reason}): choose another with --device, as cpu") from None
    return device


def precision(device: torch.device) -> torch.dtype:
    """float16 where it is faster, float32 on a CPU."""
    return torch.float16 if device.type == "cuda" else torch.float32


def load_weights(net: Net, path: Path, device: torch.device) -> Net:
    """``net`` with the parameters of the file ``path``, on ``device``, channels last, ready to infer."""
    try:
        net.load_state_dict(load_file(os.fspath(path)))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0][:200]
        raise ModelError(f"weights {path} cannot be loaded ({reason}): install headrace again") from None
    # channels_last is both what the pictures arrive in and the faster layout for small convolutions.
    net.eval().requires_grad_(False).to(device=device, dtype=precision(device))
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def to_tensor(pictures: Pictures, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """uint8 N × H × W × 3 → ``dtype`` N × 3 × H × W, still 0…255; a view of channels-last memory, copied once."""
    # from_numpy wants writable memory; np.require copies only where it is not.
    whole = torch.from_numpy(np.require(pictures, np.uint8, ["C", "W"]))
    return whole.to(device, non_blocking=True).permute(0, 3, 1, 2).to(dtype)


def in_parts(find: Callable[[Pictures], list[Found]], pictures: Pictures, device: torch.device) -> list[Found]:
    """``find`` over all pictures, in as many calls as suit the device; results in order."""
    step = CPU_PART if device.type == "cpu" else max(1, len(pictures))
    return [one for at in range(0, len(pictures), step) for one in find(pictures[at : at + step])]
