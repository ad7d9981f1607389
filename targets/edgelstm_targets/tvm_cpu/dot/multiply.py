"""Byte by byte with plain multiplications (Cortex-M0+ and M3).

Reading a byte with its sign takes an address of its own on a Cortex-M0+, one without a sign does
not: weights are w + 128 there. The same holds for halves, so that vectors are kept in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx

from edgelstm_compiler.ir.numerics import K_GROUP
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.dot.product import Vector
from edgelstm_targets.tvm_cpu.dot.scalar import Rows, ScalarProduct
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr

_WORD = 4
_NEAR = 32  # bytes that a load reaches from one address on a Cortex-M0+


@dataclass(frozen=True, slots=True)
class Multiply(ScalarProduct):
    """A load, a multiplication and an addition."""

    @property
    def stored(self) -> str:
        """Each element alone."""
        return f"int{8 * self.packing.vector_bytes}"

    @property
    def stored_per_group(self) -> int:
        """All of them."""
        return K_GROUP

    def body(self, gates: int) -> int:
        """As many as one address reaches."""
        return max(1, _NEAR // (gates * K_GROUP))

    def group_start(self, first: int, group: Expr, extent: int) -> Expr:
        """The last group first."""
        return self.start(first, extent) - (group + 1) * K_GROUP

    def start(self, first: int, extent: int) -> int:
        """The end.

        Where the addresses of weights and elements grow alike, LLVM makes one counter for both:
        three numbers to keep instead of two, and a Cortex-M0+ has no register for the third.
        """
        return first + -(-extent // K_GROUP) * K_GROUP

    def arrange(self, target: Buffer, target_start: Expr, values: Sequence[Expr]) -> None:
        """In order."""
        for i, value in enumerate(values):
            tir.store(target, target_start + i, tirx.Cast(self.stored, value))

    def counted(self, values: Sequence[Expr]) -> Expr:
        """All of them."""
        first, *rest = values
        return sum(rest, first)

    def near(self, rows: Rows, gates: int, group: Expr, count: int) -> Rows:
        """At an address of their own, which reaches all of them.

        Of one that reaches less LLVM would add a constant for every load, an instruction more.
        """
        group = tir.name(group)
        at = rows.start * _WORD + group * (gates * K_GROUP)
        other = tir.as_if_other(tir.flat(rows.data, self._weight), at)
        return Rows(other.data, tir.integer(0), group, count)

    @property
    def _weight(self) -> str:
        return "uint8" if self.is_counted else "int8"

    def add_group(self, sums: Buffer, gates: int, rows: Rows, vector: Vector, group: Expr) -> None:
        """Element by element: one that all gates are through with frees its register."""
        bytes_ = tir.flat(rows.data, self._weight)
        first = rows.start * _WORD + (group - rows.first) * (gates * K_GROUP)
        elements, buffer = vector.start - (group + 1) * K_GROUP, vector.buffer
        if self.is_counted:
            # A Cortex-M0+ reaches 32 words, an M3 all that there are.
            last = rows.first + rows.count
            buffer = tir.as_if_other(buffer, vector.start - last * K_GROUP)
            elements = (last - 1 - group) * K_GROUP
        for i in range(K_GROUP):
            factor = tir.name(tirx.Cast("int32", buffer[elements + i]))
            for gate in range(gates):
                weight = tirx.Cast("int32", bytes_[first + (gate * K_GROUP + i)])
                tir.store(sums, gate, sums[gate] + weight * factor)
                tir.settle(sums[gate])
