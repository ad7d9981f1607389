"""Layers of a call whose batch, or rows, go through them together."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from edgelstm_compiler.ir.columns import DenseColumns, RecurrentColumns
from edgelstm_compiler.ir.kernels import DenseKernel, RecurrentKernel
from edgelstm_compiler.ir.numerics import Float32
from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.batch.columns import BatchColumns
from edgelstm_targets.tvm_cpu.batch.dense import BatchDense, buffer_types
from edgelstm_targets.tvm_cpu.batch.layer import BatchLayer
from edgelstm_targets.tvm_cpu.batch.shape import for_columns
from edgelstm_targets.tvm_cpu.batch.tile import ColumnMemory, element_bytes
from edgelstm_targets.tvm_cpu.recurrent import Arguments, Layer, Memory, layer_function
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr, Function, Parameter

_WORD = 4


def batch_layer_function(
    name: str,
    kernel: RecurrentKernel,
    arguments: Arguments,
    isa: InstructionSet,
    layer: type[Layer],
) -> Function:
    """The function of a recurrent kernel with `columns`; its parameters are those of others."""
    layout = RecurrentColumns(kernel)

    def write(memory: Memory) -> None:
        first = tir.behind(memory.work, layout.shared_bytes // _WORD)

        def group(at: Expr, count: Expr) -> None:
            columns = BatchColumns(count, ColumnMemory(first, layout.stride_bytes), memory, at)
            BatchLayer(kernel, arguments, for_columns(isa), layer, columns, memory.work).write()

        _in_groups(kernel.batch, kernel.columns, group)

    return layer_function(name, kernel, arguments, isa, layer, write)


def batch_dense_function(
    name: str, kernel: DenseKernel, isa: InstructionSet, *, has_table: bool
) -> Function:
    """The function of a dense kernel with `columns`: x, weights, table, y, workspace."""
    types, layout = buffer_types(kernel), DenseColumns(kernel)
    has_work = not isinstance(kernel.numerics, Float32)

    def body(x: Buffer, weights: Buffer, *rest: Buffer) -> None:
        *tables, y = rest[:-1] if has_work else rest
        work = rest[-1] if has_work else weights
        first = tir.behind(work, layout.shared_bytes // _WORD) if has_work else weights

        def group(at: Expr, count: Expr) -> None:
            BatchDense(
                kernel,
                for_columns(isa),
                count,
                _rows_of(x, at, kernel.features),
                _rows_of(y, at, kernel.units),
                weights,
                tables[0] if tables else None,
                ColumnMemory(first, layout.stride_bytes),
                work,
            ).write()

        _in_groups(kernel.rows, kernel.columns, group)

    types = {**types, "work": "float32"}
    order = ("x", "weights", *(("table",) if has_table else ()), "y")
    names = [*order, *(("work",) if has_work else ())]
    return tir.define(name, [Parameter(key, types[key]) for key in names], body)


def _rows_of(buffer: Buffer, first: Expr, elements: int) -> ColumnMemory:
    return ColumnMemory(tir.behind(buffer, first * elements), elements * element_bytes(buffer))


def _in_groups(total: int, each: int, write: Callable[[Expr, Expr], None]) -> None:
    """All columns, in groups that go through the layer together."""
    with tir.loop(-(-total // each)) as i:
        first = tir.name(i * each)
        write(first, tir.name(tirx.min(tir.integer(each), total - first)))
