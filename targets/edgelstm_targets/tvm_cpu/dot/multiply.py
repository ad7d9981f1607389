"""Byte by byte with plain multiplications (Cortex-M0+ and M3).

Reading a byte with its sign takes an address of its own on a Cortex-M0+, one without a sign does
not: weights are w + 128 there. The same holds for halves, so that vectors are kept in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx

from edgelstm_compiler.ir.quantized_kernels import K_GROUP
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.dot.product import Vector
from edgelstm_targets.tvm_cpu.dot.scalar import ScalarProduct
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

    def arrange(self, target: Buffer, place: Expr, values: Sequence[Expr]) -> None:
        """In order."""
        for i, value in enumerate(values):
            tir.store(target, place + i, tirx.Cast(self.stored, value))

    def counted(self, values: Sequence[Expr]) -> Expr:
        """All of them."""
        first, *rest = values
        return sum(rest, first)

    def factors(self, vector: Vector, group: Expr) -> list[Expr]:
        """Four elements."""
        start = vector.start + group * K_GROUP
        return [tir.name(tirx.Cast("int32", vector.buffer[start + i])) for i in range(K_GROUP)]

    def weights(self, data: Expr, start: Expr, group: Expr) -> list[Expr]:
        """Four bytes."""
        bytes_ = tir.flat(data, "uint8" if self.is_counted else "int8")
        first = start * _WORD + group * K_GROUP
        return [tirx.Cast("int32", bytes_[first + i]) for i in range(K_GROUP)]

    def add(self, total: Expr, weights: Sequence[Expr], factors: Sequence[Expr]) -> Expr:
        """One product after another."""
        for weight, factor in zip(weights, factors, strict=True):
            total = total + weight * factor
        return total
