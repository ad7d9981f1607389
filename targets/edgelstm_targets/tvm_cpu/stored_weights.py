"""Layers in float32 on weights stored as half, int8 or int4: they are restored in registers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import tirx

from edgelstm_compiler.ir.kernels import DenseKernel, Phase, Section
from edgelstm_compiler.ir.ops import Storage
from edgelstm_compiler.ir.ops.quantized import GROUP
from edgelstm_compiler.lowering.compact_layout import CompactForm, compact_form
from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.block_lines import WORD, BlockLines, decoded
from edgelstm_targets.tvm_cpu.dense import dense_body
from edgelstm_targets.tvm_cpu.matvec import Operand
from edgelstm_targets.tvm_cpu.projection import Projection
from edgelstm_targets.tvm_cpu.recurrent import Layer
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr, Function, Parameter

# Loads of weights in the body of the inner loop, as in `matvec.py`.
_LOADS = 8
# Half as integers: the bits of its magnitude, in place in a float32, and what makes the exponent's
# bias that of float32; 2^-14, which is the smallest half that is no denormal.
_MAGNITUDE, _SHIFT, _REBIAS, _SMALLEST = 0x7FFF, 13, 112 << 23, 113 << 23


def stored_dense_function(name: str, kernel: DenseKernel, isa: InstructionSet) -> Function:
    """The function of a dense layer; its parameters are x, weights, y."""
    (only,) = kernel.phases
    blocks = -(-kernel.units // kernel.unit_block)
    phase = StoredPhase(only, kernel.unit_block, blocks, 0, isa, compact_form(kernel))
    parameters = [Parameter(key, "float32") for key in ("x", "weights", "y")]
    return tir.define(name, parameters, dense_body(kernel, phase, isa))


def half_to_float(bits: Expr, lanes: int) -> Expr:
    """The float32 values of finite halves given as int16, by integer arithmetic.

    A denormal half is 2^-14 + itself less 2^-14: no denormal float32 ever occurs.
    """

    def number(value: int) -> Expr:
        return tir.constant(value, lanes, "int32")

    def as_float(value: Expr) -> Expr:
        return tirx.reinterpret(f"float32x{lanes}", value)

    wide = tir.name(tirx.Cast(f"int32x{lanes}", bits))
    magnitude = tir.name((wide & number(_MAGNITUDE)) << number(_SHIFT))
    small = as_float(magnitude + number(_SMALLEST)) - as_float(number(_SMALLEST))
    small_bits = tirx.reinterpret(f"int32x{lanes}", small)
    is_small = magnitude < number(1 << 23)
    value = tirx.Select(is_small, small_bits, magnitude + number(_REBIAS))
    return as_float(tir.name(value | (wide & number(-(1 << 31)))))


@dataclass(frozen=True, slots=True)
class SectionStream:
    """A section and its vector."""

    index: int
    section: Section
    operand: Operand


@dataclass(frozen=True, slots=True)
class StoredPhase:
    """A phase of stored weights; offsets in float32 elements, see `matvec.PackedPhase`."""

    phase: Phase
    unit_block: int
    blocks: int
    peepholes: int
    isa: InstructionSet
    form: CompactForm

    @property
    def storage(self) -> Storage:
        """What the weights are stored as."""
        assert self.form.storage is not None
        return self.form.storage

    @property
    def units(self) -> int:
        """Units computed at once."""
        return self.isa.units(self.phase.accumulators, self.unit_block)

    @property
    def parts(self) -> int:
        """Groups of `units` in a block."""
        return self.unit_block // self.units

    @property
    def lines(self) -> BlockLines:
        """Where the parts of a block stand."""
        return BlockLines(self.form, self.phase, self.units)

    @property
    def peephole_offset(self) -> int:
        """Elements from the start of a block to its peepholes."""
        return self.lines.peephole_words

    @property
    def block_elements(self) -> int:
        """Elements of a block."""
        return self.lines.words

    def streams(self, operands: Sequence[Operand | None]) -> list[SectionStream]:
        """Sections one by one: their vectors stay where they are."""
        streams = []
        for index, (section, operand) in enumerate(zip(self.phase.sections, operands, strict=True)):
            assert operand is not None
            streams.append(SectionStream(index, section, operand))
        return streams

    def sums(
        self,
        weights: Buffer,
        block: Expr,
        part: int,
        streams: Sequence[SectionStream],
        first: Operand | None = None,
    ) -> list[Expr]:
        """For each accumulator the sums, a vector of `units` lanes."""
        assert first is None
        totals = self.lines.biases(weights, block, part)
        if self.storage is Storage.F16:
            # Without scales all sections add to the same sums.
            sums = _Sums(len(totals), self._splits(len(totals)), self.units, totals)
            for stream in streams:
                self._add_rows(weights, block, part, stream, sums, stream.section.accumulators)
            return sums.totals()
        for stream in streams:
            if self.storage is Storage.I4:
                values = self._nibble_sums(weights, block, part, stream)
            else:
                values = self._row_sums(weights, block, part, stream)
            for accumulator, value in zip(stream.section.accumulators, values, strict=True):
                totals[accumulator] = tir.name(totals[accumulator] + value)
        return totals

    def _row_sums(
        self, weights: Buffer, block: Expr, part: int, stream: SectionStream
    ) -> list[Expr]:
        """Of int8 with a scale per row."""
        units, gates = self.units, len(stream.section.gates)
        sums = _Sums(gates, self._splits(gates), units)
        self._add_rows(weights, block, part, stream, sums, range(gates))
        scales = self.lines.scales(weights, block, part, stream.section)
        return [value * scale for value, scale in zip(sums.totals(), scales, strict=True)]

    def _add_rows(
        self,
        weights: Buffer,
        block: Expr,
        part: int,
        stream: SectionStream,
        sums: _Sums,
        targets: Sequence[int],
    ) -> None:
        """Write the loop over the rows of halves or int8 of a section.

        Args:
            weights: the packed weights.
            block: element at which the block begins.
            part: which group of units.
            stream: the section and its vector.
            sums: what is added to.
            targets: for each gate which of the sums.
        """
        section, units = stream.section, self.units
        gates, size = len(section.gates), 2 if self.storage is Storage.F16 else 1
        source = tir.flat(weights.data, self._element)
        first = self.lines.first_byte(section) // size
        start = block * (WORD // size) + (first + part * units)

        def add_row(k: Expr, split: int) -> None:
            factor = tir.name(tir.broadcast(stream.operand.element(k), units))
            for gate, target in enumerate(targets):
                at = start + (k * gates + gate) * self.unit_block
                value = self._restored(tir.load_vector(source, at, units)) * factor
                sums.add(target, split, value)

        _rows(section.extent, sums.splits, self._loads(gates), add_row)

    def _nibble_sums(
        self, weights: Buffer, block: Expr, part: int, stream: SectionStream
    ) -> list[Expr]:
        """Of int4 with a scale per group of 32 inputs."""
        section, units = stream.section, self.units
        gates, line = len(section.gates), self.unit_block
        pairs = tir.flat(weights.data, "uint8")
        code, size = self.lines.code(section), self._scale_bytes(section)
        scales = tir.flat(weights.data, "int16" if code is None else "uint8")
        start = block * WORD + self.lines.first_byte(section)
        total = _Sums(gates, 1, units)
        splits = max(2, self._splits(gates))

        def add_group(at: Expr, first: Expr, count: int) -> None:
            sums = _Sums(gates, splits, units)

            def add_pair(k: Expr, split: int, *, is_pair: bool = True) -> None:
                factors = [
                    tir.name(tir.broadcast(stream.operand.element(first + (2 * k + i)), units))
                    for i in range(2 if is_pair else 1)
                ]
                for gate in range(gates):
                    offset = at + (size * gates * line + part * units) + (k * gates + gate) * line
                    codes = tirx.Cast(f"int32x{units}", tir.load_vector(pairs, offset, units))
                    codes = tir.name(codes)
                    for i, factor in enumerate(factors):
                        sums.add(gate, (split + i) % splits, self._nibble(codes, i) * factor)

            whole = count // 2
            _rows(whole, splits, self._loads(gates), add_pair)
            if count % 2:
                add_pair(tir.integer(whole), whole % splits, is_pair=False)
            scale_at = tirx.truncdiv(at, size) + part * units
            for gate, value in enumerate(sums.totals()):
                bits = tir.load_vector(scales, scale_at + gate * line, units)
                scale = self._half(bits) if code is None else decoded(bits, code, units)
                total.add(gate, 0, value * scale)

        whole, rest = divmod(section.extent, GROUP)
        group_bytes = (size + GROUP // 2) * gates * line
        if whole:
            with tir.loop(whole) as group:
                add_group(tir.name(start + group * group_bytes), tir.name(group * GROUP), GROUP)
        if rest:
            at = tir.name(start + whole * group_bytes)
            add_group(at, tir.integer(whole * GROUP), rest)
        return total.totals()

    def _nibble(self, codes: Expr, half: int) -> Expr:
        """The low or the high four bits, less 8."""
        units = self.units
        if half:
            codes = codes >> tir.constant(4, units, "int32")
        if self.isa.gather == "avx512" and units == self.isa.lanes:
            # A permutation reads no more than the low four bits.
            steps = tirx.Cast(f"float32x{units}", tirx.Ramp(tir.integer(-8), 1, units))
            return tirx.call_llvm_pure_intrin(
                f"float32x{units}", "llvm.x86.avx512.permvar.sf.512", steps, codes
            )
        fifteen, eight = (tir.constant(value, units, "int32") for value in (15, 8))
        return tirx.Cast(f"float32x{units}", (codes if half else codes & fifteen) - eight)

    def _splits(self, sums: int) -> int:
        """Sums side by side: eight chains hide the latency of an addition."""
        return max(1, 8 * self.isa.lanes // (sums * self.units))

    @property
    def _element(self) -> str:
        return "int16" if self.storage is Storage.F16 else "int8"

    def _restored(self, stored: Expr) -> Expr:
        """Float32 values, without the scale."""
        if self.storage is Storage.F16:
            return self._half(stored)
        return tirx.Cast(f"float32x{self.units}", tirx.Cast(f"int32x{self.units}", stored))

    def _half(self, bits: Expr) -> Expr:
        if self.isa.has_half:
            halves = tirx.reinterpret(f"float16x{self.units}", bits)
            return tirx.Cast(f"float32x{self.units}", halves)
        return half_to_float(bits, self.units)

    def _loads(self, gates: int) -> int:
        """Rows in the body of the inner loop."""
        return max(1, _LOADS // (gates * math.ceil(self.units / self.isa.lanes)))

    def _scale_bytes(self, section: Section) -> int:
        return 2 if self.lines.code(section) is None else 1


@dataclass(frozen=True, slots=True)
class StoredLayer(Layer):
    """Writes the body of a recurrent layer on stored weights."""

    @property
    def phases(self) -> tuple[StoredPhase, ...]:
        """Phases of stored weights."""
        kernel, form = self.kernel, compact_form(self.kernel)
        rows = kernel.cell.peepholes
        return tuple(
            StoredPhase(phase, kernel.unit_block, self.blocks, rows, self.isa, form)
            for phase in kernel.phases
        )

    @property
    def projections(self) -> tuple[Projection, ...] | None:
        """None: weights are restored for every frame."""
        return None


class _Sums:
    """Accumulators in registers: `splits` of them side by side for each gate."""

    def __init__(
        self, gates: int, splits: int, units: int, first: Sequence[Expr] | None = None
    ) -> None:
        self._gates, self.splits, self._units = gates, splits, units
        self._buffer = tir.local(gates * splits * units)
        zero = tir.constant(0.0, units)
        for index in range(gates * splits):
            gate, split = divmod(index, splits)
            value = zero if first is None or split else first[gate]
            tir.store_vector(self._buffer, index * units, value, units)

    def add(self, gate: int, split: int, value: Expr) -> None:
        offset = (gate * self.splits + split) * self._units
        total = tir.load_vector(self._buffer, offset, self._units) + value
        tir.store_vector(self._buffer, offset, total, self._units)

    def totals(self) -> list[Expr]:
        """One vector per gate."""
        results = []
        for gate in range(self._gates):
            terms = [
                tir.load_vector(self._buffer, (gate * self.splits + s) * self._units, self._units)
                for s in range(self.splits)
            ]
            while len(terms) > 1:
                terms = [sum(terms[i + 1 : i + 2], terms[i]) for i in range(0, len(terms), 2)]
            results.append(tir.name(terms[0]))
        return results


def _rows(extent: int, splits: int, loads: int, write: Callable[[Expr, int], None]) -> None:
    """Call `write(k, split)` for all rows, in a loop whose body holds `loads` rows or more."""
    body = splits * max(1, loads // splits)
    whole = extent // body if extent > 2 * body else 0
    if whole:
        with tir.loop(whole) as i:
            for step in range(body):
                write(i * body + step, step % splits)
    for k in range(whole * body, extent):
        write(tir.integer(k), k % splits)
