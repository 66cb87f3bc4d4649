"""Your network as an ONNX file: ``onnx:FILE``, run by onnxruntime. No torch.

What it takes is read from the file (onnx_input.py), what it answers is recognised on a first, black picture (heads.py);
what neither tells stands beside it, with ``.model.toml`` for the file's ending (sidecar.py), class names with
``.labels.txt``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from common.errors import ModelError, one_line
from workers.model import Findings, InputSpec, Pictures
from workers.models.heads import Head
from workers.models.labels import Labels, read_labels
from workers.models.memory import is_out_of_memory
from workers.models.onnx_check import check_file
from workers.models.onnx_input import Feed, FormError
from workers.models.sidecar import Facts, read_sidecar

# It is read when onnxruntime is imported: its own builds report to their maker unless told not to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime

#: Pictures that go through together, where the file leaves their number open: on a CPU more are no faster and take
#: memory for each; on a GPU this is beyond any batch.
CPU_PART, GPU_PART = 4, 1024
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
#: What a driver leaves in the file system: an onnxruntime for GPUs may run where there is none.
DRIVER = ("/dev/nvidiactl", "/dev/dxg")

log = logging.getLogger(__name__)


class OnnxFile:
    """The model ``onnx:FILE``. Raises ModelError where the file is no network of a form that is known here.

    ``threshold``: least score of a finding, 0…1.
    """

    def __init__(self, path: str, threshold: float | None = None) -> None:
        self._path, self._name = path, f"onnx:{path}"
        check_file(path)
        self._session = self._open([CPU])
        side = read_sidecar(self._name, Path(path).with_suffix(".model.toml"))
        facts = Facts.of(self._session.get_modelmeta().custom_metadata_map)
        if facts.task == "obb":
            self._refuse("finds turned boxes (obb), which are not read from ONNX: run its .pt file as yolo:FILE")
        try:
            self._feed = Feed.of([(i.name, i.type, i.shape) for i in self._session.get_inputs()], side, facts)
            width, height = self._feed.size(side, facts)
        except FormError as error:
            self._refuse(str(error))
        self.input = InputSpec(width=width, height=height, letterbox=side.letterbox)
        labels = read_labels(self._name, Path(path).with_suffix(".labels.txt")) or facts.labels
        if labels is None:
            log.info("%s: no %s, so labels are numbers", self._name, Path(path).with_suffix(".labels.txt").name)
        self._head = Head(
            labels=labels or Labels(),
            form=side.form,
            corners=side.boxes,
            relative=side.relative,
            threshold=threshold,
            nms=side.nms,
            points=side.points or facts.points or (0, 2),
            classes=len(facts.labels) if facts.labels else 0,
        )  # what is open is settled by setup()
        self._outputs = [one.name for one in self._session.get_outputs()]
        self._most = CPU_PART

    def best_device(self) -> str:
        """What ``auto`` means for this model."""
        there = CUDA in onnxruntime.get_available_providers() and any(map(os.path.exists, DRIVER))
        return "cuda:0" if there else "cpu"

    def setup(self, device: str) -> None:
        if device != "cpu":
            self._session = self._open_cuda(device)
            self._most = GPU_PART
        self._most = self._feed.batch or self._most
        width, height = self.input.width, self.input.height
        black = np.zeros((1, height, width, 3), np.uint8)
        count = self._feed.batch or 1
        x = self._feed.prepare(black, count)
        tall, wide = x.shape[2:] if self._feed.channels_first else x.shape[1:3]
        answer = self._run(x)
        try:
            self._head = self._head.settled(answer, count, wide, tall)
            if self._feed.batch is None and self._most > 1 and not self._batches(black):
                log.info("%s: takes one picture at a time", self._name)
                self._most = 1
        except FormError as error:
            self._refuse(str(error))
        log.info("%s: answers are read as %s, on %s", self._name, self._head.form, self._session.get_providers()[0])

    def predict(self, pictures: Pictures) -> list[Findings]:
        height, width = pictures.shape[1:3]
        if not self._feed.takes(width, height):
            want = f"{self.input.width}x{self.input.height}"
            self._refuse(f"was exported for {want} pictures and cannot take {width}x{height}: leave --send-size out")
        found: list[Findings] = []
        for start in range(0, len(pictures), self._most):
            part = pictures[start : start + self._most]
            count = self._feed.batch or len(part)
            x = self._feed.prepare(part, count)
            tall, wide = x.shape[2:] if self._feed.channels_first else x.shape[1:3]
            try:
                found += self._head.findings(self._run(x), count, wide, tall)[: len(part)]
            except FormError as error:
                self._refuse(str(error))
        return found

    def _batches(self, black: Pictures) -> bool:
        """Whether two pictures at a time come out as two: an open N does not promise it.

        Where memory is short for two, that is left to whoever makes the batches.
        """
        x = self._feed.prepare(np.repeat(black, 2, axis=0), 2)
        tall, wide = x.shape[2:] if self._feed.channels_first else x.shape[1:3]
        try:
            return len(self._head.findings(self._run(x), 2, wide, tall)) == 2
        except (FormError, ModelError) as error:
            return is_out_of_memory(error)

    def _run(self, x: np.ndarray) -> dict[str, np.ndarray]:
        try:
            answer = self._session.run(self._outputs, {self._feed.name: x})
        except Exception as error:  # noqa: BLE001 - onnxruntime's errors have no common type
            self._refuse(f"failed on {len(x)} pictures of {x.shape}: {one_line(error)}")
        if not all(isinstance(one, np.ndarray) for one in answer):
            self._refuse("returned lists or maps: tensors are wanted (with skl2onnx: zipmap=False)")
        return dict(zip(self._outputs, answer, strict=True))

    def _open_cuda(self, device: str) -> Any:
        """A session on ``cuda:N``; onnxruntime alone would fall back to the CPU without a word."""
        kind, _, number = device.partition(":")
        other = "choose --device cpu"
        if kind != "cuda" or not (number or "0").isdigit():
            self._refuse(f"device {device!r} is not known here: {other}, or cuda:N")
        if CUDA not in onnxruntime.get_available_providers():
            self._refuse(f"this onnxruntime has no CUDA: pip install onnxruntime-gpu in its place, or {other}")
        if hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()  # finds CUDA's libraries where pip has put them
        session = self._open([(CUDA, {"device_id": int(number or 0)}), CPU])
        if session.get_providers()[0] != CUDA:
            self._refuse(f"device {device!r} cannot be used (CUDA's or cuDNN's libraries are missing?): {other}")
        return session

    def _open(self, providers: Sequence[Any]) -> Any:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what is wrong is raised too
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or 0)
        # As for OpenMP: threads that spin take the cores from the decoder and the encoder.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = onnxruntime.InferenceSession(self._path, options, providers=list(providers), enable_fallback=0)
            session.disable_fallback()  # nothing goes on on the CPU without a word
            return session
        except Exception as error:  # noqa: BLE001 - onnxruntime's errors have no common type
            self._refuse(f"cannot be opened by onnxruntime {onnxruntime.__version__}: {one_line(error)}")

    def _refuse(self, what: str) -> NoReturn:
        raise ModelError(f"model {self._name}: {what}") from None
