"""Recurrent layers of scheme int8: int8 products, everything else as in the float layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.kernels import LayerKernel, RecurrentKernel, Section, Source
from edgelstm_compiler.ir.numerics import K_GROUP, LINE, Int8
from edgelstm_compiler.lowering.compact_layout import CompactForm, compact_form
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.block_lines import WORD, BlockLines
from edgelstm_targets.tvm_cpu.dot.product import LANES
from edgelstm_targets.tvm_cpu.integer_phase import BytePhase, PreparedSection
from edgelstm_targets.tvm_cpu.matvec import Operand
from edgelstm_targets.tvm_cpu.projection import Projection
from edgelstm_targets.tvm_cpu.recurrent import Layer
from edgelstm_targets.tvm_cpu.tensorir import NAMES, Buffer, Expr

_ROUNDING = 12582912.0  # 1.5 * 2^23: adding it leaves the rounded integer in the low bits
_ROUNDING_BITS = 0x4B400000
_FLOAT_BYTES = 4


def lines(nbytes: int) -> int:
    """Rounded up to whole lines of 64 bytes."""
    return -(-nbytes // LINE) * LINE


def inverse_start(kernel: LayerKernel) -> int:
    """Word of the packed weights at which the inverse scales stand, behind all directions."""
    form = compact_form(kernel)
    if isinstance(kernel, RecurrentKernel):
        count, units = kernel.op.direction.count, kernel.op.hidden
    else:
        count, units = 1, kernel.units
    blocks = count * -(-units // kernel.unit_block)
    return blocks * sum(form.block_bytes(phase) for phase in kernel.phases) // WORD


def numerics_of(kernel: LayerKernel) -> Int8:
    """Those of an int8 layer."""
    assert isinstance(kernel.numerics, Int8)
    return kernel.numerics


def quantized_steps(x: Expr, inverse: Expr, zero_point: int, dtype: DType, lanes: int) -> Expr:
    """clamp(rint(x * inverse) + zero_point) as int32; the bounds are whole, so order is free."""
    half = 1 << (8 * dtype.itemsize - 1)
    low, high = (tir.constant(float(bound - zero_point), lanes) for bound in (-half, half - 1))
    within = tirx.min(high, tirx.max(low, x * inverse))
    shifted = within + tir.constant(_ROUNDING, lanes)
    kind = "int32" if lanes == 1 else f"int32x{lanes}"
    steps = tirx.reinterpret(kind, shifted)
    return steps - tir.constant(_ROUNDING_BITS - zero_point, lanes, "int32")


def load_first(buffer: Buffer, at: Expr, count: int, lanes: int = LANES) -> Expr:
    """A vector of which `count` elements exist; the others are undefined."""
    if count == lanes:
        return tir.load_vector(buffer, at, lanes)
    return tir.load_masked(buffer, at, lanes, tir.integer(count))


@dataclass(frozen=True, slots=True)
class FloatVectors:
    """Quantizes what an int8 layer multiplies.

    Args:
        work: memory for x and for h, as any type.
        x_start, h_start: bytes at which they stand.
        inverse: 1 / scale of each input.
        x_dtype, x_zero_point: of the quantized x.
        h_inverse: 1 / scale of h.
    """

    work: Buffer
    x_start: int
    h_start: int
    inverse: Operand
    x_dtype: DType
    x_zero_point: int
    h_inverse: float


@dataclass(frozen=True, slots=True)
class Beside:
    """What stands beside the weights of some units, decoded.

    Args:
        biases: for each accumulator.
        scales: for each section, or for the last one alone where that has those of all.
    """

    biases: list[Expr]
    scales: list[list[Expr]]

    def named(self) -> Beside:
        """The same, computed once here."""
        return Beside(
            [tir.name(bias) for bias in self.biases],
            [[tir.name(scale) for scale in scales] for scales in self.scales],
        )


@dataclass(frozen=True, slots=True)
class Int8Phase(BytePhase):
    """A phase whose sums are scaled to float32.

    Args:
        vectors: where x and h come from.
        form: how its blocks are packed.
    """

    vectors: FloatVectors
    form: CompactForm

    @property
    def lines(self) -> BlockLines:
        """Where the parts of a block stand."""
        return BlockLines(self.form, self.phase, self.units)

    @property
    def peephole_offset(self) -> int:
        """Words from the start of a block to its peepholes."""
        return self.lines.peephole_words

    @property
    def block_elements(self) -> int:
        """Words of a block."""
        return self.lines.words

    def section_offset(self, index: int) -> int:
        """Words from the start of a block to the whole groups of a section."""
        return self.lines.first_byte(self.phase.sections[index]) // WORD

    def groups(self, section: Section) -> int:
        """What is left of the last group stands elsewhere."""
        return section.extent // K_GROUP

    def streams(self, operands: Sequence[Operand | None]) -> list[PreparedSection]:
        """Quantize the vectors of all sections."""
        prepared = []
        for index, (section, operand) in enumerate(zip(self.phase.sections, operands, strict=True)):
            assert operand is not None
            product = self.product(section.source)
            is_x = section.source is Source.X
            vectors = self.vectors

            def element(
                at: Expr, count: int, operand: Operand = operand, is_x: bool = is_x
            ) -> Expr:
                values = load_first(operand.buffer, operand.start + at, count)
                if not is_x:
                    inverse = tir.constant(self.vectors.h_inverse, LANES)
                    return quantized_steps(values, inverse, 0, DType.I8, LANES)
                scales = self.vectors.inverse
                inverse = load_first(scales.buffer, scales.start + at, count)
                return quantized_steps(
                    values, inverse, self.vectors.x_zero_point, self.vectors.x_dtype, LANES
                )

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
        """For each accumulator bias + the scaled products, as float32."""
        assert first is None
        return self.scaled_sums(weights, block, part, streams, self.beside(weights, block, part))

    def beside(self, weights: Buffer, block: Expr, part: int) -> Beside:
        """Biases and scales of some units, as they are needed for every vector."""
        scaled = self.phase.sections if self.form.codes.ratio is None else self.phase.sections[-1:]
        return Beside(
            self.lines.biases(weights, block, part),
            [self.lines.scales(weights, block, part, section) for section in scaled],
        )

    def scaled_sums(
        self,
        weights: Buffer,
        block: Expr,
        part: int,
        streams: Sequence[PreparedSection],
        beside: Beside,
    ) -> list[Expr]:
        """As `sums`, with biases and scales that are known already."""
        units, ratio = self.units, self.form.codes.ratio
        words = tir.flat(weights.data, "int32")
        totals = list(beside.biases)
        # Sums that have the same scale are added before they are scaled.
        joined: dict[tuple[int, int], Expr] = {}
        # The longest first: weights loaded before its loop would have to leave the registers.
        order = sorted(streams, key=lambda prepared: -prepared.section.extent)
        for prepared in order:
            section = prepared.section
            sums = self.section_sums(words, block, part, prepared)
            for pair in zip(section.accumulators, range(len(sums)), strict=True):
                number = tirx.Cast(f"float32x{units}", sums[pair[1]])
                if ratio is not None and section.source is Source.X:
                    number = number * tir.constant(2.0**ratio, units)
                joined[pair] = joined[pair] + number if pair in joined else number
            if ratio is None or prepared is order[-1]:
                scales = beside.scales[prepared.index if ratio is None else -1]
                for (accumulator, index), number in joined.items():
                    # Not left to LLVM, which may fuse the product inside the bias instead: steps of
                    # one stream and of many must round alike, or a quantized h differs in a step.
                    total = tirx.call_llvm_pure_intrin(
                        f"float32x{units}",
                        "llvm.fmuladd",
                        number,
                        scales[index],
                        totals[accumulator],
                    )
                    totals[accumulator] = tir.name(total)
                joined = {}
        return totals

    def tail(self, words: Buffer, block: Expr, section: Section, unit_offset: Expr) -> Expr | None:
        """The last group's words, which stand beside the others."""
        return self.lines.tail(words, block, section, unit_offset, self.isa.lanes)


@dataclass(frozen=True, slots=True)
class Int8Layer(Layer):
    """Writes the body of an int8 layer."""

    @property
    def phases(self) -> tuple[Int8Phase, ...]:
        """Phases of packed bytes."""
        kernel, numerics = self.kernel, numerics_of(self.kernel)
        x_start = lines(_FLOAT_BYTES * kernel.sizes.workspace_elements)
        form = compact_form(kernel)
        vectors = FloatVectors(
            self.memory.work,
            x_start,
            x_start + numerics.vector_bytes(kernel.features),
            Operand(self.memory.weights, tir.integer(inverse_start(kernel))),
            numerics.x_dtype,
            numerics.x_zero_point,
            numerics.h_inverse,
        )
        return tuple(
            Int8Phase(
                phase,
                kernel.unit_block,
                self.blocks,
                kernel.cell.peepholes,
                self.isa,
                numerics.weight_offset,
                NAMES[numerics.x_dtype],
                _FLOAT_BYTES,
                vectors,
                form,
            )
            for phase in kernel.phases
        )

    @property
    def projections(self) -> tuple[Projection, ...] | None:
        """None: weights in int8 are read for every frame."""
        return None
