"""Small convolutional networks written in ONNX: of the kinds that stand in front of an LSTM."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[np.float32]


@dataclass(slots=True)
class Layers:
    """Nodes one behind the other, and the weights they read.

    Args:
        shape: of the input, (N, C, *extents).
    """

    shape: tuple[int, ...]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    stored: dict[str, NDArray[Any]] = field(default_factory=dict)
    last: str = "X"

    def add(self, op: str, *weights: NDArray[Any], **attributes: Any) -> Layers:
        """A node behind the last one."""
        names = []
        for data in weights:
            names.append(f"w{len(self.stored)}")
            self.stored[names[-1]] = data
        made = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, [self.last, *names], [made], **attributes))
        self.last = made
        return self

    def conv(
        self, inputs: int, outputs: int, kernel: Sequence[int], groups: int = 1, **attributes: Any
    ) -> Layers:
        """A convolution with bias, as wide as its input, and ReLU."""
        rng = np.random.default_rng(len(self.stored))
        shape = (outputs, inputs // groups, *kernel)
        weights = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        bias = rng.standard_normal(outputs) * 0.1
        dilation = attributes.get("dilations", [1] * len(kernel))
        half = [(k - 1) * d // 2 for k, d in zip(kernel, dilation, strict=True)]
        attributes = {"pads": half + half, "group": groups} | attributes
        self.add("Conv", weights.astype(np.float32), bias.astype(np.float32), **attributes)
        return self.add("Relu")

    def pool(self, size: int = 2) -> Layers:
        """The largest of squares."""
        return self.add("MaxPool", kernel_shape=[size, size], strides=[size, size])

    def model(self) -> onnx.ModelProto:
        """The network."""
        graph = helper.make_graph(
            self.nodes,
            "convolutions",
            [helper.make_tensor_value_info("X", TensorProto.FLOAT, self.shape)],
            [onnx.ValueInfoProto(name=self.last)],
            [numpy_helper.from_array(data, name) for name, data in self.stored.items()],
        )
        graph.output[0].CopyFrom(helper.make_tensor_value_info(self.last, TensorProto.FLOAT, None))
        opset = helper.make_opsetid("", 17)
        return helper.make_model(graph, opset_imports=[opset], ir_version=8)


SQUARE = (3, 3)


def _plain(shape: tuple[int, ...], *channels: int) -> Layers:
    """Convolutions of 3x3, halved between."""
    layers = Layers(shape)
    before = shape[1]
    for count in channels:
        layers.conv(before, count, SQUARE).pool()
        before = count
    return layers


def _separable() -> Layers:
    layers = Layers((1, 1, 40, 64)).conv(1, 32, SQUARE, strides=[2, 2])
    for before, count in ((32, 64), (64, 64), (64, 128)):
        layers.conv(before, before, SQUARE, before).conv(before, count, (1, 1))
    return layers


def _grouped() -> Layers:
    layers = Layers((1, 32, 20, 32))
    return layers.conv(32, 64, SQUARE, 4).conv(64, 64, SQUARE, 4)


def _strided() -> Layers:
    layers = Layers((1, 3, 64, 64)).conv(3, 24, (5, 5), strides=[2, 2])
    return layers.conv(24, 48, SQUARE, strides=[2, 2]).conv(48, 96, SQUARE, strides=[2, 2])


def _dilated() -> Layers:
    layers = Layers((1, 16, 32, 40))
    return layers.conv(16, 16, SQUARE, dilations=[1, 2]).conv(16, 16, SQUARE, dilations=[2, 4])


def _pointwise() -> Layers:
    return Layers((1, 32, 24, 32)).conv(32, 64, (1, 1)).conv(64, 32, (1, 1))


def _wide() -> Layers:
    return Layers((1, 32, 16, 20)).conv(32, 64, SQUARE).conv(64, 64, SQUARE)


def _one_axis() -> Layers:
    return Layers((1, 9, 200)).conv(9, 32, (5,)).conv(32, 64, (5,), strides=[2])


NETWORKS: Mapping[str, Callable[[], Layers]] = {
    "Conv2d 8, 16": lambda: _plain((1, 1, 28, 28), 8, 16),
    "Conv2d 16, 32": lambda: _plain((1, 1, 40, 64), 16, 32),
    "Conv2d 32, 64, 64": lambda: _plain((1, 3, 32, 32), 32, 64, 64),
    "Conv2d 20, 40": lambda: _plain((1, 2, 30, 50), 20, 40),
    "Conv2d 64, 64 whole": _wide,
    "Conv2d strides": _strided,
    "Conv2d dilated": _dilated,
    "Conv2d 1x1": _pointwise,
    "Conv2d grouped": _grouped,
    "separable": _separable,
    "Conv1d": _one_axis,
}
"""By name."""
