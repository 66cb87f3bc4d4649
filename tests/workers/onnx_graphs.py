"""Small ONNX networks that the tests make: each finds something that can be said exactly of a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Size = int | str

#: Types by their short names.
TYPES = {"float": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}


class Graph:
    """``add`` appends a node and returns its output's name; ``save`` writes the file."""

    def __init__(self, shape: Sequence[Size], kind: str = "float", name: str = "images") -> None:
        self.input = helper.make_tensor_value_info(name, TYPES[kind], shape)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.x = name

    def constant(self, values: object, dtype: type = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def add(self, kind: str, *inputs: str, name: str = "", **attributes: object) -> str:
        output = name or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def save(
        self, path: Path, *outputs: str, kinds: Mapping[str, int] | None = None, meta: Mapping[str, str] | None = None
    ) -> Path:
        infos = [
            helper.make_tensor_value_info(name, (kinds or {}).get(name, TensorProto.FLOAT), None) for name in outputs
        ]
        graph = helper.make_graph(self.nodes, "g", [self.input], infos, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        if meta:
            helper.set_model_props(model, dict(meta))
        onnx.save(model, path)
        return path


def bright(graph: Graph, channels_last: bool = False) -> str:
    """N × H × W: 1 where a pixel's brightness is over a half (inputs 0 … 1), else 0."""
    mean = graph.add("ReduceMean", graph.x, axes=[3 if channels_last else 1], keepdims=0)
    return graph.add("Cast", graph.add("Greater", mean, graph.constant(0.5)), to=TensorProto.FLOAT)


def square(
    path: Path,
    shape: Sequence[Size] = ("n", 3, 64, 64),
    names: Sequence[str] = ("boxes", "scores", "labels"),
    plain: bool = False,
) -> Path:
    """The box around everything bright, of class 1: the form ``boxes``.

    ``plain``: without the pictures' axis, as torchvision's detectors answer; right for N = 1 only.
    """
    graph = Graph(shape)
    mask = bright(graph, channels_last=shape[3] == 3)
    sides = []
    for axis, last in ((1, 0), (2, 0), (1, 1), (2, 1)):  # x0, y0, x1, y1: the line is along the other axis
        line = graph.add("ReduceMax", mask, axes=[axis], keepdims=0)
        at = graph.add("ArgMax", line, axis=1, keepdims=1, select_last_index=last)
        sides.append(graph.add("Add", graph.add("Cast", at, to=TensorProto.FLOAT), graph.constant(float(last))))
    flat = graph.add("Concat", *sides, axis=1)
    score = graph.add("ReduceMax", mask, axes=[1, 2], keepdims=0)
    label = graph.add("Cast", graph.add("Add", graph.add("Mul", score, graph.constant(0)), graph.constant(1)), to=7)
    if plain:
        found = [graph.add("Identity", one, name=name) for one, name in zip((flat, score, label), names, strict=True)]
    else:
        one = graph.constant([1], np.int64)
        found = [graph.add("Unsqueeze", x, one, name=name) for x, name in zip((flat, score, label), names, strict=True)]
    return graph.save(path, *found, kinds={names[2]: TensorProto.INT64})


def cells(path: Path, side: int = 64, n: Size = "n", meta: Mapping[str, str] | None = None) -> Path:
    """Every cell of 8, 16 and 32 pixels with its brightness as score of class 0, a tenth of it as class 1's: the form
    ``anchors``, as exported by ultralytics."""
    graph = Graph((n, 3, side, side))
    grey = graph.add("ReduceMean", graph.x, axes=[1], keepdims=1)
    scores, boxes = [], []
    for stride in (8, 16, 32):
        mean = graph.add("AveragePool", grey, kernel_shape=[stride, stride], strides=[stride, stride])
        scores.append(graph.add("Reshape", mean, graph.constant([0, 1, -1], np.int64)))
        centres = np.arange(side // stride) * stride + stride / 2
        y, x = np.meshgrid(centres, centres, indexing="ij")
        boxes.append(np.stack([x.ravel(), y.ravel(), np.full(x.size, stride), np.full(x.size, stride)]))
    first = graph.add("Concat", *scores, axis=2)
    zero = graph.add("Mul", first, graph.constant(0.0))
    place = graph.add("Add", graph.constant(np.concatenate(boxes, 1)[None]), zero)  # repeated for each picture
    second = graph.add("Mul", first, graph.constant(0.1))
    return graph.save(path, graph.add("Concat", place, first, second, axis=1, name="output0"), meta=meta)


def colours(path: Path, shape: Sequence[Size] = ("n", 3, 32, 48), kind: str = "float", gain: float = 10.0) -> Path:
    """Logits: the mean of each channel as the network is given it, times ``gain``, and a fourth class of 0."""
    graph = Graph(shape, kind)
    x = graph.x if kind == "float" else graph.add("Cast", graph.x, to=TensorProto.FLOAT)
    axes = [1, 2] if shape[3] == 3 else [2, 3]
    means = graph.add("Mul", graph.add("ReduceMean", x, axes=axes, keepdims=0), graph.constant(gain))
    zero = graph.add("Mul", graph.add("ReduceMax", means, axes=[1], keepdims=1), graph.constant(0.0))
    return graph.save(path, graph.add("Concat", means, zero, axis=1, name="logits"))


def squares(count: int, side: int = 64, at: int = 16, length: int = 16) -> np.ndarray:
    """Pictures, grey as night, each with a bright square that moves right by 8 pixels a picture."""
    pictures = np.full((count, side, side, 3), 20, np.uint8)
    for number in range(count):
        x = (at + 8 * number) % (side - length)
        pictures[number, at : at + length, x : x + length] = 250
    return pictures
