"""Expected values from ONNX Runtime or in float64, random inputs, and comparison of tensors."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.evaluate import evaluate
from edgelstm_compiler.onnx_import.importer import import_graph
from edgelstm_compiler.onnx_import.read import read_model
from tests.models import ACTIVATIONS, BATCH_FIRST

Array = NDArray[Any]


@dataclass(frozen=True)
class Tolerance:
    """How far two tensors may be apart.

    Args:
        name: for messages.
        absolute: bound of the difference while the expected tensor stays within [-1, 1]; beyond,
            it grows with the largest magnitude of that tensor.
    """

    name: str
    absolute: float


FP32 = Tolerance("fp32", 1e-5)
FP64 = Tolerance("fp64", 1e-12)
EXACT = Tolerance("exact", 0.0)


def assert_close(
    actual: Array | Mapping[str, Array],
    expected: Array | Mapping[str, Array],
    tolerance: Tolerance = FP32,
    where: str = "value",
) -> None:
    """Compare two tensors, or two sets of tensors by name; NaN equals NaN.

    Raises:
        AssertionError: shapes or values differ; the message names the worst element.
    """
    if isinstance(expected, Mapping):
        assert isinstance(actual, Mapping), f"{where}: expected tensors by name"
        assert set(actual) == set(expected), f"{where}: {sorted(actual)} for {sorted(expected)}"
        for name, data in expected.items():
            assert_close(actual[name], data, tolerance, f"{where} {name!r}")
        return
    assert not isinstance(actual, Mapping), f"{where}: expected one tensor"
    assert actual.shape == expected.shape, f"{where}: shape {actual.shape}, not {expected.shape}"
    if expected.size == 0:
        return
    a, e = actual.astype(np.float64), expected.astype(np.float64)
    is_same = (a == e) | (np.isnan(a) & np.isnan(e))
    finite = np.abs(e[np.isfinite(e)])
    bound = tolerance.absolute * max(1.0, float(finite.max(initial=0.0)))
    with np.errstate(invalid="ignore"):
        difference = np.where(is_same, 0.0, np.abs(a - e))
    difference[np.isnan(difference)] = np.inf
    worst = np.unravel_index(int(np.argmax(difference)), difference.shape)
    assert difference[worst] <= bound, (
        f"{where} at {tuple(map(int, worst))}: {actual[worst]!r}, expected {expected[worst]!r}; "
        f"difference {difference[worst]:.3g} over {tolerance.name} bound {bound:.3g}"
    )


def is_tame(outputs: Mapping[str, Array], bound: float = 80.0) -> bool:
    """Whether all outputs are moderate, so that float32 implementations can be compared.

    Cells of unbounded activations may double their state at every frame; the rounding of the first
    frame then fills the last one. And beyond 88 ONNX Runtime's Softplus of a cell is infinite.
    """
    return all(bool(np.all(np.abs(data) <= bound)) for data in outputs.values())


def run_onnxruntime(model: onnx.ModelProto, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """All outputs of the model by name, from ONNX Runtime on the CPU, without any rewriting."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def expected_outputs(model: onnx.ModelProto, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """All outputs of the model by name, also where ONNX Runtime refuses its spelling."""
    return run_onnxruntime(accepted_by_onnxruntime(model), inputs)


def float64_outputs(model: onnx.ModelProto, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """All outputs of the model by name, imported by our importer and evaluated in float64."""
    shapes = {name: data.shape for name, data in inputs.items()}
    graph = import_graph(read_model(model), shapes)
    return evaluate(graph, inputs, dtype=DType.F64).outputs


def accepted_by_onnxruntime(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same function in the words that ONNX Runtime takes.

    It refuses layout=1 (here: transposes around layout 0) and, in RNN, activations that are not
    spelt as in the specification.
    """
    result = copy.deepcopy(model)
    nodes: list[onnx.NodeProto] = []
    for node in result.graph.node:
        if node.op_type in ("LSTM", "GRU", "RNN"):
            _spell_activations(node)
            nodes += _time_major(node)
        else:
            nodes.append(node)
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    return result


def random_inputs(
    model: onnx.ModelProto, *, dims: Mapping[str, int] | None = None, seed: int = 0
) -> dict[str, Array]:
    """Finite seeded inputs for a model.

    Args:
        model: its floating point inputs become normally distributed, the sequence_lens of its
            recurrent operators lie between 0 and T, other integers are 0.
        dims: extents of dynamic dimensions by name.
        seed: of the random numbers.
    """
    rng = np.random.default_rng(seed)
    constants = {tensor.name for tensor in model.graph.initializer}
    shapes: dict[str, tuple[int, ...]] = {}
    arrays: dict[str, Array] = {}
    for info in model.graph.input:
        if info.name in constants:
            continue
        tensor = info.type.tensor_type
        shapes[info.name] = tuple(
            (dims or {})[dim.dim_param] if dim.HasField("dim_param") else dim.dim_value
            for dim in tensor.shape.dim
        )
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        arrays[info.name] = np.zeros(shapes[info.name], dtype)
        if np.issubdtype(dtype, np.floating):
            arrays[info.name] = rng.standard_normal(shapes[info.name]).astype(dtype)
    for node in model.graph.node:
        if node.op_type in ("LSTM", "GRU", "RNN") and len(node.input) > 4:
            lens, x = node.input[4], node.input[0]
            if lens in arrays and x in shapes:
                steps = shapes[x][1 if _layout(node) else 0]
                arrays[lens] = rng.integers(0, steps + 1, shapes[lens]).astype(np.int32)
    return arrays


def _spell_activations(node: onnx.NodeProto) -> None:
    spelling = {name.lower(): name for name in ACTIVATIONS}
    for attribute in node.attribute:
        if attribute.name == "activations":
            names = [text.decode() for text in attribute.strings]
            attribute.strings[:] = [spelling.get(n.lower(), n).encode() for n in names]


def _time_major(node: onnx.NodeProto) -> Sequence[onnx.NodeProto]:
    """The node, or a layout 0 node between transposes."""
    if _layout(node) == 0:
        return [node]
    before: list[onnx.NodeProto] = []
    after: list[onnx.NodeProto] = []
    inner = copy.deepcopy(node)
    kept = [attribute for attribute in node.attribute if attribute.name != "layout"]
    del inner.attribute[:]
    inner.attribute.extend(kept)
    for place in (0, 5, 6):
        if place < len(node.input) and node.input[place]:
            inner.input[place] = f"{node.name}/time_major_{place}"
            before.append(
                helper.make_node(
                    "Transpose", [node.input[place]], [inner.input[place]], perm=BATCH_FIRST
                )
            )
    for place, name in enumerate(node.output):
        if name:
            inner.output[place] = f"{name}/time_major"
            perm = (2, 0, 1, 3) if place == 0 else BATCH_FIRST
            after.append(helper.make_node("Transpose", [inner.output[place]], [name], perm=perm))
    return [*before, inner, *after]


def _layout(node: onnx.NodeProto) -> int:
    for attribute in node.attribute:
        if attribute.name == "layout":
            return int(attribute.i)
    return 0
