"""A tensor with elements of one value around it, a row at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tvm import tirx

from edgelstm_compiler.ir.ops import Pad
from edgelstm_compiler.ir.types import TensorType
from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.copying import in_vectors
from edgelstm_targets.tvm_cpu.tensorir import NAMES, Buffer, Expr, Function, Parameter


def pad_function(name: str, op: Pad, kind: TensorType, isa: InstructionSet) -> Function:
    """The function of padding; its parameters are the tensor and the wider one."""
    dtype = NAMES[kind.dtype]

    def body(x: Buffer, y: Buffer) -> None:
        def copy(source: Expr, target: Expr, count: int) -> None:
            def move(at: Expr, lanes: int) -> None:
                value = tir.load_vector(x, source + at, lanes)
                tir.store_vector(y, target + at, value, lanes)

            in_vectors(count, isa.lanes, move)

        write_around(y, kind.shape, op, isa, copy)

    return tir.define(name, [Parameter("x", dtype), Parameter("y", dtype)], body)


def write_around(
    y: Buffer,
    shape: Sequence[int],
    op: Pad,
    isa: InstructionSet,
    copy: Callable[[Expr, Expr, int], None] | None = None,
) -> None:
    """Write what stands around a tensor.

    Axes behind the last padded one are part of its elements.

    Args:
        y: the wider tensor.
        shape: of the tensor inside of it.
        op: how wide, and with what.
        isa: the instruction set.
        copy: writes a row of the tensor: receives where it begins there, where in y, its elements.
    """
    last = max(axis for axis in range(len(shape)) if op.begin[axis] or op.end[axis])
    size = math.prod(shape[last + 1 :])
    row = shape[last] * size
    front, behind = op.begin[last] * size, op.end[last] * size
    wide = front + row + behind

    def fill(start: Expr, count: int) -> None:
        def write(at: Expr, lanes: int) -> None:
            tir.store_vector(y, start + at, tir.constant(op.fill, lanes, str(y.dtype)), lanes)

        in_vectors(count, isa.lanes, write)

    def inner(source: Expr, target: Expr) -> None:
        fill(target, front)
        if copy is not None:
            copy(tir.name(source * row), target + front, row)
        fill(target + front + row, behind)

    with tir.nest([op.begin[s] + shape[s] + op.end[s] for s in range(last)]) as (indices, number):
        target = tir.name(number * wide)
        source: Expr = tir.integer(0)
        inside = []
        for s, index in enumerate(indices):
            place = index - op.begin[s] if op.begin[s] else index
            source = source * shape[s] + place
            if op.begin[s]:
                inside.append(place >= 0)
            if op.end[s]:
                inside.append(place < shape[s])
        if not inside:
            inner(source, target)
            return
        is_inside = tirx.all(*inside)
        with tir.when(is_inside):
            inner(source, target)
        with tir.when(tirx.Not(is_inside)):
            fill(target, wide)
