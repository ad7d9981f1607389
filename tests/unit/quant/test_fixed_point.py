"""Multipliers and shifts: precise, and without overflow for the worst input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelstm.errors import CapabilityError
from edgelstm_compiler.quant.fixed_point import Product, fix_layer

LIMIT = 2**31 - 1


def _products(seed: int, columns: int, spread: float) -> list[Product]:
    rng = np.random.default_rng(seed)
    w = rng.integers(-127, 128, (8, columns)).astype(np.int8)
    r = rng.integers(-127, 128, (8, 16)).astype(np.int8)
    scales = np.exp(rng.uniform(-spread, spread, (2, 8))) * 1e-4
    return [Product(w, scales[0] / 100, 32768), Product(r, scales[1], 128)]


@given(st.integers(0, 10_000), st.integers(1, 500), st.floats(0, 3))
def test_no_overflow_for_the_worst_input(seed: int, columns: int, spread: float) -> None:
    """With every activation at its limit and the sign of its weight all sums stay within int32."""
    products = _products(seed, columns, spread)
    bias = np.random.default_rng(seed).normal(0, 5, 8)
    factor = np.full(8, 4096.0)
    fixed = fix_layer(products, [factor] * 2, bias, factor, [np.arange(8)] * 2, "layer")
    total = np.abs(fixed.bias.astype(object))
    for product, shift, multiplier in zip(products, fixed.shifts, fixed.multipliers, strict=True):
        sums = [int(v) for v in product.bounds]
        assert max(sums) <= LIMIT
        shifted = [(v + ((1 << shift) >> 1)) >> shift for v in sums]
        assert max(shifted) <= 32767
        total = total + np.array(shifted, object) * multiplier.astype(object)
    assert max(total) <= LIMIT


def test_sums_are_what_they_stand_for() -> None:
    """The fixed-point sum of a usual layer is within 2 steps of Q3.12 of the real one."""
    rng = np.random.default_rng(0)
    products, bias = _products(0, 9, 0.5), rng.normal(0, 1, 8)
    factor = np.full(8, 4096.0)
    fixed = fix_layer(products, [factor] * 2, bias, factor, [np.arange(8)] * 2, "layer")
    real, total = bias.copy(), fixed.bias.astype(np.int64)
    for product, shift, multiplier in zip(products, fixed.shifts, fixed.multipliers, strict=True):
        q = rng.integers(-product.largest, product.largest, product.weights.shape[-1])
        sums = product.weights.astype(np.int64) @ q
        real += sums * product.scale
        total += ((sums + ((1 << shift) >> 1)) >> shift) * multiplier
    assert np.abs((total >> fixed.sum_shift) - real * 4096).max() <= 2.0


def test_too_many_wide_inputs_are_refused() -> None:
    """517 inputs of 16 bits at the largest weight do not fit into 32 bits: said by name."""
    product = Product(np.full((1, 517), 127, np.int8), np.ones(1), 32768)
    factor = np.ones(1)
    with pytest.raises(CapabilityError, match=r"layer_7: sums over 517 inputs"):
        fix_layer([product], [factor], np.zeros(1), factor, [np.arange(1)], "layer_7")
