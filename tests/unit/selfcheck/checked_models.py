"""Models that a careless self-check is blind on, or accuses; kernels and weights that are wrong."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgelstm.artifact import STATE_SECTION, Artifact
from edgelstm.engines.base import Blocks, Kernel, StepFunction
from edgelstm_compiler.binding import Binding, bind_stream
from edgelstm_compiler.driver import CompileOptions, to_step_graph
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.onnx_import.read import OnnxModel, read_model
from edgelstm_compiler.passes.context import PassContext
from tests.models import GATES, make_model

Array = NDArray[Any]


def cell_arrays(op: str, features: int, hidden: int, scale: float, seed: int) -> dict[str, Array]:
    """Normally distributed weights of one layer."""
    rng = np.random.default_rng(seed)
    rows = GATES[op] * hidden
    shapes = {"W": (1, rows, features), "R": (1, rows, hidden), "B": (1, 2 * rows)}
    return {
        name: (scale * rng.standard_normal(shape)).astype(np.float32)
        for name, shape in shapes.items()
    }


def one_layer(
    op: str,
    *,
    features: int = 6,
    hidden: int = 12,
    scale: float = 0.5,
    seed: int = 1,
    before: Sequence[onnx.NodeProto] = (),
    after: Sequence[onnx.NodeProto] = (),
    frames: str = "x",
    outputs: Sequence[str] = ("Y",),
    shown: str = "Y",
    shape: Sequence[int | str] | None = None,
    given: onnx.ValueInfoProto | None = None,
    steps: int | str = "T",
    more: Mapping[str, Array] | None = None,
) -> onnx.ModelProto:
    """One recurrent layer between nodes of the caller's."""
    arrays = {**cell_arrays(op, features, hidden, scale, seed), **(more or {})}
    cell = helper.make_node(
        op, [frames, "W", "R", "B"], list(outputs), hidden_size=hidden, name="cell"
    )
    x = given or helper.make_tensor_value_info("x", TensorProto.FLOAT, [steps, 1, features])
    known: dict[str, list[int | str]] = {"Y": [steps, 1, 1, hidden], "Y_h": [1, 1, hidden]}
    result = helper.make_tensor_value_info(shown, TensorProto.FLOAT, shape or known[shown])
    return make_model([*before, cell, *after], [x], [result], arrays)


def saturated_classifier(op: str, head: str, *, every_frame: bool, seed: int) -> onnx.ModelProto:
    """A classifier whose probabilities are 0 and 1 in float32 on standard normal input."""
    rng = np.random.default_rng(seed + 100)
    cell = ["Y"] if every_frame else ["", "Y_h"]
    more = {
        "V": (40 * rng.standard_normal((12, 5))).astype(np.float32),
        "v": (40 * rng.standard_normal(5)).astype(np.float32),
        "axis": np.array([1 if every_frame else 0], np.int64),
    }
    attributes: dict[str, Any] = {"axis": -1} if head == "Softmax" else {}
    after = [
        helper.make_node("Squeeze", [cell[-1], "axis"], ["h"]),
        helper.make_node("MatMul", ["h", "V"], ["product"], name="dense"),
        helper.make_node("Add", ["product", "v"], ["logits"]),
        helper.make_node(head, ["logits"], ["p"], name="head", **attributes),
    ]
    shape = ["T", 1, 5] if every_frame else [1, 5]
    return one_layer(op, after=after, outputs=cell, shown="p", shape=shape, more=more, seed=seed)


def with_one_weight_off(model: onnx.ModelProto, name: str, index: int) -> onnx.ModelProto:
    """The model with one element of an initializer a fifth larger."""
    changed = copy.deepcopy(model)
    (tensor,) = (t for t in changed.graph.initializer if t.name == name)
    data = numpy_helper.to_array(tensor).copy()
    data.reshape(-1)[index % data.size] *= 1.2
    tensor.CopyFrom(numpy_helper.from_array(data, name))
    return changed


def parts(model: onnx.ModelProto) -> tuple[OnnxModel, Binding, StepGraph]:
    """What `check_artifact` takes beside the artifact."""
    read = read_model(model)
    binding = bind_stream(read, {})
    return read, binding, to_step_graph(binding, CompileOptions(), PassContext())


class ForgetfulKernel:
    """A kernel whose `run` begins every block of frames with the state of a new stream."""

    def __init__(self, kernel: Kernel, init: bytes) -> None:
        self._kernel, self._init = kernel, np.frombuffer(init, np.uint8)

    @property
    def facts(self) -> Mapping[str, str]:
        """As the sound one."""
        return self._kernel.facts

    def bind(self, blocks: Blocks) -> StepFunction:
        """As the sound one."""
        return self._kernel.bind(blocks)

    def bind_run(self, blocks: Blocks, inputs: Array, outputs: Array, n_steps: int) -> StepFunction:
        """Forgets, then runs."""
        run = self._kernel.bind_run(blocks, inputs, outputs, n_steps)

        def forget_and_run() -> int:
            blocks.state[...] = self._init
            return run()

        return forget_and_run

    def read_weights(self, repeats: int) -> int | None:
        """As the sound one."""
        return self._kernel.read_weights(repeats)


def forgetful(artifact: Artifact) -> Artifact:
    """The artifact with a `run` that forgets."""
    init = bytes(artifact.container.section(STATE_SECTION))
    return artifact.on(ForgetfulKernel(artifact.kernel, init))
