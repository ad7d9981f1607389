"""Compact blocks: packed and unpacked, aligned, with little padding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.cells import RNN
from edgelstm_compiler.ir.compact import LineCodes, ScaleCode
from edgelstm_compiler.ir.kernels import RecurrentKernel
from edgelstm_compiler.ir.numerics import LINE, SHORT_LINE, Int8, Stored
from edgelstm_compiler.ir.ops import Direction, Storage
from edgelstm_compiler.ir.ops.quantized import GROUP
from edgelstm_compiler.lowering.compact_layout import CompactForm, compact_form
from edgelstm_compiler.lowering.layer_rows import (
    LayerRows,
    Rows,
    int8_codes,
    pack_layer,
    stored_codes,
    unpack_layer,
)
from edgelstm_compiler.lowering.layout import Part
from tests.unit.lowering.layers import kernel_of, kernels

CODE = ScaleCode(-9)
SIGNED = ScaleCode(-9, is_signed=True)
STORAGES = st.sampled_from([None, Storage.F16, Storage.I8, Storage.I4])


def form_of(layer: RecurrentKernel, storage: Storage | None, codes: LineCodes) -> CompactForm:
    """How the layer is packed with stored weights, or in scheme int8."""
    int8 = Int8(DType.I16, 0, 128, codes)
    numerics = int8 if storage is None else Stored(storage, codes)
    return compact_form(replace(layer, numerics=numerics))


def rows_of(layer: RecurrentKernel, storage: Storage | None, *, is_coded: bool) -> LayerRows:
    """Numbers that have codes, or such that have none."""
    rng = np.random.default_rng(0)
    shape = (layer.op.direction.count, layer.op.gates, layer.op.hidden)
    accumulators = sum(phase.accumulators for phase in layer.phases)
    odd = 0.0 if is_coded else 1e-3

    def matrix(columns: int, ratio: int) -> Rows:
        if storage is Storage.F16:
            return Rows(rng.standard_normal((*shape, columns)).astype(np.float16), None)
        low, high = (-8, 8) if storage is Storage.I4 else (-127, 128)
        steps = rng.integers(low, high, (*shape, columns)).astype(np.int8)
        if storage is Storage.I4:
            scale = SIGNED.decode(rng.integers(0, 256, (*shape, -(-columns // GROUP))))
            return Rows(steps, (scale * (1 + odd)).astype(np.float16))
        codes = np.random.default_rng(1).integers(0, 256, shape)
        return Rows(steps, np.ldexp(CODE.decode(codes) * np.float32(1 + odd), ratio))

    bias = rng.integers(-30000, 30000, (shape[0], accumulators, shape[2])) / 4096 + odd / 3
    peepholes = rng.standard_normal((shape[0], 3, shape[2])).astype(np.float32)
    return LayerRows(
        matrix(layer.features, -3),
        matrix(layer.op.hidden, 0),
        bias.astype(np.float32),
        peepholes if layer.has_peepholes else None,
    )


def arrays(rows: LayerRows) -> list[Any]:
    """All arrays of a layer."""
    assert rows.h is not None
    found = [rows.x.steps, rows.x.scale, rows.h.steps, rows.h.scale, rows.bias, rows.peepholes]
    return [array for array in found if array is not None]


@given(kernels(), STORAGES, st.booleans())
def test_layers_come_back(layer: RecurrentKernel, storage: Storage | None, is_coded: bool) -> None:
    """Every number of every layer, in codes or in full."""
    rows = rows_of(layer, storage, is_coded=is_coded)
    codes = int8_codes(rows) if storage is None else stored_codes(storage, rows)
    assert (codes.bias is not None) == is_coded
    assert (storage is Storage.F16 or codes.h is not None) == (is_coded or storage is Storage.F16)
    if storage is None:
        assert codes.ratio == (-3 if is_coded else None)
    packed = pack_layer(form_of(layer, storage, codes), layer.phases, rows)
    found = rows_of(layer, storage, is_coded=is_coded)
    for array in arrays(found):
        array[...] = 0
    unpack_layer(form_of(layer, storage, codes), layer.phases, found, packed)
    for wanted, array in zip(arrays(rows), arrays(found), strict=True):
        np.testing.assert_array_equal(array, wanted)


@given(kernels(), STORAGES, st.booleans())
def test_elements_are_aligned(layer: RecurrentKernel, storage: Storage | None, coded: bool) -> None:
    """Every element of every block stands at a multiple of its size, lines of words of theirs."""
    codes = LineCodes(-12, SIGNED, SIGNED) if coded else LineCodes()
    form = form_of(layer, storage, codes)
    for phase in layer.phases:
        *places, (_, end, padding) = form.layout(phase)
        assert (end + padding) % SHORT_LINE == 0
        assert padding < LINE
        assert padding < SHORT_LINE or padding * LINE <= end
        for piece, at, _ in places:
            dtype, _ = form.type_of(piece)
            assert at % dtype.itemsize == 0, piece
            if piece.part is Part.DOT_WEIGHTS:
                assert at % (4 * layer.unit_block) == 0


@pytest.mark.parametrize(("extent", "tails"), [(4, []), (5, [1]), (6, [2]), (7, [2, 1]), (1, [1])])
def test_tail_takes_what_is_left(extent: int, tails: list[int]) -> None:
    """Bytes per row behind whole groups of four inputs."""
    layer = kernel_of(RNN, 4, extent, 4, Direction.FORWARD)
    form = form_of(layer, None, LineCodes())
    (phase,) = layer.phases
    section = phase.sections[0]
    found = [
        form.type_of(piece)[0].itemsize
        for piece, _, _ in form.layout(phase)
        if piece.part is Part.TAIL and piece.section is section
    ]
    assert found == tails
