"""Packs the weights of layers, and unpacks them to the operators' own form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgelstm_compiler.ir.compact import LineCodes, bias_exponent, scale_code, scale_ratio
from edgelstm_compiler.ir.kernels import Phase, Section, Source
from edgelstm_compiler.ir.ops.quantized import GROUP, Storage
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.lowering.compact_layout import CompactForm
from edgelstm_compiler.lowering.layout import Form, Part, Piece, pack, unpack


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one matrix in all directions, by gate.

    Shapes:
        steps (D, G, H, K): int8, int4 as int8, float16 or float32. scale: by row (D, G, H), by
        group (D, G, H, ceil(K / 32)), or None.
    """

    steps: Array
    scale: Array | None


@dataclass(frozen=True, slots=True)
class LayerRows:
    """All that a layer packs.

    Shapes:
        bias (D, A, H) by accumulator of all phases in order, peepholes (D, rows, H) or None.
    """

    x: Rows
    h: Rows | None
    bias: Array
    peepholes: Array | None


def stored_codes(storage: Storage, rows: LayerRows) -> LineCodes:
    """The shortest codes that lose nothing, of stored weights."""
    bias = bias_exponent(rows.bias)
    if storage is Storage.F16:
        return LineCodes(bias)
    x, h = (
        None
        if part is None or part.scale is None
        else scale_code(part.scale, is_signed=storage is Storage.I4)
        for part in (rows.x, rows.h)
    )
    return LineCodes(bias, x, h)


def int8_codes(rows: LayerRows) -> LineCodes:
    """The shortest codes that lose nothing, of scheme int8."""
    codes = stored_codes(Storage.I8, rows)
    if rows.h is None or codes.h is None:
        return codes
    assert rows.x.scale is not None
    assert rows.h.scale is not None
    ratio = scale_ratio(rows.x.scale, rows.h.scale)
    return codes if ratio is None else replace(codes, x=None, ratio=ratio)


def pack_layer(form: Form, phases: Sequence[Phase], rows: LayerRows) -> Array:
    """All directions of a layer as u8."""
    count, units = rows.bias.shape[0], rows.bias.shape[2]
    parts = [pack(form, phases, units, _giver(phases, rows, d)) for d in range(count)]
    return np.frombuffer(b"".join(parts), np.uint8)


def unpack_layer(form: Form, phases: Sequence[Phase], rows: LayerRows, packed: Array) -> None:
    """Fill `rows` (arrays of the right shapes) from packed weights."""
    count, units = rows.bias.shape[0], rows.bias.shape[2]
    at = 0
    for d in range(count):
        at += unpack(form, phases, units, packed[at:], _taker(phases, rows, d))
    assert at == packed.size, (at, packed.size)
    ratio = form.codes.ratio if isinstance(form, CompactForm) else None
    if ratio is not None:
        assert rows.x.scale is not None
        assert rows.h is not None
        assert rows.h.scale is not None
        rows.x.scale[...] = np.ldexp(rows.h.scale, ratio)


def pack_inverse(inverse: Array) -> Array:
    """The reciprocal scales of x at the end of an Int8 layer."""
    return np.frombuffer(inverse.astype("<f4").tobytes(), np.uint8)


def unpack_inverse(packed: Array, features: int) -> tuple[Array, Array]:
    """The reciprocal scales, and what stands before them."""
    size = packed.size - 4 * features
    return np.frombuffer(packed[size:].tobytes(), "<f4").astype(np.float32), packed[:size]


def sum_biases(phases: Sequence[Phase], bias: Array) -> Array:
    """The bias of each accumulator of a float layer, all phases in order.

    Shapes:
        bias (D, 2, G, H) -> (D, A, H)
    """
    lines = []
    for phase in phases:
        for item in phase.biases:
            rows = [bias[:, 0, gate] for gate in item.input_gates]
            rows += [bias[:, 1, gate] for gate in item.recurrent_gates]
            lines.append(sum(rows, np.zeros_like(bias[:, 0, 0])))
    return np.stack(lines, axis=1)


def spread_biases(phases: Sequence[Phase], sums: Array, gates: int) -> Array:
    """Accumulator biases as (D, 2, G, H), each in the first row that it is the sum of."""
    directions, _, hidden = sums.shape
    bias = np.zeros((directions, 2, gates, hidden), sums.dtype)
    items = [item for phase in phases for item in phase.biases]
    for index, item in enumerate(items):
        target = (0, item.input_gates[0]) if item.input_gates else (1, item.recurrent_gates[0])
        bias[:, target[0], target[1]] = sums[:, index]
    return bias


def _giver(phases: Sequence[Phase], rows: LayerRows, d: int) -> Callable[[Piece], Array]:
    def give(piece: Piece) -> Array:
        if piece.part is Part.BIAS:
            return rows.bias[d, _accumulators(phases, piece.phase), piece.units]
        if piece.part is Part.PEEPHOLE:
            assert rows.peepholes is not None
            return rows.peepholes[d, :, piece.units]
        assert piece.section is not None
        matrix = _matrix(rows, piece.section)
        gates = list(piece.section.gates)
        if piece.part is Part.SCALE:
            assert matrix.scale is not None
            return matrix.scale[d, gates, piece.units]
        if piece.part is Part.GROUP_SCALE:
            assert matrix.scale is not None
            return matrix.scale[d, gates, piece.units, piece.columns[0] // GROUP]
        return matrix.steps[d, gates, piece.units, slice(*piece.columns)]

    return give


def _taker(phases: Sequence[Phase], rows: LayerRows, d: int) -> Callable[[Piece, Array], None]:
    def take(piece: Piece, data: Array) -> None:
        if piece.part is Part.BIAS:
            rows.bias[d, _accumulators(phases, piece.phase), piece.units] = data
            return
        if piece.part is Part.PEEPHOLE:
            assert rows.peepholes is not None
            rows.peepholes[d, :, piece.units] = data
            return
        assert piece.section is not None
        matrix = _matrix(rows, piece.section)
        gates = list(piece.section.gates)
        if piece.part is Part.SCALE:
            assert matrix.scale is not None
            matrix.scale[d, gates, piece.units] = data
        elif piece.part is Part.GROUP_SCALE:
            assert matrix.scale is not None
            matrix.scale[d, gates, piece.units, piece.columns[0] // GROUP] = data
        else:
            matrix.steps[d, gates, piece.units, slice(*piece.columns)] = data

    return take


def _matrix(rows: LayerRows, section: Section) -> Rows:
    matrix = rows.x if section.source is Source.X else rows.h
    assert matrix is not None
    return matrix


def _accumulators(phases: Sequence[Phase], phase: Phase) -> slice:
    first = 0
    for other in phases:
        if other is phase:
            return slice(first, first + phase.accumulators)
        first += other.accumulators
    raise ValueError("a phase of another layer")
