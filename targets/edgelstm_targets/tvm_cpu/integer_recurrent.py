"""Recurrent layers of scheme int8-full: nothing but integers, the same bits on every processor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgelstm_compiler.ir.kernels import LayerKernel, Phase, RecurrentKernel, Source
from edgelstm_compiler.ir.numerics import BytePacking, Integer
from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.cells.body import write_body
from edgelstm_targets.tvm_cpu.cells.integers import IntegerNodes
from edgelstm_targets.tvm_cpu.cells.slots import Slot, UnitGroup
from edgelstm_targets.tvm_cpu.copying import copy_elements
from edgelstm_targets.tvm_cpu.dot.product import LANES
from edgelstm_targets.tvm_cpu.integer_phase import BytePhase, IntegerVectors, PreparedSection
from edgelstm_targets.tvm_cpu.integers import integers
from edgelstm_targets.tvm_cpu.matvec import Operand
from edgelstm_targets.tvm_cpu.projection import Projection
from edgelstm_targets.tvm_cpu.quantized_recurrent import load_first
from edgelstm_targets.tvm_cpu.recurrent import (
    ElementTypes,
    Layer,
    handed_operand,
)
from edgelstm_targets.tvm_cpu.scalar_phase import ScalarPhase
from edgelstm_targets.tvm_cpu.tensorir import NAMES, Buffer, Expr

_HALF_BYTES = 2


def numerics_of(kernel: LayerKernel) -> Integer:
    """Those of an integer layer."""
    assert isinstance(kernel.numerics, Integer)
    return kernel.numerics


@dataclass(frozen=True, slots=True)
class IntegerPhase(BytePhase):
    """A phase whose sums are rescaled in fixed point.

    Args:
        vectors: where x and h come from.
        x_shift, h_shift, sum_shift: as in the operator.
    """

    vectors: IntegerVectors
    x_shift: int
    h_shift: int
    sum_shift: int

    def streams(self, operands: Sequence[Operand | None]) -> list[PreparedSection]:
        """Bring the vectors of all sections into place."""
        prepared = []
        vectors, numbers = self.vectors, integers(LANES, self.isa)
        for index, (section, operand) in enumerate(zip(self.phase.sections, operands, strict=True)):
            assert operand is not None
            product = self.product(section.source)
            is_x = section.source is Source.X

            def element(
                at: Expr, count: int, operand: Operand = operand, is_x: bool = is_x
            ) -> Expr:
                values = load_first(operand.buffer, operand.start + at, count)
                if not is_x and vectors.narrowing is not None:
                    values = numbers.narrow(numbers.half(values), *vectors.narrowing)
                return numbers.wide(values)

            start = vectors.x_start if is_x else vectors.h_start
            vector = product.prepare(vectors.work, start, section.extent, element)
            prepared.append(PreparedSection(index, section, product, vector))
        return prepared

    def sums(
        self,
        weights: Buffer,
        block: Expr,
        part: int,
        streams: Sequence[PreparedSection],
        first: Operand | None = None,
    ) -> list[Expr]:
        """For each accumulator its rescaled and shifted sum, as int32."""
        assert first is None
        units, words = self.units, tir.flat(weights.data, "int32")
        numbers, halves = integers(units, self.isa), tir.flat(weights.data, "int16")
        shift = part * units
        terms: list[list[tuple[Expr, Expr]]] = [[] for _ in range(self.phase.accumulators)]
        order = streams
        if self.isa.dot in ("madd", "vnni"):
            # As in `quantized_recurrent.py`; the sums are exact in any order.
            order = sorted(streams, key=lambda prepared: -prepared.section.extent)
        for prepared in order:
            bits = self.x_shift if prepared.section.source is Source.X else self.h_shift
            start = (block + self.scale_offset(prepared.index)) * _HALF_BYTES + shift
            sums = self.section_sums(words, block, part, prepared)
            for gate, (a, value) in enumerate(
                zip(prepared.section.accumulators, sums, strict=True)
            ):
                factor = tir.load_vector(halves, start + gate * self.unit_block, units)
                terms[a].append((tir.name(numbers.reduced(value, bits)), numbers.half(factor)))
        totals = []
        for a, added in enumerate(terms):
            total = tir.load_vector(words, block + (a * self.unit_block + shift), units)
            for value, multiplier in added:
                total = total + numbers.product(value, multiplier)
            totals.append(tir.name(numbers.shifted(total, self.sum_shift)))
        return totals


def integer_phase(
    phase: Phase,
    blocks: int,
    peepholes: int,
    isa: InstructionSet,
    packing: BytePacking,
    x_dtype: str,
    vectors: IntegerVectors,
    shifts: tuple[int, int, int],
    *,
    bounded: frozenset[Source],
) -> IntegerPhase | ScalarPhase:
    """A phase of an integer layer, by vectors of units or one unit at a time.

    Args:
        phase: sections and biases.
        blocks: how many there are.
        peepholes: peephole vectors of a block.
        isa: the instruction set.
        packing: of the weights.
        x_dtype: "int8" or "int16".
        vectors: where x and h come from.
        shifts: x_shift, h_shift, sum_shift of the operator.
        bounded: the sources whose int8 is never -128.
    """
    if packing.unit_block == 1:
        return ScalarPhase(phase, peepholes, isa, packing, x_dtype, vectors, *shifts, bounded)
    return IntegerPhase(
        phase,
        packing.unit_block,
        blocks,
        peepholes,
        isa,
        packing.offsets[0],
        x_dtype,
        _HALF_BYTES,
        vectors,
        *shifts,
    )


@dataclass(frozen=True, slots=True)
class IntegerLayer(Layer):
    """Writes the body of an integer layer.

    The workspace holds, in lines: the new h; z and r*h as int16 for a second phase; h as products
    read it; x likewise.
    """

    @staticmethod
    def element_types(kernel: RecurrentKernel) -> ElementTypes:
        """Of the buffers of a call."""
        numerics = numerics_of(kernel)
        states = tuple(NAMES[dtype] for dtype in numerics.layer.state_types)
        return ElementTypes(
            NAMES[numerics.x_dtype], NAMES[numerics.layer.shown], states, tables="int16"
        )

    @property
    def numerics(self) -> Integer:
        """Those of the kernel."""
        return numerics_of(self.kernel)

    @property
    def phases(self) -> tuple[IntegerPhase | ScalarPhase, ...]:
        """Phases of packed bytes."""
        kernel, numerics = self.kernel, self.numerics
        sizes = kernel.sizes
        op, packing = numerics.layer, numerics.packing
        handed = sizes.handed * numerics.handed_bytes(sizes)
        h_start = numerics.new_h_bytes(sizes) + handed
        narrowing = None
        if str(self.memory.states[0].dtype) == "int16":
            narrowing = (op.output_multiplier, op.output_shift)
        h_bytes, _ = numerics.vector_bytes(sizes)
        vectors = IntegerVectors(self.memory.work, h_start + h_bytes, h_start, narrowing)
        # An initial h that the caller gives may hold -128, which no cell makes.
        is_given = narrowing is None and self.arguments.initial[0]
        bounded = {Source.X} if numerics.is_x_bounded else set()
        if not is_given:
            bounded |= {Source.H, Source.RESET_H}
        return tuple(
            integer_phase(
                phase,
                self.blocks,
                kernel.cell.peepholes,
                self.isa,
                packing,
                NAMES[numerics.x_dtype],
                vectors,
                (op.x_shift, op.h_shift, op.sum_shift),
                bounded=frozenset(bounded),
            )
            for phase in kernel.phases
        )

    @property
    def functions(self) -> tuple[int, ...]:
        """Which tables all directions' functions are."""
        return self.numerics.layer.tables

    @property
    def projections(self) -> tuple[Projection, ...] | None:
        """None: weights in int8 are read for every frame."""
        return None

    @property
    def handed_operand(self) -> Operand | None:
        """What an earlier phase handed on for a later one to multiply, of all units."""
        at, halves = handed_operand(self.kernel.cell), self._halves
        return None if at is None else Operand(halves, tir.integer(self._handed[at]))

    def finish(
        self,
        index: int,
        functions: int,
        sums: list[Expr],
        block: Expr,
        unit: Expr,
        group: UnitGroup,
        state: Expr,
    ) -> None:
        """The cell's body for one group of units."""
        kernel, memory, phase = self.kernel, self.memory, self.phases[index]
        lanes = group.lanes
        first = unit + group.offset
        count = None if group.is_whole else tir.name(kernel.op.hidden - first)
        half = len(self.functions) // kernel.op.direction.count
        weights, work = tir.flat(memory.weights.data, "int16"), self._halves
        peephole = (block + phase.peephole_offset) * _HALF_BYTES + group.offset
        new_h = tir.flat(memory.work.data, str(memory.states[0].dtype))
        assert memory.tables is not None
        nodes = IntegerNodes(
            self.numerics.layer,
            integers(lanes, self.isa),
            memory.tables,
            self.functions[functions * half : (functions + 1) * half],
            [Slot(weights, peephole + i * kernel.unit_block) for i in range(phase.peepholes)],
        )
        names = kernel.cell.handed
        handed = {
            name: Slot(work, start + first) for name, start in zip(names, self._handed, strict=True)
        }
        unit_memory = self.unit_memory(state + first, count, Slot(new_h, first), handed)
        write_body(kernel.cell, index, nodes, sums, unit_memory)

    def commit(self, state: Expr, y_start: Expr) -> None:
        """The new hidden state takes the old one's place, and is shown, in int8 or as it is."""
        memory, hidden = self.memory, self.kernel.op.hidden
        new_h = tir.flat(memory.work.data, str(memory.states[0].dtype))
        start = tir.integer(0)
        singly = self.isa.is_bare
        copy_elements(new_h, start, memory.states[0], state, hidden, singly=singly)
        if memory.y is None:
            return
        narrowing = self.phases[0].vectors.narrowing
        if narrowing is None or self.numerics.layer.is_wide:
            copy_elements(new_h, start, memory.y, y_start, hidden, singly=singly)
            return
        lanes = LANES if self.numerics.packing.unit_block > 1 else 1
        numbers = integers(lanes, self.isa)

        def show(at: Expr, count: int) -> None:
            values = numbers.half(tir.load_vector(new_h, at, lanes))
            y = numbers.narrowed_to("int8", numbers.narrow(values, *narrowing))
            Slot(memory.y, y_start + at, None if count == lanes else tir.integer(count)).store(
                tir.name(y), lanes
            )

        whole = hidden // lanes
        if whole:
            with tir.loop(whole) as i:
                show(i * lanes, lanes)
        if hidden % lanes:
            show(tir.integer(whole * lanes), hidden % lanes)

    @property
    def _handed(self) -> list[int]:
        """Elements of int16 at which each value that is handed on begins."""
        numerics, sizes = self.numerics, self.kernel.sizes
        first, each = numerics.new_h_bytes(sizes), numerics.handed_bytes(sizes)
        return [(first + i * each) // _HALF_BYTES for i in range(sizes.handed)]

    @property
    def _halves(self) -> Buffer:
        return tir.flat(self.memory.work.data, "int16")
