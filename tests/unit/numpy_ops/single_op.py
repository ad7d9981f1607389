"""One ONNX operator in ONNX Runtime, and one of ours beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from edgelstm.engines.numpy_ops import apply
from tests.oracle import run_onnxruntime

Array = NDArray[Any]


def onnx_op(op_type: str, inputs: Sequence[Array], *, opset: int = 20, **attributes: Any) -> Array:
    """What ONNX Runtime gives for one operator; all inputs are inputs of the model."""
    feeds = {f"i{place}": data for place, data in enumerate(inputs)}
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(data.dtype), data.shape)
        for name, data in feeds.items()
    ]
    node = helper.make_node(op_type, list(feeds), ["o"], **attributes)
    element = attributes.get("to", helper.np_dtype_to_tensor_dtype(inputs[0].dtype))
    result = helper.make_tensor_value_info("o", element, None)
    # Not make_model: onnx.checker wants the output's rank, which is not worth stating here.
    graph = helper.make_graph([node], "single", infos, [result])
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return run_onnxruntime(model, feeds)["o"]


def our_op(kind: str, inputs: Sequence[Array | None], **fields: Any) -> Array:
    """What `apply` gives for an operator of one output."""
    (result,) = apply(kind, fields, inputs)
    return result


def activation(fn: str, alpha: float = 0.0, beta: float = 0.0) -> dict[str, Any]:
    """An activation as `apply` takes it."""
    return {"fn": fn, "alpha": float(np.float32(alpha)), "beta": float(np.float32(beta))}
