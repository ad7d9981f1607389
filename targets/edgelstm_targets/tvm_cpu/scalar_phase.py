"""A phase of packed bytes one unit at a time: where its parts stand, its sums in fixed point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgelstm_compiler.ir.kernels import Phase, Section, Source
from edgelstm_compiler.ir.numerics import BytePacking
from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.dot import scalar_product
from edgelstm_targets.tvm_cpu.dot.product import Vector
from edgelstm_targets.tvm_cpu.dot.scalar import Rows, ScalarProduct
from edgelstm_targets.tvm_cpu.integer_arithmetic import Integers
from edgelstm_targets.tvm_cpu.integer_phase import IntegerVectors, accumulated
from edgelstm_targets.tvm_cpu.matvec import Operand
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr

_WORD, _HALF = 4, 2


@dataclass(frozen=True, slots=True)
class ScalarSection:
    """A section, and the vector it is multiplied with."""

    index: int
    section: Section
    product: ScalarProduct
    vector: Vector


@dataclass(frozen=True, slots=True)
class ScalarPhase:
    """A phase of an Integer layer in blocks of one unit (`matvec.BlockPhase`); offsets in words.

    Args:
        phase: sections and biases.
        peepholes: peephole vectors of a block.
        isa: the instruction set.
        packing: of the weights, with one unit in a block.
        x_dtype: "int8" or "int16".
        vectors: where x and h come from.
        x_shift, h_shift, sum_shift: as in the operator.
        bounded: the sources whose int8 is never -128.
    """

    phase: Phase
    peepholes: int
    isa: InstructionSet
    packing: BytePacking
    x_dtype: str
    vectors: IntegerVectors
    x_shift: int
    h_shift: int
    sum_shift: int
    bounded: frozenset[Source]

    @property
    def units(self) -> int:
        """One."""
        return 1

    @property
    def parts(self) -> int:
        """One."""
        return 1

    @property
    def peephole_offset(self) -> int:
        """Words from the start of a block to its peepholes."""
        return self._scale_bytes(len(self.phase.sections)) // _WORD

    @property
    def block_elements(self) -> int:
        """Words of a block."""
        return self.section_offset(len(self.phase.sections))

    def section_offset(self, index: int) -> int:
        """Words from the start of a block to a section; `len(sections)` gives its end."""
        head = self._scale_bytes(len(self.phase.sections)) + _HALF * self.peepholes
        size = self.packing.padded(head)
        for section in self.phase.sections[:index]:
            groups = math.ceil(section.extent / self.packing.group)
            size += self.packing.padded(groups * len(section.gates) * self.packing.group)
        return size // _WORD

    def streams(self, operands: Sequence[Operand | None]) -> list[ScalarSection]:
        """Bring the vectors of all sections into place."""
        prepared = []
        vectors, numbers = self.vectors, Integers(1, self.isa)
        for index, (section, operand) in enumerate(zip(self.phase.sections, operands, strict=True)):
            assert operand is not None
            is_x = section.source is Source.X
            dtype = self.x_dtype if is_x else "int8"
            is_bounded = section.source in self.bounded
            product = scalar_product(self.isa, dtype, self.packing, section.extent, is_bounded)

            def element(at: Expr, operand: Operand = operand, is_x: bool = is_x) -> Expr:
                value = numbers.wide(operand.element(at))
                if is_x or vectors.narrowing is None:
                    return value
                return numbers.narrow(value, *vectors.narrowing)

            start = vectors.x_start if is_x else vectors.h_start
            vector = product.prepare(vectors.work, start, section.extent, element)
            prepared.append(ScalarSection(index, section, product, vector))
        return prepared

    def sums(
        self,
        weights: Buffer,
        block: Expr,
        part: int,
        streams: Sequence[ScalarSection],
        first: Operand | None = None,
    ) -> list[Expr]:
        """For each accumulator its rescaled and shifted sum, as int32."""
        del part
        assert first is None
        numbers = Integers(1, self.isa)
        words, halves = tir.flat(weights.data, "int32"), tir.flat(weights.data, "int16")
        # All loops first: multipliers that are read in between would have to be kept.
        sums = [self._section_sums(weights.data, block, prepared) for prepared in streams]
        scaled = []
        for prepared, values in zip(streams, sums, strict=True):
            bits = self._bits(prepared.section) + prepared.product.scale_bits
            start = block * (_WORD // _HALF) + self._scale_bytes(prepared.index) // _HALF
            scaled.append(
                [
                    numbers.shifted(value, bits) * numbers.wide(halves[start + gate])
                    for gate, value in enumerate(values)
                ]
            )
        totals = accumulated(self.phase.accumulators, self.phase.sections, scaled)
        return [
            tir.name(numbers.shifted(total + words[block + a], self.sum_shift))
            for a, total in enumerate(totals)
        ]

    def _section_sums(self, data: Expr, block: Expr, prepared: ScalarSection) -> list[Expr]:
        """Write the loop over a section.

        Args:
            data: pointer to the packed weights.
            block: word at which the block begins.
            prepared: section and vector.

        Returns:
            For each gate the sum, with what rounds it when it is shifted.
        """
        product, gates = prepared.product, len(prepared.section.gates)
        groups = math.ceil(prepared.section.extent / self.packing.group)
        sums, first = tir.local(gates, "int32"), self._first(prepared)
        for gate in range(gates):
            tir.store(sums, gate, first)
        rows = Rows(data, block + self.section_offset(prepared.index))
        body = product.body(gates)
        whole = groups // body if groups > body else 0
        if whole:
            with tir.loop(product.times(whole)) as i:
                near = product.near(rows, gates, i * body, body)
                for step in range(body):
                    product.add_group(sums, gates, near, prepared.vector, i * body + step)
        for first in range(whole * body, groups, body):
            count = min(body, groups - first)
            near = product.near(rows, gates, tir.integer(first), count)
            for k in range(first, first + count):
                product.add_group(sums, gates, near, prepared.vector, tir.integer(k))
        return [sums[gate] for gate in range(gates)]

    def _first(self, prepared: ScalarSection) -> Expr:
        """What sums begin with: their rounding, without what the offsets of weights add."""
        bits, product = self._bits(prepared.section), prepared.product
        first = tir.integer((1 << bits >> 1) << product.scale_bits)
        correction = prepared.vector.correction
        return first if correction is None else tir.name(first - correction)

    def _bits(self, section: Section) -> int:
        """How far the sums of a section are shifted."""
        return self.x_shift if section.source is Source.X else self.h_shift

    def _scale_bytes(self, index: int) -> int:
        """Bytes from the start of a block to the multipliers of a section."""
        gates = sum(len(section.gates) for section in self.phase.sections[:index])
        return _WORD * self.phase.accumulators + _HALF * gates
