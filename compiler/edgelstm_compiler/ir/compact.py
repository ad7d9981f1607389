"""Numbers that stand beside weights, in few bits: scales as 8-bit floats, biases in fixed point.

A quantizer rounds to these numbers before it computes the steps of its weights; packing then
stores them without loss. Numbers that are none of these are packed in full.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgelstm_compiler.ir.types import Array

MANTISSA = 4
"""Bits of a scale's mantissa."""

_SMALLEST_EXPONENT = -126
BIAS_LIMIT = 32767


@dataclass(frozen=True, slots=True)
class ScaleCode:
    """8-bit floats: four bits of mantissa, and four of exponent or three and a sign.

    The code e m stands for 2^(exponent + e) * (1 + m / 16).

    Args:
        exponent: of code 0.
        is_signed: the highest bit is the sign.
    """

    exponent: int
    is_signed: bool = False

    @property
    def exponents(self) -> int:
        """Powers of two that the code reaches over."""
        return 8 if self.is_signed else 16

    def encode(self, scales: Array) -> Array:
        """The codes of scales that have one, as u8; those of zero are 0."""
        size = np.abs(scales.astype(np.float64))
        fraction, exponent = np.frexp(np.where(size > 0, size, 2.0**self.exponent))
        codes = (exponent - 1 - self.exponent) << MANTISSA
        codes += np.rint((2 * fraction - 1) * (1 << MANTISSA)).astype(np.int64)
        if self.is_signed:
            codes += np.where(scales < 0, 128, 0)
        return codes.astype(np.uint8)

    def decode(self, codes: Array) -> Array:
        """The scales of codes, as float32."""
        sign = np.where(codes >= 128, -1.0, 1.0) if self.is_signed else 1.0
        size = codes.astype(np.int64) & (127 if self.is_signed else 255)
        steps = 1 << MANTISSA
        power = np.exp2((size >> MANTISSA) + float(self.exponent))
        scales = sign * power * (1 + (size & (steps - 1)) / steps)
        return np.asarray(scales, np.float32)


@dataclass(frozen=True, slots=True)
class LineCodes:
    """How a layer packs what stands beside its weights; None each: in full.

    Args:
        bias: biases are int16 times 2^bias.
        x, h: of the scales of the input's and of the hidden state's rows.
        ratio: a row's scale for x is that for h times 2^ratio: only h's are packed.
    """

    bias: int | None = None
    x: ScaleCode | None = None
    h: ScaleCode | None = None
    ratio: int | None = None


def scale_code(scales: Array, *, is_signed: bool = False) -> ScaleCode | None:
    """The code that has all the scales, or None."""
    code = _fitting(scales, is_signed=is_signed)
    found = code.decode(code.encode(scales))
    return code if np.array_equal(found, scales.astype(np.float32)) else None


def coded_scales(scales: Array, *, is_signed: bool = False, up: bool = False) -> Array:
    """The nearest scales of one code for all, or the next larger ones; as float64.

    Scales that are too small for the code become its smallest.
    """
    steps = 1 << MANTISSA
    size = np.abs(scales.astype(np.float64))
    fraction, exponent = np.frexp(np.where(size > 0, size, 1.0))
    rounded = (np.ceil if up else np.rint)(2 * fraction * steps - 1e-9) / steps
    rounded = np.where(size > 0, np.ldexp(rounded, exponent - 1), 0.0)
    smallest = 2.0 ** _fitting(rounded, is_signed=is_signed).exponent
    return np.asarray(np.where(scales < 0, -1.0, 1.0) * np.maximum(rounded, smallest))


def bias_exponent(biases: Array) -> int | None:
    """The e for which all biases are int16 times 2^e, or None."""
    exponent = _bias_exponent(biases)
    steps = np.ldexp(biases.astype(np.float64), -exponent)
    return exponent if np.array_equal(steps, np.rint(steps)) else None


def coded_biases(biases: Array, step: float) -> Array:
    """The nearest int16 times a power of two; unchanged where those lie further apart than `step`.

    As float64.
    """
    exponent = _bias_exponent(biases)
    wide = biases.astype(np.float64)
    if 2.0**exponent > step:
        return wide.astype(np.float32).astype(np.float64)
    return np.asarray(np.ldexp(np.rint(np.ldexp(wide, -exponent)), exponent))


def scale_ratio(x: Array, h: Array) -> int | None:
    """The e for which all x are h times 2^e, or None."""
    if x.size != h.size or not h.all():
        return None
    ratio = int(np.frexp(float(x.flat[0] / h.flat[0]))[1]) - 1
    return ratio if np.array_equal(np.ldexp(h, ratio), x) else None


def packed_scales(scales: Array, *, is_signed: bool = False) -> Array:
    """As they are packed: codes, or unchanged."""
    code = scale_code(scales, is_signed=is_signed)
    return scales if code is None else code.encode(scales)


def packed_biases(biases: Array) -> Array:
    """As they are packed: int16, or unchanged."""
    exponent = bias_exponent(biases)
    return biases if exponent is None else bias_steps(biases, exponent)


def bias_steps(biases: Array, exponent: int) -> Array:
    """Biases that are whole multiples of 2^exponent, as int16."""
    return np.ldexp(biases.astype(np.float64), -exponent).astype(np.int16)


def _fitting(scales: Array, *, is_signed: bool) -> ScaleCode:
    largest = float(np.abs(scales).max(initial=0.0)) or 1.0
    exponent = int(np.frexp(largest)[1]) - ScaleCode(0, is_signed).exponents
    return ScaleCode(max(exponent, _SMALLEST_EXPONENT), is_signed)


def _bias_exponent(biases: Array) -> int:
    largest = float(np.abs(biases).max(initial=0.0))
    exponent = int(np.frexp(largest)[1]) - 15
    if np.rint(np.ldexp(largest, -exponent)) > BIAS_LIMIT:
        exponent += 1
    return max(exponent, _SMALLEST_EXPONENT)
