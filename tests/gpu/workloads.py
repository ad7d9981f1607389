"""The models that are checked and timed on a GPU; built with onnx alone, seeded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_GATES = {"LSTM": 4, "GRU": 3}


@dataclass(frozen=True)
class Workload:
    """Recurrent layers of one size.

    Args:
        op: LSTM or GRU.
        features: I.
        hidden: H.
        layers: how many.
        shape: of the kernel for one stream, "auto" for the router's choice.
        chunk: frames of a timed chunk.
        streams: many streams, timed together; 0 for none.
    """

    op: str
    features: int
    hidden: int
    layers: int = 1
    shape: str = "auto"
    chunk: int = 2048
    streams: int = 0

    @property
    def name(self) -> str:
        """Of files and rows."""
        size = f"{self.op.lower()}_{self.features}_{self.hidden}x{self.layers}"
        return size if self.shape == "auto" else f"{size}_{self.shape}"


WORKLOADS = (
    Workload("LSTM", 9, 64, streams=8448),
    Workload("GRU", 9, 64, streams=8448),
    Workload("LSTM", 9, 64, layers=2),
    Workload("LSTM", 16, 128, streams=2112),
    Workload("LSTM", 16, 128, shape="block"),
    Workload("LSTM", 16, 128, shape="exchange"),
    Workload("GRU", 16, 128),
    Workload("LSTM", 64, 256),
    Workload("LSTM", 64, 256, shape="exchange"),
    Workload("GRU", 64, 256),
    Workload("LSTM", 64, 256, layers=2),
    Workload("LSTM", 64, 512, chunk=512),
)


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
