"""Pooling and depthwise convolution: a row of positions at once, without windows in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from tvm import tirx

from edgelstm_compiler.ir.ops import Reduction, WindowReduce
from edgelstm_compiler.ir.types import TensorType
from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr, Function, Parameter

UNROLLED = 8
"""Elements of a kernel's row that stand one behind the other in the code."""

_VECTORS = 2
"""Registers of positions that are computed together."""


def window_reduce_function(
    name: str,
    op: WindowReduce,
    inputs: Sequence[TensorType | None],
    output: TensorType,
    isa: InstructionSet,
) -> Function:
    """One channel after the other; along the last axis positions are lanes of vectors.

    Where the kernel lies inside of the input along that axis nothing is asked; at both ends
    positions are taken one by one. Along the other axes what lies outside is left out.
    """
    kernels = _Kernels(op, inputs, output, isa)
    given = [item for item in inputs if item is not None]
    names = ("x", "weights", "bias")[: len(given)]
    parameters = [Parameter(item, "float32") for item in (*names, "y")]
    return tir.define(name, parameters, kernels.body)


class _Kernels:
    """The loops of one operator."""

    def __init__(
        self,
        op: WindowReduce,
        inputs: Sequence[TensorType | None],
        output: TensorType,
        isa: InstructionSet,
    ) -> None:
        assert inputs[0] is not None
        self._op = op
        self._extents = inputs[0].shape[2:]
        self._batch, self._channels = inputs[0].shape[:2]
        self._outputs, self._positions = output.shape[1], output.shape[2:]
        self._last = len(self._extents) - 1
        self._first, self._end = op.windows.inside(self._last, self._extents[self._last])
        self._lanes = _lanes(self._end - self._first, isa)

    def body(self, x: Buffer, *others: Buffer) -> None:
        """All channels of all rows."""
        *stored, y = others
        weights, bias = (*stored, None, None)[:2]
        each = self._outputs // self._channels
        plane, area = math.prod(self._extents), math.prod(self._positions)
        size = math.prod(self._op.kernel)
        with tir.loop(self._batch) as batch, tir.loop(self._outputs) as output:
            start = tir.name((batch * self._channels + tirx.truncdiv(output, each)) * plane)
            shown = tir.name((batch * self._outputs + output) * area)
            initial = tirx.const(self._op.fill, "float32") if bias is None else bias[output]
            with tir.nest(self._positions[: self._last]) as (position, row):
                target = tir.name(shown + row * self._positions[self._last])
                job = _Row(self, x, y, start, target, position, weights, output * size, initial)
                job.write()


class _Row:
    """The positions of one row of the output."""

    def __init__(
        self,
        kernels: _Kernels,
        x: Buffer,
        y: Buffer,
        start: Expr,
        target: Expr,
        position: Sequence[Expr],
        weights: Buffer | None,
        first_weight: Expr,
        initial: Expr,
    ) -> None:
        self._of, self._op = kernels, kernels._op
        self._x, self._y, self._start, self._target = x, y, start, target
        self._position, self._initial = position, initial
        self._weights, self._first_weight = weights, first_weight

    def write(self) -> None:
        """The ends one by one, what lies between them in vectors; the last one may overlap."""
        of = self._of
        first, end, count = of._first, of._end, of._positions[of._last]
        for begin, stop in ((0, first), (end, count)):
            if stop > begin:
                with tir.loop(stop - begin) as i:
                    self._compute(i + begin, 1, is_inner=False)
        if end > first:
            lanes = of._lanes
            with tir.loop(-(-(end - first) // lanes)) as i:
                self._compute(
                    tirx.min(i * lanes, end - first - lanes) + first, lanes, is_inner=True
                )

    def _compute(self, at: Expr, lanes: int, *, is_inner: bool) -> None:
        op, of = self._op, self._of
        at = tir.name(at)
        total = tir.local(lanes)
        tir.store_vector(total, 0, tir.broadcast(self._initial, lanes), lanes)
        last, kernel = of._last, op.kernel
        column = tir.name(at * op.stride[last] - op.begin[last])
        with tir.nest(kernel[:last]) as (offsets, number):
            rows = [
                self._position[s] * op.stride[s] + offsets[s] * op.dilation[s] - op.begin[s]
                for s in range(last)
            ]
            inside = [
                condition
                for s, row in enumerate(rows)
                if op.begin[s] or op.end[s]
                for condition in (row >= 0, row < of._extents[s])
            ]
            line: Expr = tir.integer(0)
            for s, row in enumerate(rows):
                line = line * of._extents[s] + row
            start = self._start + line * of._extents[last] + column
            with _all(inside):
                self._line(total, start, column, number * kernel[last], lanes, is_inner=is_inner)
        tir.store_vector(self._y, self._target + at, tir.load_vector(total, 0, lanes), lanes)

    def _line(
        self,
        total: Buffer,
        start: Expr,
        column: Expr,
        number: Expr,
        lanes: int,
        *,
        is_inner: bool,
    ) -> None:
        """One row of the kernel."""
        op, last = self._op, self._of._last
        start = tir.name(start)
        count = op.kernel[last]
        if count <= UNROLLED:
            for step in range(count):
                k = tir.integer(step)
                self._element(total, start, column, number, k, lanes, is_inner=is_inner)
        else:
            with tir.loop(count) as k:
                self._element(total, start, column, number, k, lanes, is_inner=is_inner)

    def _element(
        self,
        total: Buffer,
        start: Expr,
        column: Expr,
        number: Expr,
        k: Expr,
        lanes: int,
        *,
        is_inner: bool,
    ) -> None:
        op, last = self._op, self._of._last
        offset = k * op.dilation[last]
        inside = (
            [] if is_inner else [column + offset >= 0, column + offset < self._of._extents[last]]
        )
        with _all(inside):
            index = start + offset
            if lanes > 1:
                index = tirx.Ramp(index, op.stride[last], lanes)
            value = self._x[index]
            old = tir.load_vector(total, 0, lanes)
            weight = None
            if self._weights is not None:
                weight = tir.broadcast(self._weights[self._first_weight + number + k], lanes)
            new = merged(self._op.reduction, old, value, weight)
            tir.store_vector(total, 0, new, lanes)


def merged(reduction: Reduction, total: Expr, value: Expr, weight: Expr | None) -> Expr:
    """A total and one more element, a product where there is a weight."""
    match reduction:
        case Reduction.SUM:
            return total + (value if weight is None else value * weight)
        case Reduction.PROD:
            return total * value
        case Reduction.MAX:
            found = tirx.max(value, total)
        case Reduction.MIN:
            found = tirx.min(value, total)
    # NaN wins: max and min give the second operand where one is NaN.
    return tirx.Select(value != value, value, found)


def _lanes(count: int, isa: InstructionSet) -> int:
    """The most lanes that a row of so many positions fills."""
    lanes = _VECTORS * isa.lanes if isa.lanes > 1 else 1
    while lanes > max(1, count):
        lanes //= 2
    return lanes


@contextmanager
def _all(conditions: Sequence[Expr]) -> Iterator[None]:
    """The block, if all conditions hold."""
    with ExitStack() as stack:
        if conditions:
            stack.enter_context(tir.when(tirx.all(*conditions)))
        yield
