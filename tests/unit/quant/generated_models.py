"""Recurrent layers with seeded weights and sensor-like recordings, in any units, pruned or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@dataclass(frozen=True)
class CellWeights:
    """Weights of one layer in ONNX's shapes, one direction."""

    kind: str
    w: Array
    r: Array
    b: Array

    @classmethod
    def uniform(cls, kind: str, features: int, hidden: int, seed: int = 7) -> CellWeights:
        """As training leaves them, somewhat larger than it begins."""
        rng, rows = np.random.default_rng(seed), GATES[kind] * hidden
        bound = 1.0 / np.sqrt(hidden)
        w = rng.uniform(-1.5 * bound, 1.5 * bound, (1, rows, features))
        r = rng.uniform(-1.5 * bound, 1.5 * bound, (1, rows, hidden))
        b = rng.uniform(-bound, bound, (1, 2 * rows))
        return cls(kind, *(x.astype(np.float32) for x in (w, r, b)))

    @classmethod
    def normal(cls, kind: str, features: int, hidden: int, seed: int = 3) -> CellWeights:
        """Normally distributed, such that the sums have about the same size in any layer."""
        rng, rows = np.random.default_rng(seed), GATES[kind] * hidden
        w = rng.standard_normal((1, rows, features)) * 1.2 / np.sqrt(features)
        r = rng.standard_normal((1, rows, hidden)) * 1.2 / np.sqrt(hidden)
        b = rng.standard_normal((1, 2 * rows)) * 0.5
        return cls(kind, *(x.astype(np.float32) for x in (w, r, b)))

    def in_units(self, scale: Array, offset: Array) -> CellWeights:
        """The layer that computes the same of x * scale + offset."""
        w = self.w.astype(np.float64) / scale
        b = self.b.astype(np.float64).copy()
        b[:, : w.shape[1]] -= w @ offset
        return CellWeights(self.kind, w.astype(np.float32), self.r, b.astype(np.float32))

    def pruned(self, share: float, by: str, seed: int = 1) -> CellWeights:
        """With a share of the rows, columns or elements of W and R set to zero."""
        rng = np.random.default_rng(seed)
        w, r = self.w.copy(), self.r.copy()
        for matrix in (w[0], r[0]):
            if by == "rows":
                matrix[rng.random(len(matrix)) < share] = 0
            elif by == "columns":
                matrix[:, rng.random(matrix.shape[1]) < share] = 0
            else:
                matrix[rng.random(matrix.shape) < share] = 0
        return CellWeights(self.kind, w, r, self.b)

    def model(self, *, linear_before_reset: bool = True) -> onnx.ModelProto:
        """A stream of x (T, 1, I) to y (T, 1, H)."""
        fields: dict[str, Any] = {"hidden_size": self.r.shape[-1]}
        if self.kind == "GRU":
            fields["linear_before_reset"] = int(linear_before_reset)
        arrays = {"W": self.w, "R": self.r, "B": self.b, "axes": np.array([1], np.int64)}
        graph = helper.make_graph(
            [
                helper.make_node(self.kind, ["x", "W", "R", "B"], ["Y"], **fields),
                helper.make_node("Squeeze", ["Y", "axes"], ["y"]),
            ],
            "generated",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", 1, self.w.shape[-1]])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["T", 1, self.r.shape[-1]])],
            [numpy_helper.from_array(array, name) for name, array in arrays.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def walk(frames: int, features: int, seed: int) -> Array:
    """A noisy, drifting, swinging sensor: (frames, features) float32."""
    rng = np.random.default_rng(seed)
    x, v = np.zeros((frames, features)), np.zeros(features)
    for t in range(frames):
        v = 0.97 * v + rng.normal(0, 0.12, features)
        x[t] = v + 0.05 * rng.normal(0, 1, features)
    rates = 0.05 * (1 + 0.13 * np.arange(features))
    return np.asarray(x + 0.5 * np.sin(np.arange(frames)[:, None] * rates), np.float32)
