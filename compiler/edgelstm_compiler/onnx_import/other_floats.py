"""float16, float64 and bfloat16: what a model stores and hands over in them; arithmetic is float32.

Known tensors keep their type while they are folded, and become float32 where they meet a value of
the graph. Inputs and outputs keep the file's type, with a cast behind the one and in front of the
other. A cast of computed numbers to float16 or bfloat16 rounds; one to float64 changes nothing.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx

from edgelstm.dtypes import DType
from edgelstm.errors import ModelError
from edgelstm_compiler.onnx_import.builder import GraphBuilder
from edgelstm_compiler.onnx_import.frames import Line
from edgelstm_compiler.onnx_import.order import sub_graphs
from edgelstm_compiler.onnx_import.source import Known
from edgelstm_compiler.onnx_import.tensors import ELEMENT_TYPES, OTHER_CODES, attribute_tensors


def widened(item: Known, builder: GraphBuilder) -> Known:
    """The tensor itself, or its numbers in float32."""
    data = builder.in_float32(item.trial)
    if data is item.trial:
        return item
    frames = item.frames
    if isinstance(frames, Line):
        frames = Line(frames.slope.astype(np.float32))
    return replace(item, trial=data, frames=frames)


def check_types(body: onnx.ModelProto) -> None:
    """Refuse a model that mixes float types in one operator, and complete the types of outputs.

    Only models with inputs in other floats are looked at: in all others the operators look. Those
    in bfloat16 are looked at as in float16: exporters write operators with it in opsets that did
    not have them in bfloat16 yet, LSTM before 22.

    Raises:
        ModelError: naming the node.
    """
    kinds = {item.type.tensor_type.elem_type for item in body.graph.input}
    if not kinds & OTHER_CODES:
        return
    if onnx.TensorProto.BFLOAT16 in kinds:
        body = _in_float16(body)
    try:
        onnx.shape_inference.infer_shapes(body, check_type=True)
    except onnx.shape_inference.InferenceError as error:
        text = " ".join(str(error).replace("[ShapeInferenceError]", "").split())
        raise ModelError(f"the model's element types do not fit: {text[:300]}") from error


def _in_float16(body: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose types are float16 where they were bfloat16; what is stored means nothing."""
    changed = onnx.ModelProto()
    changed.CopyFrom(body)
    old, new = onnx.TensorProto.BFLOAT16, onnx.TensorProto.FLOAT16
    graphs = [changed.graph]
    while graphs:
        graph = graphs.pop()
        for info in (*graph.input, *graph.output, *graph.value_info):
            if info.type.tensor_type.elem_type == old:
                info.type.tensor_type.elem_type = new
        tensors = [*graph.initializer, *attribute_tensors(graph.node)]
        for tensor in tensors:
            if tensor.data_type == old:
                tensor.data_type = new
        for node in graph.node:
            graphs += sub_graphs(node)
            for attribute in node.attribute:
                if attribute.name in ("to", "dtype") and attribute.i == old:
                    attribute.i = new
    return changed


def output_types(graph: onnx.GraphProto) -> dict[str, DType]:
    """The outputs that the model declares in other floats."""
    return {
        item.name: DType.from_numpy(ELEMENT_TYPES[item.type.tensor_type.elem_type])
        for item in graph.output
        if item.type.tensor_type.elem_type in OTHER_CODES
    }
