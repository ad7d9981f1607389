"""Models of a few ONNX nodes, and what an import of them must compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.evaluate import evaluate
from edgelstm_compiler.ir.graph import Graph
from edgelstm_compiler.ir.verify import verify
from edgelstm_compiler.onnx_import import import_graph, read_model
from tests.oracle import FP32, assert_close, run_onnxruntime

Array = NDArray[Any]


def graph_model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Array | tuple[int, Sequence[int | str]]],
    outputs: Sequence[str],
    constants: Mapping[str, Array] | None = None,
    *,
    opset: int = 17,
    domains: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    """An unchecked model; inputs are given by example, or by element type and extents."""
    infos = []
    for name, example in inputs.items():
        if isinstance(example, tuple):
            elem_type, shape = example
        else:
            elem_type, shape = helper.np_dtype_to_tensor_dtype(example.dtype), example.shape
        infos.append(helper.make_tensor_value_info(name, elem_type, list(shape)))
    tensors = [numpy_helper.from_array(data, name) for name, data in (constants or {}).items()]
    results = [onnx.ValueInfoProto(name=name) for name in outputs]
    for result in results:
        result.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    graph = helper.make_graph(list(nodes), "few", infos, results, tensors)
    opsets = [
        helper.make_opsetid("", opset),
        *(helper.make_opsetid(*item) for item in (domains or {}).items()),
    ]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def one_node(
    op_type: str,
    inputs: Sequence[Array | None],
    *,
    runtime: Sequence[int] = (0,),
    outputs: int = 1,
    opset: int = 17,
    **attributes: Any,
) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """A model of one node and its inputs: those in `runtime` are given, the others constant."""
    names = [f"i{k}" if data is not None else "" for k, data in enumerate(inputs)]
    node = helper.make_node(
        op_type, names, [f"o{k}" for k in range(outputs)], name="it", **attributes
    )
    arrays = {name: data for name, data in zip(names, inputs, strict=True) if data is not None}
    given = {names[k]: arrays[names[k]] for k in runtime}
    constants = {name: data for name, data in arrays.items() if name not in given}
    model = graph_model([node], given, list(node.output), constants, opset=opset)
    return with_output_types(model), given


def with_output_types(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the element types of its outputs inferred, as ONNX Runtime checks them."""
    for output in model.graph.output:
        output.ClearField("type")
    inferred = onnx.shape_inference.infer_shapes(model)
    types = {info.name: info.type for info in inferred.graph.output}
    for output in model.graph.output:
        output.type.CopyFrom(types[output.name])
        output.type.tensor_type.ClearField("shape")
    return model


def imported(model: onnx.ModelProto, inputs: Mapping[str, Array] | None = None) -> Graph:
    """The verified graph of a model; dynamic inputs get the shapes of the arrays."""
    shapes = {name: data.shape for name, data in (inputs or {}).items()}
    graph = import_graph(read_model(model), shapes)
    verify(graph)
    return graph


def check_model(model: onnx.ModelProto, inputs: Mapping[str, Array]) -> Graph:
    """The graph of a model, which must compute what ONNX Runtime computes."""
    graph = imported(model, inputs)
    assert_close(evaluate(graph, inputs, dtype=DType.F64).outputs, run_onnxruntime(model, inputs))
    single = evaluate(graph, inputs).outputs
    for name, data in run_onnxruntime(model, inputs).items():
        assert single[name].dtype == data.dtype
    assert_close(single, run_onnxruntime(model, inputs), FP32)
    return graph


def check_node(op_type: str, inputs: Sequence[Array | None], **options: Any) -> Graph:
    """The same for one node; options as in `one_node`."""
    model, given = one_node(op_type, inputs, **options)
    return check_model(model, given)


def check_folded(op_type: str, inputs: Sequence[Array | None], **options: Any) -> Graph:
    """One node on constants must become a constant with ONNX Runtime's value."""
    model, _ = one_node(op_type, inputs, runtime=(), **options)
    graph = check_model(model, {})
    assert not graph.nodes
    return graph


def kinds(graph: Graph) -> list[str]:
    """The operators of a graph in order."""
    return [node.op.kind for node in graph.nodes]


def normal(*shape: int, seed: int = 0) -> Array:
    """Seeded normally distributed float32."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def ints(*numbers: int) -> Array:
    """An int64 vector."""
    return np.array(numbers, np.int64)
