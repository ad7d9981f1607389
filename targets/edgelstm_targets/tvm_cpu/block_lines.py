"""Where the parts of a compact block stand; what is beside its weights, decoded in registers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx

from edgelstm_compiler.ir.compact import MANTISSA, ScaleCode
from edgelstm_compiler.ir.kernels import Phase, Section, Source
from edgelstm_compiler.lowering.compact_layout import CompactForm, byte_of
from edgelstm_compiler.lowering.layout import WEIGHT_PARTS, Part, Piece
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr

WORD = 4
_MANTISSA_BITS, _BIAS_OF_EXPONENT = 23, 127


@dataclass(frozen=True, slots=True)
class BlockLines:
    """The lines of one block; it begins at an element `block` of the weights as words of 32 bits.

    Args:
        form: how the layer is packed.
        phase: whose block.
        units: units that are read at once.
    """

    form: CompactForm
    phase: Phase
    units: int

    @property
    def words(self) -> int:
        """Words of a block."""
        return self.form.block_bytes(self.phase) // WORD

    def first_byte(self, section: Section) -> int:
        """Byte of a block at which a section's weights (and their scales) begin; 0: it has none."""
        parts = (*WEIGHT_PARTS, Part.GROUP_SCALE)
        found = [
            at for piece, at, _ in self._pieces if piece.section is section and piece.part in parts
        ]
        return min(found, default=0)

    @property
    def peephole_words(self) -> int:
        """Word of a block at which its peepholes begin; 0 where there are none."""
        return (byte_of(self._pieces, Part.PEEPHOLE) or 0) // WORD

    def biases(self, weights: Buffer, block: Expr, part: int) -> list[Expr]:
        """For each accumulator its bias."""
        (at,) = (at for piece, at, _ in self._pieces if piece.part is Part.BIAS)
        lines = [self._line(block, at, a, part) for a in range(self.phase.accumulators)]
        exponent = self.form.codes.bias
        if exponent is None:
            return [tir.load_vector(weights, line, self.units) for line in lines]
        halves, step = tir.flat(weights.data, "int16"), tir.constant(2.0**exponent, self.units)
        lines = [self._line(block, at, a, part, 2) for a in range(self.phase.accumulators)]
        return [self._as_float(tir.load_vector(halves, line, self.units)) * step for line in lines]

    def scales(self, weights: Buffer, block: Expr, part: int, section: Section) -> list[Expr]:
        """For each gate of a section the scales of its rows."""
        at = byte_of(self._pieces, Part.SCALE, section)
        assert at is not None
        code = self.code(section)
        gates = range(len(section.gates))
        if code is None:
            lines = [self._line(block, at, gate, part) for gate in gates]
            return [tir.load_vector(weights, line, self.units) for line in lines]
        codes = tir.flat(weights.data, "uint8")
        lines = [self._line(block, at, gate, part, 1) for gate in gates]
        return [
            decoded(tir.load_vector(codes, line, self.units), code, self.units) for line in lines
        ]

    def code(self, section: Section) -> ScaleCode | None:
        """The code of a section's scales."""
        codes = self.form.codes
        return codes.x if section.source is Source.X else codes.h

    def tail(
        self, weights: Buffer, block: Expr, section: Section, unit_offset: Expr, lanes: int
    ) -> Expr | None:
        """What is left of a section after whole groups of four, as int32; None: nothing.

        Args:
            weights: the packed weights.
            block: word at which the block begins.
            section: of int8 weights.
            unit_offset: gate * unit_block + unit.
            lanes: units to read.
        """
        word = None
        shift = 0
        for piece, at, _ in self._pieces:
            if piece.part is not Part.TAIL or piece.section is not section:
                continue
            size = self.form.type_of(piece)[0].itemsize
            source = tir.flat(weights.data, "uint16" if size == 2 else "uint8")
            line = block * (WORD // size) + (at // size + unit_offset)
            value = tirx.Cast(_kind("int32", lanes), tir.load_vector(source, line, lanes))
            if word is not None:
                value = word | (value << tir.constant(shift, lanes, "int32"))
            word, shift = value, shift + 8 * size
        return word

    @property
    def _pieces(self) -> Sequence[tuple[Piece, int, int]]:
        return self.form.layout(self.phase)

    def _line(self, block: Expr, at: int, line: int, part: int, size: int = WORD) -> Expr:
        """The element at which a line begins, in elements of `size` bytes."""
        offset = at // size + line * self.form.unit_block + part * self.units
        return block * (WORD // size) + offset

    def _as_float(self, value: Expr) -> Expr:
        wide = tirx.Cast(_kind("int32", self.units), value)
        return tirx.Cast(_kind("float32", self.units), wide)


def decoded(codes: Expr, code: ScaleCode, lanes: int) -> Expr:
    """The scales of codes given as u8: exponent and mantissa are moved to where they belong."""

    def number(value: int) -> Expr:
        return tir.constant(value, lanes, "int32")

    wide = tirx.Cast(_kind("int32", lanes), codes)
    shift = _MANTISSA_BITS - MANTISSA
    lowest = (_BIAS_OF_EXPONENT + code.exponent) << _MANTISSA_BITS
    if not code.is_signed:
        bits = (wide << number(shift)) + number(lowest)
    else:
        wide = tir.name(wide)
        bits = ((wide & number(127)) << number(shift)) + number(lowest)
        bits = bits | ((wide >> number(7)) << number(31))
    return tirx.reinterpret(_kind("float32", lanes), bits)


def _kind(dtype: str, lanes: int) -> str:
    return dtype if lanes == 1 else f"{dtype}x{lanes}"
