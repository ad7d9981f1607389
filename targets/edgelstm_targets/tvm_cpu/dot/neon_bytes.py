"""Bytes by smull and smlal, two products in 16 bits: NEON without dot products.

Weights lie in [-127, 127], so that two products, at most 2 * 127 * 128 = 32512, fit into 16 bits.
They are added in pairs to 32 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tvm import tirx

from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.dot.neon_halves import NeonWidening
from edgelstm_targets.tvm_cpu.dot.product import Vector
from edgelstm_targets.tvm_cpu.tensorir import Expr


@dataclass(frozen=True, slots=True)
class NeonBytes(NeonWidening):
    """Partial sums of two units each, one for every two inputs."""

    stored: ClassVar[str] = "int8"
    read_as: ClassVar[str] = "int8"
    added: ClassVar[int] = 2
    registers: ClassVar[int] = 2

    def factors_of(self, vector: Vector, group: Expr, count: int) -> list[list[Expr]]:
        """Each group for the first two units, and for the others."""
        return [
            [self.half(factor, half) for half in range(2)]
            for factor in self.repeated(vector, group, count)
        ]

    def add_groups(
        self, totals: Sequence[Expr], words: Sequence[Expr], factors: Sequence[Sequence[Expr]]
    ) -> list[Expr]:
        """Three instructions for each register of weights."""
        lines = [tir.name(tirx.reinterpret("int8x16", line)) for line in words]
        results = []
        for half, total in enumerate(totals):
            products = [
                self.multiplied(self.half(line, half), factor[half])
                for line, factor in zip(lines, factors, strict=True)
            ]
            pair = products[0] if len(products) == 1 else products[0] + products[1]
            results.append(self.add_pairs(total, pair))
        return results

    def summed(self, totals: Sequence[Expr]) -> Expr:
        """The sum of both halves of the inputs."""
        return self.add_neighbours(*totals)
