"""Walks the packed weights of a layer in order; the layout is in `ir/numerics.py`.

Packing and unpacking are one walk: it yields what stands where, and somebody gives or takes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np

from edgelstm_compiler.ir.kernels import Phase, Section
from edgelstm_compiler.ir.numerics import K_GROUP, LINE
from edgelstm_compiler.ir.ops.quantized import GROUP, Storage
from edgelstm_compiler.ir.types import Array


class Part(Enum):
    """What a piece of the packed weights is."""

    BIAS = auto()  # (accumulators, U)
    SCALE = auto()  # (gates, U): scales or multipliers of a section's rows
    PEEPHOLE = auto()  # (rows of P, U)
    WEIGHTS = auto()  # (k, gates, U): floats, or int8 one by one
    GROUP_SCALE = auto()  # (gates, U): scales of a group of int4
    GROUP_WEIGHTS = auto()  # (pairs, gates, U): int4 in pairs
    DOT_WEIGHTS = auto()  # (k / 4, gates, U, 4)
    TAIL = auto()  # (gates, U): what is left of k / 4, one or two bytes
    END = auto()  # zeros up to a full line


_ELEMENTS = {Storage.F32: np.float32, Storage.F16: np.float16, Storage.I8: np.int8}

WEIGHT_PARTS = (Part.WEIGHTS, Part.GROUP_WEIGHTS, Part.DOT_WEIGHTS)


@dataclass(frozen=True, slots=True)
class Piece:
    """One contiguous array.

    Args:
        part: what it is.
        phase: whose block it belongs to.
        units: the units of the block; those beyond the layer's are padding.
        section: whose weights or scales.
        columns: first and last + 1 of the inputs, of a group.
    """

    part: Part
    phase: Phase
    units: slice
    section: Section | None = None
    columns: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Form:
    """How one family of kernels packs.

    Args:
        storage: of weights that are not for dot products of bytes; None: DOT_WEIGHTS.
        bias, scale, peephole: element types; scale None: there are no scales by row.
        peepholes: rows of P.
        unit_block: U.
        offsets: added to DOT_WEIGHTS of consecutive inputs in turn.
        group: consecutive inputs of DOT_WEIGHTS that stand together.
        line: bytes that END pads to.
    """

    storage: Storage | None
    bias: np.dtype[np.generic]
    scale: np.dtype[np.generic] | None
    peephole: np.dtype[np.generic]
    peepholes: int
    unit_block: int
    offsets: tuple[int, ...] = (0,)
    group: int = K_GROUP
    line: int = LINE

    def pieces(self, phases: Sequence[Phase], units: int) -> Iterator[Piece]:
        """All pieces of one direction in order."""
        for phase in phases:
            for first in range(0, units, self.unit_block):
                yield from self._block(phase, slice(first, first + self.unit_block))

    def padding(self, piece: Piece, at: int) -> int:
        """Bytes of an END that stands at byte `at` of a direction."""
        del piece
        return -at % self.line

    def stored(self, piece: Piece, data: Array) -> Array:
        """What is beside the weights, as it is packed."""
        del piece
        return data

    def restored(self, piece: Piece, data: Array) -> Array:
        """The inverse of `stored`."""
        del piece
        return data

    def _block(self, phase: Phase, units: slice) -> Iterator[Piece]:
        yield Piece(Part.BIAS, phase, units)
        if self.scale is not None:
            for section in phase.sections:
                yield Piece(Part.SCALE, phase, units, section)
        if self.peepholes:
            yield Piece(Part.PEEPHOLE, phase, units)
        yield Piece(Part.END, phase, units)
        for section in phase.sections:
            extent = section.extent
            if self.storage is None:
                yield Piece(Part.DOT_WEIGHTS, phase, units, section, (0, extent))
            elif self.storage is not Storage.I4:
                yield Piece(Part.WEIGHTS, phase, units, section, (0, extent))
            else:
                for start in range(0, extent, GROUP):
                    columns = (start, min(start + GROUP, extent))
                    yield Piece(Part.GROUP_SCALE, phase, units, section, columns)
                    yield Piece(Part.GROUP_WEIGHTS, phase, units, section, columns)
            yield Piece(Part.END, phase, units, section)

    def type_of(self, piece: Piece) -> tuple[np.dtype[np.generic], tuple[int, ...]]:
        """Element type and shape of a piece."""
        block = self.unit_block
        count = piece.columns[1] - piece.columns[0]
        gates = len(piece.section.gates) if piece.section is not None else 0
        match piece.part:
            case Part.BIAS:
                return self.bias, (piece.phase.accumulators, block)
            case Part.SCALE:
                assert self.scale is not None
                return self.scale, (gates, block)
            case Part.TAIL:
                return np.dtype(np.uint8), (gates, block)
            case Part.PEEPHOLE:
                return self.peephole, (self.peepholes, block)
            case Part.GROUP_SCALE:
                return np.dtype(np.float16), (gates, block)
            case Part.GROUP_WEIGHTS:
                return np.dtype(np.uint8), (-(-count // 2), gates, block)
            case Part.DOT_WEIGHTS:
                return np.dtype(np.uint8), (-(-count // self.group), gates, block, self.group)
            case _:
                assert self.storage is not None
                return np.dtype(_ELEMENTS[self.storage]), (count, gates, block)


def pack(form: Form, phases: Sequence[Phase], units: int, give: Callable[[Piece], Array]) -> bytes:
    """One direction; `give` hands out each piece by units, unpadded.

    `give` returns (rows, units) for lines and (gates, units, columns) for weights (int4: -8..7).
    """
    out = bytearray()
    for piece in form.pieces(phases, units):
        if piece.part is Part.END:
            out += bytes(form.padding(piece, len(out)))
            continue
        dtype, shape = form.type_of(piece)
        data = form.stored(piece, _padded(give(piece), form.unit_block, axis=1))
        if piece.part in WEIGHT_PARTS:
            data = _weights_in(form, piece, data)
        assert data.shape == shape, (piece, data.shape, shape)
        out += np.ascontiguousarray(data, dtype.newbyteorder("<")).tobytes()
    return bytes(out)


def unpack(
    form: Form,
    phases: Sequence[Phase],
    units: int,
    packed: Array,
    take: Callable[[Piece, Array], None],
) -> int:
    """The inverse of `pack`: `take` gets each piece as `give` gave it; the bytes read."""
    at = 0
    for piece in form.pieces(phases, units):
        if piece.part is Part.END:
            at += form.padding(piece, at)
            continue
        dtype, shape = form.type_of(piece)
        size = dtype.itemsize * int(np.prod(shape))
        raw = np.frombuffer(packed[at : at + size].tobytes(), dtype.newbyteorder("<"))
        at += size
        data = raw.reshape(shape).astype(dtype)
        if piece.part in WEIGHT_PARTS:
            data = _weights_out(form, piece, data)
        live = min(piece.units.stop, units) - piece.units.start
        take(piece, form.restored(piece, data[:, :live]))
    return at


def _weights_in(form: Form, piece: Piece, data: Array) -> Array:
    """(gates, U, columns) as it stands in memory."""
    if piece.part is Part.WEIGHTS:
        return data.transpose(2, 0, 1)
    if piece.part is Part.GROUP_WEIGHTS:
        even = _padded(data, data.shape[2] + data.shape[2] % 2, axis=2).transpose(2, 0, 1)
        codes = (even + 8).astype(np.uint8)
        return codes[0::2] | (codes[1::2] << 4)
    group = form.group
    grouped = _padded(data, -(-data.shape[2] // group) * group, axis=2)
    gates, block, columns = grouped.shape
    lanes = grouped.reshape(gates, block, columns // group, group).transpose(2, 0, 1, 3)
    return ((lanes.astype(np.int16) + _offsets(form)) & 0xFF).astype(np.uint8)


def _weights_out(form: Form, piece: Piece, data: Array) -> Array:
    """The inverse of `_weights_in`."""
    count = piece.columns[1] - piece.columns[0]
    if piece.part is Part.WEIGHTS:
        return data.transpose(1, 2, 0)
    if piece.part is Part.GROUP_WEIGHTS:
        codes = np.stack([data & 15, data >> 4], axis=1).astype(np.int8) - np.int8(8)
        flat = codes.reshape(-1, *data.shape[1:])
        return flat[:count].transpose(1, 2, 0)
    lanes = ((data.astype(np.int16) - _offsets(form)) & 0xFF).astype(np.uint8).view(np.int8)
    rows = lanes.transpose(1, 2, 0, 3)
    return rows.reshape(*rows.shape[:2], -1)[..., :count]


def _offsets(form: Form) -> Array:
    return np.tile(np.array(form.offsets, np.int16), form.group // len(form.offsets))


def _padded(data: Array, extent: int, axis: int) -> Array:
    missing = extent - data.shape[axis]
    widths = [(0, missing if position == axis else 0) for position in range(data.ndim)]
    return np.pad(data, widths) if missing else data
