"""The models that are checked and timed on a GPU; built with onnx alone, seeded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_GATES = {"LSTM": 4, "GRU": 3}


@dataclass(frozen=True)
class Workload:
    """Recurrent layers of one size, and how they are compiled.

    Args:
        op: LSTM or GRU.
        features: I.
        hidden: H.
        layers: how many.
        shape: of the kernel for one stream, "auto" for the router's choice.
        math: "fp32", or "fp16" for tensor cores where there are many streams.
        groups: sizes of groups there, "auto" for the router's choice.
        scheme: how it is quantized, "" for not at all.
        chunk: frames of a timed chunk of one stream; 0 for none.
        streams: many streams, timed together; 0 for none.
        doorbell: single steps are also taken by the kernel that stays.
        peers: other libraries are timed on it, too.
    """

    op: str
    features: int
    hidden: int
    layers: int = 1
    shape: str = "auto"
    math: str = "fp32"
    groups: str = "auto"
    scheme: str = ""
    chunk: int = 2048
    streams: int = 0
    doorbell: bool = False
    peers: bool = False

    @property
    def name(self) -> str:
        """Of files and rows."""
        parts = [f"{self.op.lower()}_{self.features}_{self.hidden}x{self.layers}"]
        chosen = (self.shape, self.math, self.scheme, self.groups)
        parts += [each for each in chosen if each not in ("auto", "fp32", "")]
        return "_".join(parts)

    @property
    def tolerance(self) -> float:
        """Largest error, relative to the largest expected value where that exceeds 1."""
        if self.scheme == "int8-full":
            return 0.0
        return 2e-6 if self.math == "fp32" else 1e-3

    @property
    def options(self) -> dict[str, str]:
        """Options of the target."""
        options = {"shape": self.shape, "doorbell": "yes" if self.doorbell else "no"}
        return {**options, "math": self.math, "groups": self.groups}


WORKLOADS = (
    Workload("LSTM", 9, 64, streams=8448, doorbell=True, peers=True),
    Workload("GRU", 9, 64, streams=8448, doorbell=True, peers=True),
    Workload("LSTM", 16, 128, streams=2112, doorbell=True, peers=True),
    Workload("GRU", 16, 128, streams=2112, peers=True),
    Workload("LSTM", 64, 256, doorbell=True, peers=True),
    Workload("GRU", 64, 256, peers=True),
    Workload("LSTM", 9, 64, math="fp16", chunk=0, streams=33792, peers=True),
    Workload("GRU", 9, 64, math="fp16", chunk=0, streams=33792, peers=True),
    Workload("LSTM", 16, 128, math="fp16", chunk=0, streams=16896, peers=True),
    Workload("LSTM", 9, 64, math="fp16", groups="16+32+64", chunk=0, streams=33792),
    Workload("GRU", 9, 64, math="fp16", groups="16+32+64", chunk=0, streams=33792),
    Workload("LSTM", 16, 128, math="fp16", groups="16+32+64", chunk=0, streams=16896),
    Workload("LSTM", 9, 64, scheme="int8-full", chunk=512, streams=33792, doorbell=True),
    Workload("GRU", 9, 64, scheme="int8-full", chunk=512, streams=33792),
    Workload("LSTM", 64, 256, scheme="int8-full", chunk=512, streams=16896),
    Workload("LSTM", 9, 64, layers=2, peers=True),
    Workload("LSTM", 64, 256, layers=2, peers=True),
    Workload("LSTM", 9, 32, shape="block"),
    Workload("LSTM", 16, 128, shape="block", chunk=1024),
    Workload("LSTM", 16, 128, shape="cluster", chunk=1024),
    Workload("LSTM", 16, 128, shape="exchange", chunk=1024),
    Workload("LSTM", 64, 256, shape="block", chunk=128),
    Workload("LSTM", 64, 256, shape="exchange", chunk=1024),
    Workload("LSTM", 64, 512, chunk=512, peers=True),
)
"""The most wanted first: what there is no time for is left out at the end."""


def make_recordings(workload: Workload) -> list[dict[str, Any]]:
    """What a scheme is calibrated on: noise as the timed frames are."""
    rng = np.random.default_rng(8)
    shape = (200, 1, workload.features)
    return [{"X": rng.standard_normal(shape).astype(np.float32)} for _ in range(2)]


def make_model(workload: Workload) -> onnx.ModelProto:
    """The model; GRU as PyTorch computes it, with linear_before_reset."""
    rng = np.random.default_rng(5)
    gates, hidden = _GATES[workload.op], workload.hidden
    nodes, arrays = [], {"axis": np.array([1], np.int64)}
    frames, width = "X", workload.features
    for layer in range(workload.layers):
        bound = 1 / np.sqrt(hidden)
        for name, shape in (
            (f"W{layer}", (1, gates * hidden, width)),
            (f"R{layer}", (1, gates * hidden, hidden)),
            (f"B{layer}", (1, 2 * gates * hidden)),
        ):
            arrays[name] = rng.uniform(-bound, bound, shape).astype(np.float32)
        attributes = {"hidden_size": hidden}
        if workload.op == "GRU":
            attributes["linear_before_reset"] = 1
        inputs = [frames, f"W{layer}", f"R{layer}", f"B{layer}"]
        nodes.append(
            helper.make_node(workload.op, inputs, [f"Y{layer}"], f"layer{layer}", **attributes)
        )
        frames, width = f"F{layer}", hidden
        nodes.append(helper.make_node("Squeeze", [f"Y{layer}", "axis"], [frames]))
    graph = helper.make_graph(
        nodes,
        workload.name,
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["T", 1, workload.features])],
        [helper.make_tensor_value_info(frames, TensorProto.FLOAT, ["T", 1, hidden])],
        [numpy_helper.from_array(data, name) for name, data in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model
