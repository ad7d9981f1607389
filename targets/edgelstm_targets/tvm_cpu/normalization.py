"""Softmax, its logarithm and layer normalization: loops over rows, results kept in the output."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tvm import tirx

from edgelstm.dtypes import DType
from edgelstm.errors import CapabilityError
from edgelstm_compiler.ir.ops import LayerNorm
from edgelstm_compiler.ir.types import TensorType
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.activations import Functions
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr, Function, Parameter

_ONE_BY_ONE = Functions(1, tir.name)


def softmax_function(name: str, kind: TensorType, axis: int, *, is_log: bool) -> Function:
    """exp(x - max) / sum, or x - max - log(sum), over one axis."""
    _expect_f32("softmax", kind)
    extent = kind.shape[axis]
    behind = math.prod(kind.shape[axis + 1 :])
    rows = math.prod(kind.shape[:axis])

    def body(x: Buffer, y: Buffer) -> None:
        largest, total = tir.local(1), tir.local(1)
        with tir.loop(rows) as row, tir.loop(behind) as column:
            start = tir.name(row * (extent * behind) + column)

            def at(i: Expr) -> Expr:
                return start + i * behind

            tir.store(largest, 0, x[at(tir.integer(0))])
            with tir.loop(extent) as i:
                tir.store(largest, 0, tirx.max(largest[0], x[at(i)]))
            tir.store(total, 0, tir.constant(0.0, 1))
            with tir.loop(extent) as i:
                shifted = tir.name(x[at(i)] - largest[0])
                power = tir.name(_ONE_BY_ONE.exp(shifted))
                tir.store(y, at(i), shifted if is_log else power)
                tir.store(total, 0, total[0] + power)
            if is_log:
                correction = tir.name(_ONE_BY_ONE.log(tir.name(total[0])))
            else:
                correction = tir.name(tir.constant(1.0, 1) / total[0])
            with tir.loop(extent) as i:
                old = y[at(i)]
                tir.store(y, at(i), old - correction if is_log else old * correction)

    return tir.define(name, [Parameter("x", "float32"), Parameter("y", "float32")], body)


def layer_norm_function(name: str, op: LayerNorm, inputs: Sequence[TensorType]) -> Function:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias over the last axes."""
    kind = inputs[0]
    _expect_f32("layer normalization", kind)
    extent = math.prod(kind.shape[op.axis :])
    rows = math.prod(kind.shape[: op.axis])

    def body(*buffers: Buffer) -> None:
        x, scale, *rest, y = buffers
        total = tir.local(1)
        inverse = tir.constant(1.0 / extent, 1)

        def mean(term: Callable[[Expr], Expr]) -> Expr:
            tir.store(total, 0, tir.constant(0.0, 1))
            with tir.loop(extent) as i:
                tir.store(total, 0, total[0] + term(i))
            return tir.name(total[0] * inverse)

        with tir.loop(rows) as row:
            start = tir.name(row * extent)
            centre = mean(lambda i: x[start + i])

            def square(i: Expr) -> Expr:
                deviation = tir.name(x[start + i] - centre)
                return deviation * deviation

            variance = mean(square) + tir.constant(op.epsilon, 1)
            factor = tir.name(tir.constant(1.0, 1) / _ONE_BY_ONE.sqrt(variance))
            with tir.loop(extent) as i:
                value = (x[start + i] - centre) * factor * scale[i]
                tir.store(y, start + i, value + rest[0][i] if rest else value)

    names = ["x", "scale", *(["bias"] if len(inputs) > 2 else []), "y"]
    return tir.define(name, [Parameter(key, "float32") for key in names], body)


def _expect_f32(operation: str, kind: TensorType) -> None:
    if kind.dtype is not DType.F32:
        raise CapabilityError(
            f"CPU targets compute {operation} in f32 only, found {kind.dtype.value}"
        )
