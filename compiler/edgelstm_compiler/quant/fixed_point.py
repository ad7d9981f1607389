"""Multipliers and shifts of the integer layers, and the proof that nothing overflows.

A sum in fixed point is (rs(w x, x_shift) * x_multiplier + rs(r h, h_shift) * h_multiplier + bias)
>> sum_shift; this room finds the numbers that lose least, for the worst input of every row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgelstm.errors import CapabilityError
from edgelstm_compiler.ir.types import Array

INT16_LIMIT = 32767
INT32_LIMIT = (1 << 31) - 1
MAX_SHIFT = 24


@dataclass(frozen=True, slots=True)
class Product:
    """One integer product of a layer.

    Args:
        weights: int8 (..., rows, K).
        scale: what one step of each row's sum is worth (..., rows).
        largest: bound of the magnitude of an activation, in steps.
    """

    weights: Array
    scale: Array
    largest: int

    @property
    def bounds(self) -> Array:
        """Largest magnitude of each row's sum, in steps."""
        weights = np.abs(self.weights.astype(np.int64))
        return np.asarray(weights.sum(axis=-1) * self.largest)


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """The numbers of a layer.

    Args:
        shifts: for each product the shift of its sum.
        multipliers: for each product int16 (..., rows).
        bias: int32, with the rounding of the last shift.
        sum_shift: the last shift.
    """

    shifts: tuple[int, ...]
    multipliers: tuple[Array, ...]
    bias: Array
    sum_shift: int


def fix_layer(
    products: list[Product],
    factors: list[Array],
    bias: Array,
    bias_factor: Array,
    accumulators: list[Array],
    name: str,
) -> FixedPoint:
    """Shifts, multipliers and biases for the worst input.

    Args:
        products: of x, and of h where there is one.
        factors: for each product what 1.0 is in the row's result, in steps; as its scale.
        bias: real biases, flat by accumulator within a direction (..., A).
        bias_factor: the same for each accumulator (..., A).
        accumulators: for each product the accumulator of each row (rows,).
        name: of the layer, for messages.

    Raises:
        CapabilityError: more inputs than 32-bit sums can hold.
    """
    shifts = tuple(_sum_shift(product, name) for product in products)
    units = [
        product.scale.astype(np.float64) * factor * 2.0**shift
        for product, factor, shift in zip(products, factors, shifts, strict=True)
    ]
    fixed_bias = bias * bias_factor
    for last in range(MAX_SHIFT, 0, -1):
        multipliers = tuple(np.rint(unit * 2.0**last) for unit in units)
        if any(m.size and m.max() > INT16_LIMIT for m in multipliers):
            continue
        total = np.abs(np.rint(fixed_bias * 2.0**last)) + 2.0 ** (last - 1)
        for product, shift, multiplier, positions in zip(
            products, shifts, multipliers, accumulators, strict=True
        ):
            largest = _shifted(product.bounds, shift)
            rows = np.zeros_like(total)
            rows[..., positions] = largest * multiplier
            total = total + rows
        if total.max() <= INT32_LIMIT:
            whole = np.rint(fixed_bias * 2.0**last).astype(np.int64) + (1 << (last - 1))
            return FixedPoint(
                shifts,
                tuple(m.astype(np.int16) for m in multipliers),
                whole.astype(np.int32),
                last,
            )
    reach = max(float((product.bounds * product.scale).max(initial=0.0)) for product in products)
    raise CapabilityError(
        f"{name}: over the ranges of its inputs its sums reach {reach:.3g}, more than 32 bits hold "
        "beside what matters. A glitch in the recordings widens a range: repair it, or leave it "
        "out with --ranges percentile. Else leave the layer out of int8-full "
        "(--quantize LAYER=SCHEME), where the target computes in floating point"
    )


def _sum_shift(product: Product, name: str) -> int:
    """The smallest shift that brings every row's sum into int16."""
    bound = int(product.bounds.max(initial=0))
    if bound > INT32_LIMIT:
        raise CapabilityError(
            f"{name}: sums over {product.weights.shape[-1]} inputs do not fit into 32 bits; give "
            "it 8-bit inputs (input_bits=8), or use --quantize int8"
        )
    shift = 0
    while int(_shifted(np.array(bound), shift)) > INT16_LIMIT:
        shift += 1
    return shift


def _shifted(values: Array, shift: int) -> Array:
    """rs(values, shift) of non-negative bounds."""
    if shift == 0:
        return values
    return (values + (1 << (shift - 1))) >> shift


def rescale(value: float) -> tuple[int, int]:
    """(multiplier, shift) with multiplier / 2^shift = value, the multiplier below 2^14."""
    shift = 0
    while round(value * 2 ** (shift + 1)) < 1 << 14 and shift < 30:
        shift += 1
    return round(value * 2**shift), shift
