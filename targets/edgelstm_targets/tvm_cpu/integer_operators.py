"""Quantize, Dequantize and the integer softmax, on plain row-major tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tvm import tirx

from edgelstm.dtypes import DType
from edgelstm.errors import CapabilityError
from edgelstm_compiler.ir.ops import Dequantize, IntegerSoftmax, Quantize
from edgelstm_compiler.ir.types import TensorType
from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.cells.slots import Slot
from edgelstm_targets.tvm_cpu.dot.product import LANES
from edgelstm_targets.tvm_cpu.integer_arithmetic import Integers
from edgelstm_targets.tvm_cpu.quantized_recurrent import load_first, quantized_steps
from edgelstm_targets.tvm_cpu.tensorir import NAMES, Buffer, Expr, Function, Parameter


def quantize_function(
    name: str,
    op: Quantize,
    inputs: Sequence[TensorType | None],
    isa: InstructionSet,
    *,
    counts: bool = False,
) -> Function:
    """The function of Quantize; its parameters are x, inverse, q, and where values are counted."""
    x, inverse = _given(inputs)
    if x.dtype is not DType.F32:
        raise CapabilityError(f"CPU targets quantize f32 only, found {x.dtype.value}")
    kind, lanes = NAMES[op.dtype], _lanes(isa)

    def convert(values: Expr, inverses: Expr) -> Expr:
        steps = quantized_steps(values, inverses, op.zero_point, op.dtype, lanes)
        return tirx.Cast(_kind(kind, lanes), steps)

    def is_beyond(values: Expr, inverses: Expr) -> Expr:
        half, steps = 1 << (8 * op.dtype.itemsize - 1), tir.name(values * inverses)
        low, high = (
            tir.constant(float(bound - op.zero_point), lanes) for bound in (-half, half - 1)
        )
        both = tirx.Cast(_kind("int32", lanes), steps < low)
        return both + tirx.Cast(_kind("int32", lanes), steps > high)

    return _by_column(name, x, inverse, kind, lanes, convert, is_beyond if counts else None)


def dequantize_function(
    name: str, op: Dequantize, inputs: Sequence[TensorType | None], isa: InstructionSet
) -> Function:
    """The function of Dequantize; its parameters are q, scale, x."""
    q, scale = _given(inputs)
    if scale.dtype is not DType.F32:
        raise CapabilityError(f"CPU targets dequantize to f32 only, found {scale.dtype.value}")

    lanes = _lanes(isa)

    def convert(values: Expr, scales: Expr) -> Expr:
        steps = tirx.Cast(_kind("int32", lanes), values)
        steps = steps - tir.constant(op.zero_point, lanes, "int32")
        return tirx.Cast(_kind("float32", lanes), steps) * scales

    return _by_column(name, q, scale, "float32", lanes, convert)


def integer_softmax_function(
    name: str, op: IntegerSoftmax, inputs: Sequence[TensorType | None], isa: InstructionSet
) -> Function:
    """The function of IntegerSoftmax; its parameters are x, table, p."""
    kind, _ = _given(inputs)
    extent = kind.shape[op.axis]
    behind = math.prod(kind.shape[op.axis + 1 :])
    rows = math.prod(kind.shape[: op.axis])
    numbers = Integers(1, isa)

    def body(x: Buffer, table: Buffer, p: Buffer) -> None:
        largest, total = tir.local(1, "int32"), tir.local(1, "int32")
        with tir.loop(rows) as row, tir.loop(behind) as column:
            start = tir.name(row * (extent * behind) + column)

            def at(i: Expr) -> Expr:
                return numbers.wide(x[start + i * behind])

            def power(i: Expr) -> Expr:
                below = (at(i) - largest[0]) * tir.integer(op.multiplier)
                scaled = tirx.max(numbers.rounding_shift(below, op.shift), tir.integer(-32768))
                return tir.name(numbers.unit(numbers.look_up(table, 0, scaled)))

            tir.store(largest, 0, at(tir.integer(0)))
            with tir.loop(extent) as i:
                tir.store(largest, 0, tirx.max(largest[0], at(i)))
            tir.store(total, 0, tir.integer(0))
            with tir.loop(extent) as i:
                tir.store(total, 0, total[0] + power(i))
            with tir.loop(extent) as i:
                raised = (power(i) << tir.integer(15)) + (total[0] >> tir.integer(1))
                share = tirx.min(tirx.truncdiv(raised, total[0]), tir.integer(32767))
                tir.store(p, start + i * behind, tirx.Cast("int16", share))

    keys = ("x", "table", "p")
    return tir.define(name, [Parameter(key, "int16") for key in keys], body)


def _by_column(
    name: str,
    x: TensorType,
    factor: TensorType,
    output: str,
    lanes: int,
    convert: Callable[[Expr, Expr], Expr],
    counted: Callable[[Expr, Expr], Expr] | None = None,
) -> Function:
    """Element by element with a factor for all, or one for each column.

    With `counted` (1 or 0 in each lane) a fourth parameter, which its sum is added to.
    """
    columns = x.shape[-1] if factor.size > 1 else x.size
    rows = x.size // max(columns, 1)

    def body(source: Buffer, factors: Buffer, target: Buffer, *more: Buffer) -> None:
        total = tir.local(lanes, "int32") if counted is not None else None
        if total is not None:
            tir.store_vector(total, 0, tir.constant(0, lanes, "int32"), lanes)

        def count_in(values: Expr, scale: Expr, count: int) -> None:
            assert counted is not None
            assert total is not None
            found = counted(values, scale)
            if count != lanes:
                found = found * tirx.Cast(_kind("int32", lanes), tir.first_lanes(count, lanes))
            tir.store_vector(total, 0, tir.load_vector(total, 0, lanes) + found, lanes)

        def move(row: Expr, at: Expr, count: int) -> None:
            start = row * columns + at
            if factor.size > 1:
                scale = load_first(factors, at, count, lanes)
            else:
                scale = tir.broadcast(factors[0], lanes)
            values = load_first(source, start, count, lanes)
            if counted is not None:
                values = tir.name(values)
                count_in(values, scale, count)
            value = tir.name(convert(values, scale))
            limit = None if count == lanes else tir.integer(count)
            Slot(target, start, limit).store(value, lanes)

        whole, rest = divmod(columns, lanes)
        with tir.loop(rows) as row:
            if whole:
                with tir.loop(whole) as i:
                    move(row, i * lanes, lanes)
            if rest:
                move(row, tir.integer(whole * lanes), rest)
        if total is not None:
            found = tir.load_vector(total, 0, lanes)
            found = found if lanes == 1 else tir.sum_lanes(found)
            tir.store(more[0], 0, more[0][0] + found)

    parameters = [
        Parameter("source", NAMES[x.dtype]),
        Parameter("factors", "float32"),
        Parameter("target", output),
        *([Parameter("count", "int32")] if counted is not None else []),
    ]
    return tir.define(name, parameters, body)


def _lanes(isa: InstructionSet) -> int:
    return 1 if isa.is_bare else LANES


def _kind(dtype: str, lanes: int) -> str:
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


def _given(inputs: Sequence[TensorType | None]) -> tuple[TensorType, TensorType]:
    first, second = inputs
    assert first is not None
    assert second is not None
    return first, second
