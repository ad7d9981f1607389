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
from edgelstm_compiler.onnx_import.source import Known
from edgelstm_compiler.onnx_import.tensors import ELEMENT_TYPES, OTHER_FLOATS


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

    Only models with inputs in other floats are looked at: in all others the operators look.

    Raises:
        ModelError: naming the node.
    """
    kinds = {item.type.tensor_type.elem_type for item in body.graph.input}
    if not kinds & {onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE}:
        return
    try:
        onnx.shape_inference.infer_shapes(body, check_type=True)
    except onnx.shape_inference.InferenceError as error:
        text = " ".join(str(error).replace("[ShapeInferenceError]", "").split())
        raise ModelError(f"the model's element types do not fit: {text[:300]}") from error


def output_types(graph: onnx.GraphProto) -> dict[str, DType]:
    """The outputs that the model declares in other floats.

    Raises:
        ModelError: one in bfloat16, which NumPy and C do not have.
    """
    found = {}
    for item in graph.output:
        dtype = ELEMENT_TYPES.get(item.type.tensor_type.elem_type)
        if dtype is None or dtype not in OTHER_FLOATS:
            continue
        try:
            found[item.name] = DType.from_numpy(dtype)
        except KeyError as error:
            raise ModelError(
                f"the output '{item.name}' is {dtype}, which neither NumPy nor C has: put a Cast "
                "to float32 behind it (weights may stay in bfloat16)"
            ) from error
    return found
