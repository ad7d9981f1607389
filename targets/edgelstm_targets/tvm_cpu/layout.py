"""Operators that move elements without computing."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tvm import tirx

from edgelstm_compiler.ir.ops import Gather, Slice, Transpose
from edgelstm_compiler.ir.types import TensorType
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.copying import copy_elements
from edgelstm_targets.tvm_cpu.expressions import Element
from edgelstm_targets.tvm_cpu.tensorir import NAMES, Buffer, Expr, Function, Parameter


def broadcast_index(
    operand: TensorType, output: TensorType, indices: Sequence[Expr]
) -> tuple[Expr, ...]:
    """Where an operand, aligned at the last axis, holds the element for the output's indices."""
    if not operand.shape:
        return (tir.integer(0),)
    own = list(indices)[len(indices) - operand.rank :]
    return tuple(
        tir.integer(0) if extent == 1 else index
        for extent, index in zip(operand.shape, own, strict=True)
    )


def transpose(op: Transpose) -> Element:
    """Output axis i is input axis perm[i]."""

    def element(tensors: Sequence[Expr], indices: Sequence[Expr]) -> Expr:
        if not op.perm:
            return tensors[0][tuple(indices)]
        positions = [op.perm.index(axis) for axis in range(len(op.perm))]
        return tensors[0][tuple(indices[position] for position in positions)]

    return element


def broadcast(kind: TensorType, output: TensorType) -> Element:
    """Repeated axes of extent 1, and new ones in front."""
    return lambda tensors, indices: tensors[0][broadcast_index(kind, output, indices)]


def slice_(op: Slice) -> Element:
    """Every step-th element along one axis."""

    def element(tensors: Sequence[Expr], indices: Sequence[Expr]) -> Expr:
        at = list(indices)
        at[op.axis] = op.start + op.step * at[op.axis]
        return tensors[0][tuple(at)]

    return element


def gather(op: Gather, kind: TensorType, index_type: TensorType) -> Element:
    """Elements at run-time indices; those out of bounds are read from the nearest place."""
    extent = kind.shape[op.axis]
    dtype = NAMES[index_type.dtype]

    def element(tensors: Sequence[Expr], indices: Sequence[Expr]) -> Expr:
        before, own = indices[: op.axis], indices[op.axis : op.axis + index_type.rank]
        after = indices[op.axis + index_type.rank :] if kind.rank > 1 else ()
        index = tensors[1][tuple(own) or (tir.integer(0),)]
        zero, count = tirx.const(0, dtype), tirx.const(extent, dtype)
        index = tirx.Select(index < zero, index + count, index)
        index = tirx.max(zero, tirx.min(index, count - tirx.const(1, dtype)))
        return tensors[0][(*before, tirx.Cast("int32", index), *after)]

    return element


def concat_function(name: str, axis: int, inputs: Sequence[TensorType]) -> Function:
    """The inputs one after another along an axis: runs of elements are copied."""
    runs = [math.prod(kind.shape[axis:]) for kind in inputs]
    rows = math.prod(inputs[0].shape[:axis])
    dtype = NAMES[inputs[0].dtype]

    def body(*buffers: Buffer) -> None:
        *sources, target = buffers
        with tir.loop(rows) as row:
            offset = 0
            for source, run in zip(sources, runs, strict=True):
                copy_elements(source, row * run, target, row * sum(runs) + offset, run)
                offset += run

    names = [*(f"input{index}" for index in range(len(inputs))), "output"]
    return tir.define(name, [Parameter(key, dtype) for key in names], body)
