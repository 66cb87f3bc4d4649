"""A network of ultralytics': ``yolo:FILE``, through its public interface alone (``YOLO(FILE).predict``).

A .pt file is a pickle. Newer versions of ultralytics can open one without running what is in it but their own classes;
that is switched on here. Nothing is downloaded, installed or reported by the library in a worker.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from common.errors import ModelError, one_line
from workers.model import Findings, InputSpec, Pictures, Tag
from workers.models.boxes import Boxes
from workers.models.device import in_parts, open_device
from workers.models.labels import Labels
from workers.models.memory import is_out_of_memory
from workers.models.yolo_check import check_file, check_package, risk

#: Read by ultralytics when it is imported. Whoever has set one otherwise keeps it.
ENVIRONMENT = {
    "ULTRALYTICS_SAFE_LOAD": "true",  # .pt files: known classes only (torch.load's weights_only)
    "YOLO_AUTOINSTALL": "false",
    "YOLO_OFFLINE": "true",
    "YOLO_VERBOSE": "false",
}
#: Least score, as in ultralytics.
THRESHOLD = 0.25
#: Side where the file names none, and what sides are rounded up to, in pixels.
SIDE, STRIDE = 640, 32

log = logging.getLogger(__name__)


class YoloFile:
    """The model ``yolo:FILE``. Raises ModelError where ultralytics cannot open or run the file.

    ``threshold``: least score of a finding, 0…1.
    """

    def __init__(self, path: str, threshold: float | None = None) -> None:
        check_package()
        check_file(path)
        self._name, self._path, self._threshold = f"yolo:{path}", path, threshold
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        try:
            package = importlib.import_module("ultralytics")
        except Exception as error:  # noqa: BLE001 - whatever a foreign package raises
            self._refuse(f"ultralytics cannot be imported: {one_line(error)}")
        self._warn()
        try:
            self._net = package.YOLO(os.path.abspath(path))
        except Exception as error:  # noqa: BLE001 - a foreign file may raise anything
            self._refuse(f"cannot be opened by ultralytics {package.__version__}: {one_line(error)}")
        #: An exported file takes one size and scales to it by itself; another network takes the size that it is given.
        self._exported = not path.endswith(".pt")
        width, height = _size(getattr(self._net, "overrides", {}).get("imgsz"))
        self.input = InputSpec(width=width, height=height)
        self._one_by_one = False

    def setup(self, device: str) -> None:
        self._device, self._device_name = open_device(device), device
        black = np.zeros((2, self.input.height, self.input.width, 3), np.uint8)
        if self._exported:
            try:
                self._find(black)
            except ModelError as error:
                # Exported for one picture at a time, if it can be run at all; short memory is the batches' matter.
                self._one_by_one = not is_out_of_memory(error)
        self._find(black[:1])
        if self._exported:  # known only now
            width, height = _size(getattr(getattr(self._net, "predictor", None), "imgsz", None))
            self.input = InputSpec(width=width, height=height)

    def predict(self, pictures: Pictures) -> list[Findings]:
        if self._one_by_one:
            return [self._find(pictures[n : n + 1])[0] for n in range(len(pictures))]
        return in_parts(self._find, pictures, self._device)

    def _find(self, pictures: Pictures) -> list[Findings]:
        height, width = pictures.shape[1:3]
        # Given a larger picture (--send-size), the network looks at it as it is.
        size = {} if self._exported else {"imgsz": [-(-side // STRIDE) * STRIDE for side in (height, width)]}
        given = [np.ascontiguousarray(one[..., ::-1]) for one in pictures]  # BGR, as cv2 reads pictures
        least = THRESHOLD if self._threshold is None else self._threshold
        try:
            results = self._net.predict(given, conf=least, device=self._device_name, verbose=False, save=False, **size)
        except Exception as error:  # noqa: BLE001 - a foreign network may raise anything
            self._refuse(f"failed on {len(given)} pictures: {one_line(error)}")
        if len(results) != len(given):
            self._refuse(f"returned {len(results)} results for {len(given)} pictures")
        return [self._findings(one, width, height) for one in results]

    def _findings(self, result: Any, width: int, height: int) -> Findings:
        """One ``ultralytics.engine.results.Results``; masks are left out."""
        labels = Labels(result.names)
        if result.probs is not None:
            pairs = zip(result.probs.top5, _array(result.probs.top5conf).tolist(), strict=True)
            least = self._threshold or 0.0
            return Findings(tags=[Tag(labels[int(number)], score) for number, score in pairs if score >= least])
        turned = getattr(result, "obb", None)
        found = result.boxes if turned is None else turned
        if found is None:
            return Findings()
        boxes = _array(found.xyxy).reshape(-1, 4)
        points = np.zeros((len(boxes), 0, 2), np.float32)
        if turned is not None and len(boxes):
            points = _array(turned.xyxyxyxy)  # a turned box: its corners are the points
        elif result.keypoints is not None and len(boxes):
            points = _array(result.keypoints.data)[..., :2]
        scores, classes = _array(found.conf), _array(found.cls).astype(np.int64)
        return Boxes(boxes, scores, classes, points).findings(labels, width, height)

    def _warn(self) -> None:
        """Say it where opening the file may run what is in it."""
        utils: Any = importlib.import_module("ultralytics.utils")
        safe = self._path.endswith(".pt") and getattr(utils, "SAFE_LOAD", False)
        if (text := risk(self._path)) and not safe:
            log.warning("%s", text)

    def _refuse(self, what: str) -> NoReturn:
        raise ModelError(f"model {self._name}: {what}") from None


def _array(values: Any) -> np.ndarray:
    """A tensor on any device, or an array, → float32."""
    return np.asarray(values.cpu() if hasattr(values, "cpu") else values, np.float32)


def _size(imgsz: object) -> tuple[int, int]:
    """Width and height of ultralytics' ``imgsz``: a side, or height and width."""
    sides: Sequence[object] = [imgsz, imgsz] if isinstance(imgsz, int) else imgsz if isinstance(imgsz, list) else []
    if len(sides) != 2:
        return SIDE, SIDE
    height, width = (-(-side // STRIDE) * STRIDE if isinstance(side, int) and side > 0 else SIDE for side in sides)
    return width, height
