"""Kernels of many columns as functions: recurrent layers and dense ones, in any numerics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgelstm_compiler.ir.columns import MOST_COLUMNS, DenseColumns, RecurrentColumns
from edgelstm_compiler.ir.kernels import DenseKernel, RecurrentKernel
from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.batch.columns import Kind, Layout, StreamColumns
from edgelstm_targets.tvm_cpu.batch.dense import BatchDense, buffer_types
from edgelstm_targets.tvm_cpu.batch.layer import BatchLayer
from edgelstm_targets.tvm_cpu.batch.shape import for_columns
from edgelstm_targets.tvm_cpu.batch.tile import ColumnMemory, FirstSums
from edgelstm_targets.tvm_cpu.layers import LAYERS
from edgelstm_targets.tvm_cpu.recurrent import Arguments, Memory
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Function, Parameter


@dataclass(frozen=True, slots=True)
class RecurrentOfStreams:
    """A recurrent layer of a step, for the streams of a group.

    Args:
        kernel: sizes and attributes; its batch is one.
        arguments: which buffers there are.
        kinds: of the buffers that there are, in the order of `parameters`.
        stride_bytes: from the memory of one column to that of the next.
        is_begun: the sums of x are given, see `projected.py`.
    """

    kernel: RecurrentKernel
    arguments: Arguments
    kinds: tuple[Kind, ...]
    stride_bytes: int
    is_begun: bool = False

    @property
    def work_bytes(self) -> int:
        """Of the workspaces of all columns."""
        return RecurrentColumns(self.kernel).total_bytes(MOST_COLUMNS)

    def function(self, name: str, isa: InstructionSet) -> Function:
        """Its parameters: the buffers of the first column, sums of x, common ones."""
        kernel, arguments = self.kernel, self.arguments
        layer = LAYERS[type(kernel.numerics)]
        names, types = kernel.cell.state_names, layer.element_types(kernel)
        states = list(zip(names, types.states, strict=True))
        optional = (
            ("x", types.x, True),
            ("weights", "float32", True),
            *(
                (f"initial_{state}", dtype, given)
                for (state, dtype), given in zip(states, arguments.initial, strict=True)
            ),
            ("tables", types.tables or "", types.tables is not None),
            ("y", types.y, arguments.y),
            *(
                (f"y_{state}", dtype, True)
                for state, dtype in zip(names, types.states, strict=True)
            ),
        )
        own = [Parameter(key, dtype) for key, dtype, present in optional if present]
        kinds = {each.name: kind for each, kind in zip(own, self.kinds, strict=True)}
        layout = RecurrentColumns(kernel)

        def body(*values: Buffer) -> None:
            *buffers, work, offsets, count = values
            buffers, begun_from = buffers[: len(own)], buffers[len(own) :]
            given = dict(zip((each.name for each in own), buffers, strict=True))
            memory = Memory(
                given["x"],
                given["weights"],
                None,
                tuple(given.get(f"initial_{state}") for state in names),
                given.get("y"),
                tuple(given[f"y_{state}"] for state in names),
                work,
                tir.integer(0),
                given.get("tables"),
            )
            order = ("x", "y", *(f"initial_{n}" for n in names), *(f"y_{n}" for n in names))
            first = tir.behind(work, layout.shared_bytes // 4)
            columns = StreamColumns(
                count,
                ColumnMemory(first, layout.stride_bytes),
                memory,
                tuple(kinds.get(key, Kind.SHARED) for key in order),
                Layout(self.stride_bytes, offsets),
            )
            begun = None
            if begun_from:
                sums, starts = begun_from
                begun = FirstSums(sums, starts, tir.integer(0))
            BatchLayer(kernel, arguments, for_columns(isa), layer, columns, work, begun).write()

        given_sums = [Parameter("begun", "float32"), Parameter("starts", "int64")]
        more = given_sums if self.is_begun else []
        return tir.define(name, [*own, *more, *common_parameters()], body)


@dataclass(frozen=True, slots=True)
class DenseOfStreams:
    """A dense layer of a step, for the streams of a group.

    Args:
        kernel: sizes.
        has_table: in integers, whether it is given a table.
        stride_bytes: from the memory of one column to that of the next.
    """

    kernel: DenseKernel
    has_table: bool
    stride_bytes: int

    @property
    def work_bytes(self) -> int:
        """Of the workspaces of all columns."""
        return DenseColumns(self.kernel).total_bytes(MOST_COLUMNS)

    def function(self, name: str, isa: InstructionSet) -> Function:
        """Its parameters: the buffers of the first column, workspace, state offsets, count."""
        kernel, types = self.kernel, buffer_types(self.kernel)
        layout = DenseColumns(kernel)

        def body(x: Buffer, weights: Buffer, *rest: Buffer) -> None:
            *tables, y, work, _, count = rest
            first = tir.behind(work, layout.shared_bytes // 4)
            with tir.repeat(kernel.rows) as row:
                BatchDense(
                    kernel,
                    for_columns(isa),
                    count,
                    ColumnMemory(tir.behind(x, row * kernel.features), self.stride_bytes),
                    ColumnMemory(tir.behind(y, row * kernel.units), self.stride_bytes),
                    weights,
                    tables[0] if tables else None,
                    ColumnMemory(first, layout.stride_bytes),
                    work,
                ).write()

        order = ("x", "weights", *(("table",) if self.has_table else ()), "y")
        own = [Parameter(key, types[key]) for key in order]
        return tir.define(name, [*own, *common_parameters()], body)


def common_parameters() -> Sequence[Parameter]:
    """The last parameters of every kernel of many columns."""
    return (
        Parameter("work", "float32"),
        Parameter("offsets", "int64"),
        Parameter("count", "int32", is_pointer=False),
    )
