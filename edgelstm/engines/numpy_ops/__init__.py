"""The meaning of every operator, in NumPy: the oracle, and what the reference engine executes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.engines.numpy_ops.elementwise import binary, cast, remainder, unary
from edgelstm.engines.numpy_ops.indexing import (
    gather_elements,
    gather_nd,
    scatter_elements,
    scatter_nd,
)
from edgelstm.engines.numpy_ops.layout import (
    broadcast,
    concat,
    gather,
    reshape,
    slice_axis,
    transpose,
)
from edgelstm.engines.numpy_ops.linear import dense, matmul
from edgelstm.engines.numpy_ops.logic import compare, logic, logical_not, where
from edgelstm.engines.numpy_ops.normalization import layer_norm, log_softmax, softmax
from edgelstm.engines.numpy_ops.quantized_conversion import (
    dequantize,
    dequantize_weights,
    quantize,
)
from edgelstm.engines.numpy_ops.quantized_dense import integer_dense, integer_softmax
from edgelstm.engines.numpy_ops.quantized_int8 import int8_dense
from edgelstm.engines.numpy_ops.reduction import arg_reduce, cum_sum, reduce_axes, top_k_indices
from edgelstm.engines.numpy_ops.scan import scan
from edgelstm.engines.numpy_ops.windows import convolve, pad, window_reduce, windows
from edgelstm.errors import InternalError
from edgelstm.numerics.layer import LAYERS
from edgelstm.numerics.legacy import LEGACY, modern

__all__ = ["KINDS", "SCAN", "apply", "bound"]

Array = NDArray[Any]
_Operator = Callable[[Mapping[str, Any], Sequence[Array | None]], list[Array]]

_OPERATORS: dict[str, _Operator] = {
    "Dense": dense,
    "MatMul": matmul,
    "Binary": binary,
    "Remainder": remainder,
    "Unary": unary,
    "Cast": cast,
    "Softmax": softmax,
    "LogSoftmax": log_softmax,
    "LayerNorm": layer_norm,
    "Transpose": transpose,
    "Reshape": reshape,
    "Broadcast": broadcast,
    "Slice": slice_axis,
    "Gather": gather,
    "Concat": concat,
    "Compare": compare,
    "Logic": logic,
    "Not": logical_not,
    "Where": where,
    "Reduce": reduce_axes,
    "ArgReduce": arg_reduce,
    "TopKIndices": top_k_indices,
    "CumSum": cum_sum,
    "Windows": windows,
    "WindowReduce": window_reduce,
    "Pad": pad,
    "Convolve": convolve,
    "GatherElements": gather_elements,
    "ScatterElements": scatter_elements,
    "GatherND": gather_nd,
    "ScatterND": scatter_nd,
    "Quantize": quantize,
    "Dequantize": dequantize,
    "DequantizeWeights": dequantize_weights,
    "Int8Dense": int8_dense,
    "IntegerDense": integer_dense,
    "IntegerSoftmax": integer_softmax,
}
SCAN = "Scan"
"""The operator that holds others: its field `body` has them in `nodes`."""

KINDS = frozenset({*_OPERATORS, *LAYERS, SCAN})
"""Every kind of operator that `apply` knows."""


def apply(
    kind: str, fields: Mapping[str, Any], inputs: Sequence[NDArray[Any] | None]
) -> list[NDArray[Any]]:
    """Compute one operator in the element type of its inputs.

    Overflow and invalid operations give infinity and NaN without a warning, as in native code.

    Args:
        kind: the operator's name, one of `KINDS`.
        fields: its fields as JSON has them: strings for enums and element types, lists for tuples,
            `{"fn": ..., "alpha": ..., "beta": ...}` for activations; a `Cell` as such.
        inputs: one array each; None where an optional input is absent.

    Returns:
        All outputs of the operator. They may share memory with the inputs: copy what is to outlive
        a change of an input.

    Raises:
        InternalError: no such operator.
        StreamError: data that the operator refuses (sequence_lens or indices out of range).
    """
    with np.errstate(all="ignore"):
        return bound(kind, fields, inputs)(inputs)


def bound(
    kind: str, fields: Mapping[str, Any], inputs: Sequence[NDArray[Any] | None]
) -> Callable[[Sequence[Array | None]], list[Array]]:
    """An operator as a function of its inputs, to be computed again and again; see `apply`.

    Recurrent layers keep what they make of constant weights. Floating point must be told to ignore
    overflow and invalid operations (`np.errstate`).

    Args:
        kind: the operator's name, one of `KINDS`.
        fields: its fields.
        inputs: which of them are there is what counts.

    Raises:
        InternalError: no such operator.
    """
    if kind == SCAN:
        return partial(scan, fields, apply=apply)
    if kind in LEGACY:
        kind, fields = modern(kind, fields, inputs)
    if kind in LAYERS:
        return LAYERS[kind](fields)
    operator = _OPERATORS.get(kind)
    if operator is None:
        raise InternalError(f"operator {kind!r} has no NumPy implementation")
    return partial(operator, fields)
