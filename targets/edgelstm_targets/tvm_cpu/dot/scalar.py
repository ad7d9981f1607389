"""Products of packed bytes one unit at a time, for processors without vectors (Cortex-M).

Here the sums of a unit's gates stand in core registers, and share what is read of the activations.
As with `product.py` sums wrap around at 32 bits; the final one fits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from edgelstm_compiler.ir.numerics import BytePacking
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.dot.product import Vector
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr

_BYTES = {"int8": 1, "int16": 2, "int32": 4}


@dataclass(frozen=True, slots=True)
class Rows:
    """The weights of a section.

    Args:
        data: pointer to all weights.
        start: word at which those of the section begin, or of group `first`.
        first: the group that stands there.
        count: groups that are read from there.
    """

    data: Expr
    start: Expr
    first: Expr | int = 0
    count: int = 0


@dataclass(frozen=True, slots=True)
class ScalarProduct:
    """One way of multiplying a group of packed weights with the same group of a vector; exact.

    Args:
        dtype: of the vector, "int8" or "int16".
        packing: of the weights.
    """

    dtype: str
    packing: BytePacking

    scale_bits: ClassVar[int] = 0
    """Sums are the true ones times 2^scale_bits."""

    @property
    def is_counted(self) -> bool:
        """Whether the offsets of the weights add something to every sum."""
        return any(self.packing.offsets)

    @property
    def stored(self) -> str:
        """Type of what `arrange` writes and `add_group` reads."""
        raise NotImplementedError

    @property
    def stored_per_group(self) -> int:
        """How many of them a group takes."""
        raise NotImplementedError

    def body(self, gates: int) -> int:
        """Groups in the body of the inner loop."""
        raise NotImplementedError

    def times(self, count: int) -> Expr:
        """How often the inner loop runs."""
        return tir.integer(count)

    def group_start(self, first: int, group: Expr, extent: int) -> Expr:
        """Where a group stands: the vector of `extent` elements has memory from `first` on."""
        del extent
        return first + group * self.stored_per_group

    def start(self, first: int, extent: int) -> int:
        """What `add_group` is told of such a vector."""
        del extent
        return first

    def arrange(self, target: Buffer, target_start: Expr, values: Sequence[Expr]) -> None:
        """Write a group of a vector, given as int32."""
        raise NotImplementedError

    def counted(self, values: Sequence[Expr]) -> Expr:
        """What is summed up over the vector for its correction."""
        raise NotImplementedError

    def correction(self, total: Expr) -> Expr:
        """What is too much in every sum, from the sum of `counted`."""
        return total * tir.integer(128 << self.scale_bits)

    def add_group(self, sums: Buffer, gates: int, rows: Rows, vector: Vector, group: Expr) -> None:
        """Add a group of the vector, times the weights of all gates, to the gates' sums."""
        raise NotImplementedError

    def near(self, rows: Rows, gates: int, group: Expr, count: int) -> Rows:
        """The weights as `count` groups from this one on are read best."""
        del gates, group, count
        return rows

    def prepare(
        self, work: Buffer, start: int, extent: int, element: Callable[[Expr], Expr]
    ) -> Vector:
        """Write a vector to memory as the products read it.

        Args:
            work: memory, as any type.
            start: byte at which the vector is to stand; there is room for whole groups.
            extent: elements.
            element: gives one as int32.
        """
        target = tir.flat(work.data, self.stored)
        first = start // _BYTES[self.stored]
        total = tir.local(1, "int32")
        if self.is_counted:
            tir.store(total, 0, tir.integer(0))
        size = self.packing.group

        def write(group: Expr, count: int) -> None:
            values = [
                tir.name(element(group * size + i)) if i < count else tir.integer(0)
                for i in range(size)
            ]
            if self.is_counted:
                tir.store(total, 0, total[0] + self.counted(values))
            self.arrange(target, self.group_start(first, group, extent), values)

        whole, rest = divmod(extent, size)
        if whole > 1:
            with tir.loop(whole) as i:
                write(i, size)
        elif whole:
            write(tir.integer(0), size)
        if rest:
            write(tir.integer(whole), rest)
        correction = tir.name(self.correction(total[0])) if self.is_counted else None
        return Vector(target, self.start(first, extent), correction)
