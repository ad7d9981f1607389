"""Nodes whose inputs are all known: computed while the model is imported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from edgelstm_compiler.ir.evaluate import evaluate
from edgelstm_compiler.ir.types import Value
from edgelstm_compiler.onnx_import.builder import GraphBuilder
from edgelstm_compiler.onnx_import.folding import fold, is_direct, is_foldable
from edgelstm_compiler.onnx_import.frames import RefusedError
from edgelstm_compiler.onnx_import.ops import OPERATORS
from edgelstm_compiler.onnx_import.other_floats import widened
from edgelstm_compiler.onnx_import.refusals import unsupported_reason
from edgelstm_compiler.onnx_import.source import Known, OnnxNode, Operand
from edgelstm_compiler.onnx_import.tensors import is_other_float


def compute_known(
    node: onnx.NodeProto, seen: OnnxNode, builder: GraphBuilder
) -> Sequence[Operand | None]:
    """The results of a node on known inputs, as the graph would compute them where it can.

    Args:
        node: the node.
        seen: the same with its inputs.
        builder: of the graph that the node stands in.

    Raises:
        RefusedError: nobody computes such a node.
    """
    arrays = [item.data if isinstance(item, Known) else None for item in seen.inputs]
    narrow = [item.dtype for item in arrays if item is not None and is_other_float(item.dtype)]
    if narrow and seen.op_type in OPERATORS and not is_foldable(seen.op_type):
        return _in_float32(seen, narrow[0], builder)
    if seen.op_type in OPERATORS and not is_direct(node, arrays) and not narrow:
        try:
            return _evaluated(seen)
        except RefusedError:
            if not is_foldable(seen.op_type):
                raise
    if not is_foldable(seen.op_type):
        raise RefusedError(unsupported_reason(node))
    folded = fold(node, seen.opset, arrays, seen.origin)
    return [Known(name, data) for name, data in zip(seen.outputs, folded, strict=False)]


def _in_float32(
    seen: OnnxNode, dtype: np.dtype[Any], builder: GraphBuilder
) -> list[Operand | None]:
    """A node on known tensors in other floats: computed in float32, results in their type."""
    if seen.op_type in ("Cast", "CastLike"):
        return list(OPERATORS[seen.op_type](seen))
    operands = tuple(
        widened(item, builder) if isinstance(item, Known) else item for item in seen.inputs
    )
    return [
        replace(item, trial=item.trial.astype(dtype))
        if isinstance(item, Known) and item.trial.dtype == np.float32
        else item
        for item in _evaluated(replace(seen, inputs=operands))
    ]


def _evaluated(seen: OnnxNode) -> list[Operand | None]:
    """The outputs of a node on known inputs, by importing it alone and evaluating that."""
    builder = GraphBuilder()
    results = OPERATORS[seen.op_type](replace(seen, builder=builder))[: len(seen.outputs)]
    values = {f"{place}": item for place, item in enumerate(results) if isinstance(item, Value)}
    if not values:
        return list(results)
    computed = evaluate(builder.finish("fold", list(values.items()), check_finite=False), {})
    return [
        Known(seen.outputs[place] or seen.name, computed.outputs[f"{place}"])
        if isinstance(item, Value)
        else item
        for place, item in enumerate(results)
    ]
