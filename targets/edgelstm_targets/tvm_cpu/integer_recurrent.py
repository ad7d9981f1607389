"""Recurrent layers of scheme int8-full: nothing but integers, the same bits on every processor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgelstm_compiler.ir.kernels import RecurrentKernel, Source
from edgelstm_compiler.ir.ops import GRU, LSTM
from edgelstm_compiler.ir.quantized_kernels import IntegerRecurrentKernel
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.cells import integer_gru, integer_lstm
from edgelstm_targets.tvm_cpu.cells.block import Slot
from edgelstm_targets.tvm_cpu.cells.integer_block import IntegerBlock, IntegerEpilogue
from edgelstm_targets.tvm_cpu.copying import copy_elements
from edgelstm_targets.tvm_cpu.dot.product import LANES
from edgelstm_targets.tvm_cpu.integer_arithmetic import Integers
from edgelstm_targets.tvm_cpu.integer_phase import BytePhase, PreparedSection, accumulated
from edgelstm_targets.tvm_cpu.isa import InstructionSet
from edgelstm_targets.tvm_cpu.matvec import Operand
from edgelstm_targets.tvm_cpu.projection import Projection
from edgelstm_targets.tvm_cpu.quantized_recurrent import lines, load_first
from edgelstm_targets.tvm_cpu.recurrent import (
    Arguments,
    ElementTypes,
    Layer,
    Memory,
    layer_function,
)
from edgelstm_targets.tvm_cpu.tensorir import NAMES, Buffer, Expr, Function

EPILOGUES: dict[type, IntegerEpilogue] = {LSTM: integer_lstm.finish, GRU: integer_gru.finish}
"""The epilogue of each cell."""

_HALF_BYTES = 2


def integer_recurrent_function(
    name: str, kernel: IntegerRecurrentKernel, arguments: Arguments, isa: InstructionSet
) -> Function:
    """The function of an integer layer: as `recurrent_function`, tables behind initial states."""
    cell = kernel.op.float_cell
    assert isinstance(cell, LSTM | GRU)
    walked = RecurrentKernel(
        op=cell,
        steps=kernel.steps,
        batch=kernel.batch,
        features=kernel.features,
        has_peepholes=kernel.has_peepholes,
        unit_block=kernel.unit_block,
        phases=kernel.phases,
    )
    h, *c = (NAMES[dtype] for dtype in kernel.op.state_types)
    types = ElementTypes(
        x=NAMES[kernel.x_dtype], y="int8", h=h, c=c[0] if c else "int16", tables="int16"
    )

    def layer(memory: Memory) -> IntegerLayer:
        return IntegerLayer(walked, arguments, isa, memory, kernel)

    return layer_function(name, walked, arguments, layer, types)


@dataclass(frozen=True, slots=True)
class IntegerVectors:
    """Brings what an integer layer multiplies into place.

    Args:
        work: memory for x and for h, as any type.
        x_start, h_start: bytes at which they stand.
        narrowing: multiplier and shift from int16 h to int8; None: h is int8.
    """

    work: Buffer
    x_start: int
    h_start: int
    narrowing: tuple[int, int] | None = None


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
        vectors, numbers = self.vectors, Integers(LANES, self.isa)
        for index, (section, operand) in enumerate(zip(self.phase.sections, operands, strict=True)):
            assert operand is not None
            product = self.product(section.source)
            is_x = section.source is Source.X

            def element(
                at: Expr, count: int, operand: Operand = operand, is_x: bool = is_x
            ) -> Expr:
                values = numbers.wide(load_first(operand.buffer, operand.start + at, count))
                if is_x or vectors.narrowing is None:
                    return values
                return numbers.narrow(values, *vectors.narrowing)

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
        numbers, halves = Integers(units, self.isa), tir.flat(weights.data, "int16")
        shift = part * units
        scaled = []
        # As in `quantized_recurrent.py`; the sums are exact in any order.
        order = sorted(streams, key=lambda prepared: -prepared.section.extent)
        for prepared in order:
            bits = self.x_shift if prepared.section.source is Source.X else self.h_shift
            start = (block + self.scale_offset(prepared.index)) * _HALF_BYTES + shift
            values = []
            for gate, value in enumerate(self.section_sums(words, block, part, prepared)):
                multiplier = tir.load_vector(halves, start + gate * self.unit_block, units)
                reduced = numbers.rounding_shift(value, bits)
                values.append(tir.name(reduced * numbers.wide(multiplier)))
            scaled.append(values)
        totals = accumulated(self.phase.accumulators, order, scaled)
        return [
            tir.name(
                numbers.shifted(
                    total + tir.load_vector(words, block + (a * self.unit_block + shift), units),
                    self.sum_shift,
                )
            )
            for a, total in enumerate(totals)
        ]


@dataclass(frozen=True, slots=True)
class IntegerLayer(Layer):
    """Writes the body of an integer layer.

    The workspace holds, in lines: the new h, z and r*h as int16, h as products read it, x likewise.
    """

    integer: IntegerRecurrentKernel

    @property
    def phases(self) -> tuple[IntegerPhase, ...]:
        """Phases of packed bytes."""
        op, kernel = self.integer.op, self.kernel
        padded = kernel.padded_hidden
        h_start = 3 * self._half_line
        narrowing = None
        if str(self.memory.states[0].dtype) == "int16":
            narrowing = (op.output_multiplier, op.output_shift)  # type: ignore[attr-defined]
        vectors = IntegerVectors(self.memory.work, h_start + 2 * lines(padded), h_start, narrowing)
        return tuple(
            IntegerPhase(
                phase,
                kernel.unit_block,
                self.blocks,
                3 if kernel.has_peepholes else 0,
                self.isa,
                self.integer.weight_offset,
                NAMES[self.integer.x_dtype],
                _HALF_BYTES,
                vectors,
                op.x_shift,  # type: ignore[attr-defined]
                op.h_shift,  # type: ignore[attr-defined]
                op.sum_shift,  # type: ignore[attr-defined]
            )
            for phase in kernel.phases
        )

    @property
    def functions(self) -> tuple[int, ...]:
        """Which tables all directions' functions are."""
        rows: tuple[int, ...] = self.integer.op.tables  # type: ignore[attr-defined]
        return rows

    @property
    def projections(self) -> tuple[Projection, ...] | None:
        """None: weights in int8 are read for every frame."""
        return None

    @property
    def reset_h(self) -> Operand:
        """In the third line of int16."""
        return Operand(self._halves, tir.integer(2 * self._half_line // _HALF_BYTES))

    def finish(
        self,
        index: int,
        functions: int,
        sums: list[Expr],
        block: Expr,
        unit: Expr,
        part: int,
        state: Expr,
    ) -> None:
        """The cell's epilogue for one group of units."""
        kernel, memory, phase = self.kernel, self.memory, self.phases[index]
        lanes, line = phase.units, self._half_line // _HALF_BYTES
        first = unit + part * lanes
        count = None
        if kernel.op.hidden != kernel.padded_hidden:
            count = tir.name(kernel.op.hidden - first)
        half = len(self.functions) // kernel.op.direction.count
        weights, work = tir.flat(memory.weights.data, "int16"), self._halves
        peephole = (block + phase.peephole_offset) * _HALF_BYTES + part * lanes
        new_h = tir.flat(memory.work.data, str(memory.states[0].dtype))
        assert memory.tables is not None
        EPILOGUES[type(kernel.op)](
            IntegerBlock(
                op=self.integer.op,
                arithmetic=Integers(lanes, self.isa),
                tables=memory.tables,
                rows=self.functions[functions * half : (functions + 1) * half],
                sums=sums,
                phase=index,
                h=Slot(memory.states[0], state + first, count),
                c=Slot(memory.states[1], state + first, count) if len(memory.states) > 1 else None,
                new_h=Slot(new_h, first),
                handed=[Slot(work, line * (1 + i) + first) for i in range(2)],
                peepholes=[
                    Slot(weights, peephole + i * kernel.unit_block) for i in range(phase.peepholes)
                ],
            )
        )

    def commit(self, state: Expr, y_start: Expr) -> None:
        """The new hidden state takes the old one's place; the output is int8 in any case."""
        memory, hidden = self.memory, self.kernel.op.hidden
        new_h = tir.flat(memory.work.data, str(memory.states[0].dtype))
        start = tir.integer(0)
        copy_elements(new_h, start, memory.states[0], state, hidden)
        if memory.y is None:
            return
        narrowing = self.phases[0].vectors.narrowing
        if narrowing is None:
            copy_elements(new_h, start, memory.y, y_start, hidden)
            return
        numbers = Integers(LANES, self.isa)

        def show(at: Expr, count: int) -> None:
            values = numbers.wide(tir.load_vector(new_h, at, LANES))
            y = numbers.narrowed_to("int8", numbers.narrow(values, *narrowing))
            Slot(memory.y, y_start + at, None if count == LANES else tir.integer(count)).store(
                tir.name(y), LANES
            )

        whole = hidden // LANES
        if whole:
            with tir.loop(whole) as i:
                show(i * LANES, LANES)
        if hidden % LANES:
            show(tir.integer(whole * LANES), hidden % LANES)

    @property
    def _half_line(self) -> int:
        return lines(_HALF_BYTES * self.kernel.padded_hidden)

    @property
    def _halves(self) -> Buffer:
        return tir.flat(self.memory.work.data, "int16")
