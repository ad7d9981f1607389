"""Pooling and depthwise convolution where the channels are last: they are the lanes of vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgelstm_compiler.ir.ops import Reduction, WindowReduce
from edgelstm_compiler.ir.types import TensorType
from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.activations import Functions
from edgelstm_targets.tvm_cpu.copying import bounded, fitting_lanes
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr, Function, Parameter
from edgelstm_targets.tvm_cpu.window_reduce import UNROLLED, merged

_POSITIONS = 8
"""Along the last axis, computed together: their sums stand in registers."""


def window_reduce_last_function(
    name: str,
    op: WindowReduce,
    inputs: Sequence[TensorType | None],
    output: TensorType,
    isa: InstructionSet,
) -> Function:
    """Tiles of positions along the last axis, a vector of channels after the other.

    Padding stands in the input already.
    """
    x_type = inputs[0]
    assert x_type is not None
    assert not max((*op.begin, *op.end))
    batch, *extents, channels = x_type.shape
    positions = output.shape[1:-1]
    last = len(extents) - 1
    lanes = fitting_lanes(channels, isa.lanes)
    across = min(positions[last], _POSITIONS)
    strides = [math.prod(extents[s + 1 :]) * channels for s in range(last + 1)]
    size = math.prod(extents) * channels

    def body(x: Buffer, *others: Buffer) -> None:
        *stored, y = others
        weights, bias = (*stored, None, None)[:2]

        def tile(channel: Expr, start: Expr, target: Expr) -> None:
            totals = tir.local(across * lanes)
            first = tir.constant(op.fill, lanes) if bias is None else None
            if bias is not None:
                first = tir.name(tir.load_vector(bias, channel, lanes))
            for p in range(across):
                tir.store_vector(totals, p * lanes, first, lanes)

            def element(offset: Expr, number: Expr) -> None:
                weight = None
                if weights is not None:
                    at = number * channels + channel
                    weight = tir.name(tir.load_vector(weights, at, lanes))
                for p in range(across):
                    place = start + offset + p * op.stride[last] * channels
                    value = tir.load_vector(x, place, lanes)
                    if op.reduction is not Reduction.SUM:
                        value = tir.name(value)
                    old = tir.load_vector(totals, p * lanes, lanes)
                    new = merged(op.reduction, old, value, weight)
                    tir.store_vector(totals, p * lanes, new, lanes)

            with tir.nest(op.kernel[:last]) as (offsets, number):
                line: Expr = tir.integer(0)
                for s, offset in enumerate(offsets):
                    line = line + offset * (op.dilation[s] * strides[s])
                line, row = tir.name(line), tir.name(number * op.kernel[last])
                step = op.dilation[last] * channels
                if op.kernel[last] <= UNROLLED:
                    for k in range(op.kernel[last]):
                        element(line + k * step, row + k)
                else:
                    with tir.loop(op.kernel[last]) as k:
                        element(line + k * step, row + k)
            for p in range(across):
                value = tir.load_vector(totals, p * lanes, lanes)
                if op.activation is not None:
                    functions = Functions(lanes, tir.name, isa.has_fma)
                    value = functions.apply(op.activation, tir.name(value))
                tir.store_vector(y, target + p * channels, value, lanes)

        with tir.loop(batch) as n, tir.nest(positions[:last]) as (outer, number):
            above = n * size
            for s, index in enumerate(outer):
                above = above + index * (op.stride[s] * strides[s])
            above = tir.name(above)
            shown = tir.name((n * math.prod(positions[:last]) + number) * positions[last])
            with tir.repeat(-(-channels // lanes)) as v:
                channel = tir.name(bounded(v, lanes, channels))
                with tir.repeat(-(-positions[last] // across)) as i:
                    column = tir.name(bounded(i, across, positions[last]))
                    start = above + column * (op.stride[last] * channels) + channel
                    target = (shown + column) * channels + channel
                    tile(channel, tir.name(start), tir.name(target))

    given = [item for item in inputs if item is not None]
    names = (*("x", "weights", "bias")[: len(given)], "y")
    return tir.define(name, [Parameter(item, "float32") for item in names], body)
