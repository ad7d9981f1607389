"""Sliding windows over some axes: what convolutions and pooling are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import tirx

from edgelstm_compiler.ir.ops import Windows
from edgelstm_compiler.ir.types import TensorType
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.expressions import Element
from edgelstm_targets.tvm_cpu.tensorir import NAMES, Buffer, Expr, Function, Parameter


def windows(op: Windows, kind: TensorType) -> Element:
    """X (N, C, *extents) -> (N, *positions, C, *kernel)."""
    rank = len(op.kernel)
    dtype = NAMES[kind.dtype]

    def element(tensors: Sequence[Expr], indices: Sequence[Expr]) -> Expr:
        batch, positions, channel = indices[0], indices[1 : rank + 1], indices[rank + 1]
        offsets = indices[rank + 2 :]
        coordinates, is_inside, is_element = [], [], []
        for s in range(rank):
            extent = kind.shape[s + 2]
            spread = op.spread[s]
            at = positions[s] * op.stride[s] + offsets[s] * op.dilation[s] - op.begin[s]
            if op.begin[s]:
                is_inside.append(at >= 0)
            if op.end[s]:
                is_inside.append(at < (extent - 1) * spread + 1)
            if spread > 1:
                is_element.append(tirx.truncmod(at, spread) == 0)
                at = tirx.truncdiv(at, spread)
            if op.begin[s] or op.end[s]:
                at = tirx.max(0, tirx.min(at, extent - 1))
            coordinates.append(at)
        value = tensors[0][(batch, channel, *coordinates)]
        if is_element:
            value = tirx.Select(tirx.all(*is_element), value, tirx.const(0, dtype))
        if is_inside:
            value = tirx.Select(tirx.all(*is_inside), value, tirx.const(op.fill, dtype))
        return value

    return element


def windows_function(name: str, op: Windows, kind: TensorType) -> Function:
    """The same as loops: positions at which the kernel lies inside of the input ask nothing."""
    rank, element = len(op.kernel), windows(op, kind)
    batch, channels, *extents = kind.shape
    positions = op.positions(extents)
    inner = [op.inside(s, extents[s]) for s in range(rank)]
    strides = [math.prod(kind.shape[axis + 1 :]) for axis in range(kind.rank)]
    size = channels * math.prod(op.kernel)

    def body(x: Buffer, y: Buffer) -> None:
        def checked(indices: Sequence[Expr]) -> Expr:
            return element([_Indexed(x, strides)], indices)

        def plain(indices: Sequence[Expr]) -> Expr:
            number = indices[0] * strides[0] + indices[rank + 1] * strides[1]
            for s in range(rank):
                at = indices[s + 1] * op.stride[s] - op.begin[s]
                at = at + indices[rank + 2 + s] * op.dilation[s]
                number = number + at * strides[s + 2]
            return x[number]

        with tir.nest((batch, *positions)) as (position, row):
            target = tir.name(row * size)

            def copy(value: Callable[[Sequence[Expr]], Expr]) -> None:
                with tir.nest((channels, *op.kernel)) as (offsets, number):
                    tir.store(y, target + number, value([*position, *offsets]))

            is_inner = tirx.all(
                *(
                    condition
                    for at, (first, end) in zip(position[1:], inner, strict=True)
                    for condition in (at >= first, at < end)
                )
            )
            with tir.when(is_inner):
                copy(plain)
            with tir.when(tirx.Not(is_inner)):
                copy(checked)

    dtype = NAMES[kind.dtype]
    return tir.define(name, [Parameter("x", dtype), Parameter("y", dtype)], body)


@dataclass(frozen=True, slots=True)
class _Indexed:
    """Flat memory that is asked for by one index an axis."""

    memory: Buffer
    strides: Sequence[int]

    def __getitem__(self, indices: Sequence[Expr]) -> Expr:
        return self.memory[
            sum(
                (i * stride for i, stride in zip(indices, self.strides, strict=True)),
                tir.integer(0),
            )
        ]
