"""Stored weights (fp16, w8, w4) for tiles: a block is restored in memory, once for all columns."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from edgelstm_compiler.ir.kernels import Section
from edgelstm_compiler.ir.ops import Storage
from edgelstm_compiler.ir.ops.quantized import GROUP
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.block_lines import WORD, decoded
from edgelstm_targets.tvm_cpu.matvec import PackedPhase
from edgelstm_targets.tvm_cpu.stored_weights import StoredPhase
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr


@dataclass(frozen=True, slots=True)
class RestoredPhase(StoredPhase):
    """A phase of stored weights that can be written out as float32."""

    @property
    def plain(self) -> PackedPhase:
        """How a restored block stands in memory: as float32 weights without peepholes."""
        return PackedPhase(self.phase, self.unit_block, 1, 0, self.isa)

    def restore(self, weights: Buffer, block: Expr, part: Expr, target: Buffer) -> None:
        """Write the code that restores some units of a block.

        Args:
            weights: the packed weights.
            block: element at which the block begins.
            part: which group of units.
            target: where to, at the same units of a block of `plain`.
        """
        units, width, plain = self.units, self.unit_block, self.plain
        shift = tir.name(part * units)
        for accumulator, bias in enumerate(self.lines.biases(weights, block, part)):
            tir.store_vector(target, shift + accumulator * width, tir.name(bias), units)
        for index, section in enumerate(self.phase.sections):
            at = tir.name(shift + plain.section_offset(index))
            if self.storage is Storage.I4:
                self._restore_nibbles(weights, block, shift, section, target, at)
            else:
                self._restore_rows(weights, block, part, shift, section, target, at)

    def _restore_rows(
        self,
        weights: Buffer,
        block: Expr,
        part: Expr,
        shift: Expr,
        section: Section,
        target: Buffer,
        at: Expr,
    ) -> None:
        units, gates, width = self.units, len(section.gates), self.unit_block
        size = 2 if self.storage is Storage.F16 else 1
        source = tir.flat(weights.data, self._element)
        start = tir.name(block * (WORD // size) + (self.lines.first_byte(section) // size) + shift)
        scales = None
        if self.storage is not Storage.F16:
            scales = [tir.name(scale) for scale in self.lines.scales(weights, block, part, section)]
        with tir.loop(section.extent) as k:
            for gate in range(gates):
                line = k * (gates * width) + gate * width
                value = self._restored(tir.load_vector(source, start + line, units))
                if scales is not None:
                    value = value * scales[gate]
                tir.store_vector(target, at + line, tir.name(value), units)

    def _restore_nibbles(
        self,
        weights: Buffer,
        block: Expr,
        shift: Expr,
        section: Section,
        target: Buffer,
        at: Expr,
    ) -> None:
        units, gates, width = self.units, len(section.gates), self.unit_block
        code, size = self.lines.code(section), self._scale_bytes(section)
        pairs = tir.flat(weights.data, "uint8")
        codes = tir.flat(weights.data, "int16" if code is None else "uint8")
        start = block * WORD + self.lines.first_byte(section)

        def restore_group(group: Expr, first: Expr, count: int) -> None:
            scale_at = tir.name(tirx.truncdiv(group, size) + shift)
            scales = []
            for gate in range(gates):
                bits = tir.load_vector(codes, scale_at + gate * width, units)
                scale = self._half(bits) if code is None else decoded(bits, code, units)
                scales.append(tir.name(scale))

            def restore_pair(k: Expr, halves: int) -> None:
                for gate in range(gates):
                    offset = group + size * gates * width + shift + (k * gates + gate) * width
                    wide = tirx.Cast(f"int32x{units}", tir.load_vector(pairs, offset, units))
                    both = tir.name(wide)
                    for half in range(halves):
                        row = first + (2 * k + half)
                        value = self._nibble(both, half) * scales[gate]
                        line = at + (row * gates + gate) * width
                        tir.store_vector(target, line, tir.name(value), units)

            if count // 2:
                with tir.loop(count // 2) as k:
                    restore_pair(k, 2)
            if count % 2:
                restore_pair(tir.integer(count // 2), 1)

        whole, rest = divmod(section.extent, GROUP)
        group_bytes = (size + GROUP // 2) * gates * width
        if whole:
            with tir.loop(whole) as group:
                restore_group(tir.name(start + group * group_bytes), tir.name(group * GROUP), GROUP)
        if rest:
            at_rest = tir.name(start + whole * group_bytes)
            restore_group(at_rest, tir.integer(whole * GROUP), rest)
