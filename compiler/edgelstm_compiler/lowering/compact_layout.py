"""Blocks of packed weights whose sums become float32: weights first, then what is beside them.

Walked by `layout.py`; the layout is in `ir/numerics.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgelstm_compiler.ir.compact import LineCodes, ScaleCode, bias_steps
from edgelstm_compiler.ir.kernels import LayerKernel, Phase, RecurrentKernel, Section, Source
from edgelstm_compiler.ir.numerics import (
    K_GROUP,
    LINE,
    SHORT_LINE,
    Float32,
    Int8,
    Integer,
    Stored,
)
from edgelstm_compiler.ir.ops.quantized import GROUP, Storage
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.lowering.layout import WEIGHT_PARTS, Form, Part, Piece


@dataclass(frozen=True, slots=True)
class CompactForm(Form):
    """How layers are packed whose sums become float32.

    Args:
        codes: of what stands beside the weights.
    """

    codes: LineCodes = field(default_factory=LineCodes)

    def layout(self, phase: Phase) -> list[tuple[Piece, int, int]]:
        """The pieces of a phase's block: first byte and bytes of each; END is the last."""
        at, layout = 0, []
        for piece in self._block(phase, slice(0, self.unit_block)):
            size = self._size(piece)
            layout.append((piece, at, size))
            at += size
        return layout

    def block_bytes(self, phase: Phase) -> int:
        """Bytes of a phase's block."""
        _, at, size = self.layout(phase)[-1]
        return at + size

    def type_of(self, piece: Piece) -> tuple[np.dtype[np.generic], tuple[int, ...]]:
        """Element type and shape of a piece."""
        dtype, shape = Form.type_of(self, piece)
        if piece.part is Part.BIAS and self.codes.bias is not None:
            dtype = np.dtype(np.int16)
        if piece.part is Part.TAIL:
            dtype = np.dtype(np.uint16 if _count(piece) > 1 else np.uint8)
        if self._code(piece) is not None:
            dtype = np.dtype(np.uint8)
        return dtype, shape

    def padding(self, piece: Piece, at: int) -> int:
        """Bytes of an END: the same in every block."""
        del at
        return piece.columns[1]

    def stored(self, piece: Piece, data: Array) -> Array:
        """A piece as it is packed."""
        code = self._code(piece)
        if code is not None:
            return code.encode(data)
        if piece.part is Part.BIAS and self.codes.bias is not None:
            return bias_steps(data, self.codes.bias)
        if piece.part is Part.TAIL:
            raw = (data.astype(np.int16) + self.offsets[0]) & 0xFF
            shifts = 8 * np.arange(data.shape[-1])
            return np.asarray((raw << shifts).sum(axis=-1))
        return data

    def restored(self, piece: Piece, data: Array) -> Array:
        """The inverse of `stored`."""
        code = self._code(piece)
        if code is not None:
            return code.decode(data)
        if piece.part is Part.BIAS and self.codes.bias is not None:
            return np.ldexp(data.astype(np.float32), self.codes.bias)
        if piece.part is Part.TAIL:
            raw = data[..., None].astype(np.int64) >> (8 * np.arange(_count(piece)))
            return ((raw - self.offsets[0]) & 0xFF).astype(np.uint8).view(np.int8)
        return data

    def _block(self, phase: Phase, units: slice) -> Iterator[Piece]:
        pieces = [Piece(Part.BIAS, phase, units)]
        if self.peepholes:
            pieces.append(Piece(Part.PEEPHOLE, phase, units))
        if self.scale is not None:
            first = 0 if self.codes.ratio is None else len(phase.sections) - 1
            pieces += [Piece(Part.SCALE, phase, units, s) for s in phase.sections[first:]]
        for section in phase.sections:
            pieces += self._weights(phase, units, section)
        weights = [piece for piece in pieces if piece.part in _FIRST]
        # The widest elements first: then each stands where it is aligned.
        rest = [piece for piece in pieces if piece.part not in _FIRST]
        rest.sort(key=lambda piece: -self.type_of(piece)[0].itemsize)
        yield from weights
        yield from rest
        size = sum(map(self._size, pieces))
        yield Piece(Part.END, phase, units, columns=(0, _padding(size)))

    def _weights(self, phase: Phase, units: slice, section: Section) -> Iterator[Piece]:
        extent = section.extent
        if self.storage is None:
            whole = extent - extent % K_GROUP
            if whole:
                yield Piece(Part.DOT_WEIGHTS, phase, units, section, (0, whole))
            if extent % K_GROUP > 1:
                yield Piece(Part.TAIL, phase, units, section, (whole, whole + 2))
            if extent % 2:
                yield Piece(Part.TAIL, phase, units, section, (extent - 1, extent))
        elif self.storage is not Storage.I4:
            yield Piece(Part.WEIGHTS, phase, units, section, (0, extent))
        else:
            for start in range(0, extent, GROUP):
                columns = (start, min(start + GROUP, extent))
                yield Piece(Part.GROUP_SCALE, phase, units, section, columns)
                yield Piece(Part.GROUP_WEIGHTS, phase, units, section, columns)

    def _code(self, piece: Piece) -> ScaleCode | None:
        """The code of a piece of scales."""
        if piece.part not in (Part.SCALE, Part.GROUP_SCALE):
            return None
        assert piece.section is not None
        return self.codes.x if piece.section.source is Source.X else self.codes.h

    def _size(self, piece: Piece) -> int:
        if piece.part is Part.END:
            return piece.columns[1]
        dtype, shape = self.type_of(piece)
        return dtype.itemsize * math.prod(shape)


def form_of(kernel: LayerKernel) -> Form:
    """How the weights of a kernel are packed."""
    f32, i16 = np.dtype(np.float32), np.dtype(np.int16)
    rows = kernel.cell.peepholes if isinstance(kernel, RecurrentKernel) else 0
    match kernel.numerics:
        case Float32():
            return Form(Storage.F32, f32, None, f32, rows, kernel.unit_block, line=1)
        case Stored() | Int8():
            return compact_form(kernel)
        case Integer(packing=packing):
            return Form(
                None,
                np.dtype(np.int32),
                i16,
                i16,
                rows,
                packing.unit_block,
                packing.offsets,
                packing.group,
                packing.line,
            )
    raise AssertionError(kernel.numerics)


def compact_form(kernel: LayerKernel) -> CompactForm:
    """How the weights of a kernel are packed whose sums become float32."""
    numerics, f32 = kernel.numerics, np.dtype(np.float32)
    assert isinstance(numerics, (Stored, Int8))
    storage = numerics.storage if isinstance(numerics, Stored) else None
    return CompactForm(
        storage=storage,
        bias=f32,
        scale=f32 if storage in (None, Storage.I8) else None,
        peephole=f32,
        peepholes=kernel.cell.peepholes if isinstance(kernel, RecurrentKernel) else 0,
        unit_block=kernel.unit_block,
        offsets=(0 if isinstance(numerics, Stored) else numerics.weight_offset,),
        codes=numerics.codes,
    )


_FIRST = (*WEIGHT_PARTS, Part.GROUP_SCALE)


def byte_of(
    layout: Sequence[tuple[Piece, int, int]], part: Part, section: Section | None = None
) -> int | None:
    """The first byte of a part (of a section) in a block, or None."""
    for piece, at, _ in layout:
        if piece.part is part and (section is None or piece.section is section):
            return at
    return None


def _count(piece: Piece) -> int:
    return piece.columns[1] - piece.columns[0]


def _padding(size: int) -> int:
    """To whole lines, or to short ones where that would be more than 1/64 of the block."""
    missing = -size % LINE
    return missing if LINE * missing <= size else -size % SHORT_LINE
