"""What tells the columns of a batch apart: where the buffers of each of them stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from tvm import tirx

from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.batch.tile import ColumnMemory, element_bytes
from edgelstm_targets.tvm_cpu.recurrent import Memory
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr


class Kind(StrEnum):
    """How a buffer differs from column to column."""

    COLUMN = "column"  # at the column's place in memory that all columns have
    STATE = "state"  # in the state block of the column's stream
    SHARED = "shared"  # not at all


class Columns(Protocol):
    """The columns that go through a layer together."""

    @property
    def count(self) -> Expr:
        """How many there are."""
        ...

    @property
    def work(self) -> ColumnMemory:
        """The workspaces of the columns, as float32."""
        ...

    def memory(self, column: Expr) -> Memory:
        """The buffers of one column."""
        ...

    def element(self, column: Expr) -> Expr:
        """Which element of the kernel's batch it is."""
        ...


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the memory of columns stands.

    Args:
        stride_bytes: from one column's block to the next.
        offsets: for each column the byte at which its state block begins, int64.
    """

    stride_bytes: int
    offsets: Buffer

    def of(self, buffer: Buffer, kind: Kind, column: Expr) -> Buffer:
        """The buffer of one column."""
        size = element_bytes(buffer)
        if kind is Kind.SHARED:
            return buffer
        if kind is Kind.COLUMN:
            return tir.behind(buffer, column * (self.stride_bytes // size))
        # A shift: 32-bit processors have no division of 64 bits.
        bits = tirx.const(size.bit_length() - 1, "int64")
        return tir.behind(buffer, tir.name(self.offsets[column] >> bits))


@dataclass(frozen=True, slots=True)
class StreamColumns:
    """A column is a stream: its state stands elsewhere, everything else in its block.

    Args:
        count: how many columns there are.
        work: their workspaces.
        buffers: those of the first column; of states, where offset 0 would be.
        kinds: of x, y, initial states and states, in this order.
        layout: the memory of the others.
    """

    count: Expr
    work: ColumnMemory
    buffers: Memory
    kinds: tuple[Kind, ...]
    layout: Layout

    def memory(self, column: Expr) -> Memory:
        """The buffers of one column."""
        base = self.buffers
        x_kind, y_kind, *others = self.kinds
        half = len(base.states)

        def moved(buffers: Sequence[Buffer], kinds: Sequence[Kind]) -> tuple[Buffer, ...]:
            return tuple(
                None if buffer is None else self.layout.of(buffer, kind, column)
                for buffer, kind in zip(buffers, kinds, strict=True)
            )

        (x, y) = moved((base.x, base.y), (x_kind, y_kind))
        return replace(
            base,
            x=x,
            y=y,
            initial=moved(base.initial, others[:half]),
            states=moved(base.states, others[half:]),
            work=self.work.of(column),
        )

    def element(self, column: Expr) -> Expr:
        """Kernels of a stream have a batch of one."""
        del column
        return tir.integer(0)


@dataclass(frozen=True, slots=True)
class BatchColumns:
    """A column is an element of the kernel's batch; the first one may be another than 0.

    Args:
        count: how many columns there are.
        work: their workspaces.
        buffers: of the whole batch.
        first: which element the first column is.
    """

    count: Expr
    work: ColumnMemory
    buffers: Memory
    first: Expr

    def memory(self, column: Expr) -> Memory:
        """All of the batch, but the column's own workspace."""
        return replace(self.buffers, work=self.work.of(column))

    def element(self, column: Expr) -> Expr:
        """Which element of the kernel's batch it is."""
        return tir.name(self.first + column)
