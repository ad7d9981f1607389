"""Convolution as a packed product: a tile of positions times vectors of outputs, in registers.

Every row of weights is read once for all positions of a tile, and multiplied with one element of
the input for each of them. All of these stand at distances that are constants, so nothing is copied
and nothing is asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from tvm import tirx

from edgelstm_compiler.ir.activations import Activation, Fn
from edgelstm_compiler.ir.kernels import DenseKernel
from edgelstm_compiler.ir.ops import Convolve, Pad
from edgelstm_compiler.ir.types import TensorType
from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.activations import Functions
from edgelstm_targets.tvm_cpu.copying import bounded
from edgelstm_targets.tvm_cpu.padding import write_around
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr, Function, Parameter
from edgelstm_targets.tvm_cpu.tiling import Lanes, Pass, choose_tiling

_UNROLLED = 4
"""Rows of weights in the body of the inner loop."""


@dataclass(frozen=True, slots=True)
class Walk:
    """Steps through the input.

    Args:
        extent: how many.
        stride: elements from one to the next.
    """

    extent: int
    stride: int

    @property
    def distances(self) -> tuple[int, ...]:
        """Elements from one to the next, wherever they are counted."""
        return (self.stride,)


@dataclass(frozen=True, slots=True)
class Places(Walk):
    """Positions of windows.

    Args:
        shown: elements of the output from one to the next.
    """

    shown: int

    @property
    def distances(self) -> tuple[int, ...]:
        """In the input, and in the output."""
        return self.stride, self.shown


Steps = TypeVar("Steps", bound=Walk)


@dataclass(frozen=True, slots=True)
class PackedProduct:
    """Products of windows with packed weights.

    Args:
        batch: tensors.
        positions: of the windows, the last axis innermost.
        first: element of the output of a tensor at which the first position stands.
        window: elements of a window, in the order of the rows of weights.
        groups: of outputs, each with windows of its own.
        outputs: of a group.
        unit_block: outputs in a block of weights.
        activation: of the sums.
    """

    batch: Places
    positions: tuple[Places, ...]
    first: int
    window: tuple[Walk, ...]
    groups: Walk
    outputs: int
    unit_block: int
    activation: Activation | None

    @property
    def depth(self) -> int:
        """Elements of a window."""
        return math.prod(walk.extent for walk in self.window)


def convolution_function(
    name: str, op: Convolve, inputs: Sequence[TensorType | None], isa: InstructionSet
) -> Function:
    """The function of a convolution; its parameters are x, weights, y."""
    x, weights = inputs
    assert x is not None
    assert weights is not None
    writer = _Writer(_product(op, x, weights), isa)

    def body(given: Buffer, packed: Buffer, y: Buffer) -> None:
        if op.begin:
            _, extents = op.split(x)
            shape = (x.shape[0], *op.positions(extents), op.outputs)
            write_around(y, shape, Pad((0, *op.begin, 0), (0, *op.end, 0), 0.0), isa)
        writer.body(given, packed, y)

    return _function(name, body)


def rows_function(name: str, kernel: DenseKernel, isa: InstructionSet) -> Function:
    """The function of a dense layer over several rows: windows that lie one behind the other."""
    of = PackedProduct(
        Places(1, 0, 0),
        (Places(kernel.rows, kernel.features, kernel.units),),
        0,
        (Walk(kernel.features, 1),),
        Walk(1, 0),
        kernel.units,
        kernel.unit_block,
        kernel.activation,
    )
    return _function(name, _Writer(of, isa).body)


def _function(name: str, body: Callable[[Buffer, Buffer, Buffer], None]) -> Function:
    return tir.define(name, [Parameter(key, "float32") for key in ("x", "weights", "y")], body)


def _product(op: Convolve, x: TensorType, weights: TensorType) -> PackedProduct:
    channels, extents = op.split(x)
    groups = weights.shape[0]
    each = channels // groups
    width = channels if op.channels_last else 1
    strides = [math.prod(extents[s + 1 :]) * width for s in range(len(extents))]
    plane = 1 if op.channels_last else math.prod(extents)
    kernel = [
        Walk(count, dilation * stride)
        for count, dilation, stride in zip(op.kernel, op.dilation, strides, strict=True)
    ]
    depth = Walk(each, plane)
    window = (*kernel, depth) if op.channels_last else (depth, *kernel)
    counts = op.positions(extents)
    wide = [b + count + e for count, (b, e) in zip(counts, op.around, strict=True)]
    shown = [math.prod(wide[s + 1 :]) * op.outputs for s in range(len(wide))]
    positions = [
        Places(count, step * stride, to)
        for count, step, stride, to in zip(counts, op.stride, strides, shown, strict=True)
    ]
    return PackedProduct(
        Places(x.shape[0], channels * math.prod(extents), math.prod(wide) * op.outputs),
        _merged(positions, Places(1, 1, 1)),
        sum(b * to for (b, _), to in zip(op.around, shown, strict=True)),
        _merged(window, Walk(1, 1)),
        Walk(groups, each * plane),
        op.outputs // groups,
        weights.shape[3],
        op.activation,
    )


def _merged(walks: Sequence[Steps], single: Steps) -> tuple[Steps, ...]:
    """One walk in place of two of which the second ends where the first one's next step begins.

    Args:
        walks: the last one innermost.
        single: stands for none.
    """
    found: list[Steps] = []
    for walk in walks:
        if walk.extent == 1:
            continue
        last = found[-1] if found else None
        if last is not None and last.distances == tuple(walk.extent * d for d in walk.distances):
            found[-1] = replace(walk, extent=last.extent * walk.extent)
        else:
            found.append(walk)
    return tuple(found) or (single,)


class _Writer:
    """The loops of one product."""

    def __init__(self, of: PackedProduct, isa: InstructionSet) -> None:
        self._of, self._isa = of, isa
        self._down, self._across = (Places(1, 0, 0), *of.positions)[-2:]
        extents = (self._down.extent, self._across.extent)
        self._tiling = choose_tiling(isa, *extents, of.outputs, of.unit_block)

    def body(self, x: Buffer, weights: Buffer, y: Buffer) -> None:
        """All tiles of all groups."""
        of, tiling = self._of, self._tiling
        outer = of.positions[:-2]
        blocks = -(-of.outputs // of.unit_block)
        group_size = blocks * (of.depth + 1) * of.unit_block
        with tir.loop(of.batch.extent) as batch, tir.loop(of.groups.extent) as group:
            for each in tiling.passes:
                with tir.repeat(each.repeats) as turn:
                    unit = each.first + turn * each.outputs
                    block = self._block(each, unit)
                    stored = tir.behind(weights, tir.name(group * group_size + block))
                    with tir.nest([walk.extent for walk in outer]) as (indices, _):
                        start = batch * of.batch.stride + group * of.groups.stride
                        shown = batch * of.batch.shown + (of.first + group * of.outputs + unit)
                        for index, walk in zip(indices, outer, strict=True):
                            start = start + index * walk.stride
                            shown = shown + index * walk.shown
                        self._tiles(each, x, stored, y, tir.name(start), tir.name(shown))

    def _block(self, each: Pass, unit: Expr) -> Expr:
        """Element at which the weights of a pass begin, from those of its group."""
        width = self._of.unit_block
        n = tir.name(tirx.truncdiv(unit, width))
        return n * ((self._of.depth + 1) * width) + (unit - n * width)

    def _tiles(
        self, each: Pass, x: Buffer, weights: Buffer, y: Buffer, start: Expr, shown: Expr
    ) -> None:
        down, across, tiling = self._down, self._across, self._tiling
        with (
            tir.repeat(-(-down.extent // tiling.rows)) as i,
            tir.repeat(-(-across.extent // tiling.columns)) as j,
        ):
            row = tir.name(bounded(i, tiling.rows, down.extent))
            column = tir.name(bounded(j, tiling.columns, across.extent))
            given = tir.behind(x, tir.name(start + row * down.stride + column * across.stride))
            place = row * down.shown + column * across.shown
            self._tile(each, given, weights, tir.behind(y, tir.name(shown + place)))

    def _offset(self, vector: Lanes) -> int:
        """Element at which a vector stands in the first row of a pass."""
        block, unit = divmod(vector.first, self._of.unit_block)
        return block * (self._of.depth + 1) * self._of.unit_block + unit

    def _tile(self, each: Pass, x: Buffer, weights: Buffer, y: Buffer) -> None:
        of, tiling = self._of, self._tiling
        down, across = self._down, self._across
        places = [
            (r * down.stride + c * across.stride, r * down.shown + c * across.shown)
            for r in range(tiling.rows)
            for c in range(tiling.columns)
        ]
        starts: list[int] = []
        total = 0
        for _ in places:
            for vector in each.vectors:
                starts.append(total)
                total += vector.lanes
        sums = tir.local(total)
        for k, vector in enumerate(each.vectors):
            bias = tir.name(tir.load_vector(weights, self._offset(vector), vector.lanes))
            for p in range(len(places)):
                tir.store_vector(sums, starts[p * len(each.vectors) + k], bias, vector.lanes)

        def row(number: Expr, element: Expr) -> None:
            lines = [
                tir.name(
                    tir.load_vector(
                        weights, self._offset(vector) + (number + 1) * of.unit_block, vector.lanes
                    )
                )
                for vector in each.vectors
            ]
            # Neighbouring windows share elements; kept for the next row, they would be spilled.
            tir.settle(lines[0])
            given = tir.as_if_other(x, element)
            for p, (distance, _) in enumerate(places):
                value = tir.name(given[distance])
                for k, (vector, line) in enumerate(zip(each.vectors, lines, strict=True)):
                    at = starts[p * len(each.vectors) + k]
                    old = tir.load_vector(sums, at, vector.lanes)
                    new = old + line * tir.broadcast(value, vector.lanes)
                    tir.store_vector(sums, at, new, vector.lanes)

        *loops, inner = of.window
        with tir.nest([walk.extent for walk in loops]) as (indices, number):
            start: Expr = tir.integer(0)
            for index, walk in zip(indices, loops, strict=True):
                start = start + index * walk.stride
            start, first = tir.name(start), tir.name(number * inner.extent)
            whole = 0 if inner.extent <= _UNROLLED else inner.extent // _UNROLLED
            if whole:
                with tir.loop(whole) as i:
                    for step in range(_UNROLLED):
                        k = i * _UNROLLED + step
                        row(first + k, start + k * inner.stride)
            for k in range(whole * _UNROLLED, inner.extent):
                row(first + k, start + k * inner.stride)
        self._finish(each, sums, starts, [shown for _, shown in places], y)

    def _finish(
        self, each: Pass, sums: Buffer, starts: Sequence[int], places: Sequence[int], y: Buffer
    ) -> None:
        """Write the outputs of a tile; long functions stand in the code once for each vector."""
        count = len(each.vectors)

        def write(vector: Lanes, at: Expr | int, place: Expr | int) -> None:
            value = tir.load_vector(sums, at, vector.lanes)
            if self._of.activation is not None:
                functions = Functions(vector.lanes, tir.name, self._isa.has_fma)
                value = functions.apply(self._of.activation, tir.name(value))
            _store(y, place + vector.first, value, vector)

        if self._of.activation is None or self._of.activation.fn is Fn.RELU:
            for p, place in enumerate(places):
                for k, vector in enumerate(each.vectors):
                    write(vector, starts[p * count + k], place)
            return
        distance = sum(vector.lanes for vector in each.vectors)
        tiling = self._tiling
        with tir.loop(tiling.rows) as r, tir.loop(tiling.columns) as c:
            p = r * tiling.columns + c
            place = r * self._down.shown + c * self._across.shown
            for k, vector in enumerate(each.vectors):
                write(vector, p * distance + starts[k], place)


def _store(y: Buffer, place: Expr | int, value: Expr, vector: Lanes) -> None:
    if vector.count == vector.lanes:
        tir.store_vector(y, place, value, vector.lanes)
    else:
        count = tir.integer(vector.count)
        tir.store_masked(y, place, value, vector.lanes, count)
